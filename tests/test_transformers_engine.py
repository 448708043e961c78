"""A row's tokens depend on weights, prompt and sampling; each row is freed as it ends."""

import asyncio
import pickle
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tokenizers
import torch
from distilabel.errors import DistilabelUserError
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from magpie_steps.engines.base import Completion, PromptTooLongError, Sampling
from magpie_steps.engines.drawing import DrawSettings, draw, uniforms
from magpie_steps.engines.kv_cache import chunks_of
from magpie_steps.engines.runner import measured_runner
from magpie_steps.engines.transformers import TransformersEngine

pytestmark = pytest.mark.alone

VOCABULARY = 600  # above every tiny tokenizer's
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,  # far from uniform: greedy and sampled rows differ from each other
}
FAMILIES: dict[str, Any] = {
    "llama": (tiny_tokenizers.llama_style, LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "qwen": (
        tiny_tokenizers.qwen_style,
        Qwen2ForCausalLM,
        Qwen2Config(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    ),
    "mistral": (
        tiny_tokenizers.mistral_style,
        MistralForCausalLM,
        MistralConfig(**SHAPE, num_key_value_heads=1, sliding_window=None),
    ),
}


def save(model: PreTrainedModel, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (tokenizer, model, config) in FAMILIES.items():
        torch.manual_seed(0)
        made[name] = save(model(config), tokenizer(), tmp_path_factory.mktemp(name))
    return made


@pytest.fixture(scope="module")
def llama(folders: dict[str, Path]) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(model=str(folders["llama"]))
    engine.load()
    yield engine
    engine.unload()


def complete(
    engine: TransformersEngine, requests: Sequence[tuple[Sequence[int], Sampling]]
) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        return list(await asyncio.gather(*(engine.complete(*request) for request in requests)))

    return asyncio.run(all_of_them())


def one_by_one(
    engine: TransformersEngine, requests: Sequence[tuple[Sequence[int], Sampling]]
) -> list[Completion]:
    return [complete(engine, [request])[0] for request in requests]


def mixed_requests(count: int) -> list[tuple[list[int], Sampling]]:
    """Prompts of all lengths, some with a common beginning; every kind of sampling."""
    chance = random.Random(5)
    common = [chance.randrange(10, VOCABULARY) for _ in range(150)]
    requests = []
    for number in range(count):
        prompt = [chance.randrange(10, VOCABULARY) for _ in range(chance.randint(1, 90))]
        if number % 3 == 0:
            prompt = common[: chance.randint(1, 150)] + prompt[:3]
        sampling = Sampling(
            max_new_tokens=chance.randint(1, 40),
            temperature=0.0 if number % 4 == 0 else chance.choice([0.7, 1.0, 1.3]),
            top_p=0.9 if number % 5 == 0 else 1.0,
            top_k=20 if number % 7 == 0 else 0,
            min_p=0.05 if number % 6 == 0 else 0.0,
            seed=number,
        )
        requests.append((prompt, sampling))
    return requests


def tokens_of(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


# --- a row does not depend on its neighbours ------------------------------------------------------


def test_tokens_are_the_same_alone_among_others_and_in_reversed_order(
    llama: TransformersEngine,
) -> None:
    requests = mixed_requests(100)  # more than there are slots
    together = tokens_of(complete(llama, requests))
    assert tokens_of(complete(llama, requests[::-1]))[::-1] == together
    assert tokens_of(one_by_one(llama, requests)) == together
    assert len(set(together)) > 90


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_do_not_depend_on_slots_or_on_what_ran_before(
    folders: dict[str, Path], name: str
) -> None:
    """Two fresh engines with other numbers of slots, one with prompts seen before."""
    requests = mixed_requests(40)
    results = []
    for slots in (1, 5, 64):
        engine = TransformersEngine(model=str(folders[name]), max_rows_in_flight=slots)
        engine.load()
        if slots == 5:
            complete(engine, [([*prompt, 17], sampling) for prompt, sampling in requests])
        results.append(tokens_of(complete(engine, requests)))
        engine.unload()
    assert results[0] == results[1] == results[2]


def test_logits_are_bitwise_equal_in_every_place_and_batch(folders: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders["llama"]).eval()
    runner, independent = measured_runner(model, max_rows=64, max_length=512)
    assert independent
    prompts = [prompt for prompt, _ in mixed_requests(64)]
    order = [*range(64)]
    seen: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for rows in (64, runner.batch_sizes[0], 64):
            random.Random(rows).shuffle(order)
            chosen = order[:rows]
            runner.reserve(rows, 512)
            runner.prefill([(slot, prompts[row][:-1]) for slot, row in enumerate(chosen)])
            positions = np.array([len(prompts[row]) - 1 for row in chosen])
            logits = runner.decode(
                np.array([prompts[row][-1] for row in chosen]), positions, positions.max() + 1
            )
            for row, got in zip(chosen, logits, strict=True):
                assert torch.equal(seen.setdefault(row, got.clone()), got)


# --- the right tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_are_those_of_generate(folders: dict[str, Path], name: str) -> None:
    engine = TransformersEngine(model=str(folders[name]))
    engine.load()
    model = AutoModelForCausalLM.from_pretrained(folders[name]).eval()
    chance = random.Random(1)
    prompts = [
        [chance.randrange(10, VOCABULARY) for _ in range(length)]
        for length in (1, 2, 15, 17, 32, 33, 34, 65, 129, 300)
    ]
    done = complete(engine, [(p, Sampling(max_new_tokens=20, temperature=0)) for p in prompts])
    engine.unload()
    for prompt, completion in zip(prompts, done, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=[*_stops(completion)] or None,
            pad_token_id=0,
        )
        assert list(completion.token_ids) == expected[0, len(prompt) :].tolist()


def _stops(completion: Completion) -> list[int]:
    return [completion.stop_reason] if isinstance(completion.stop_reason, int) else []


def test_sampled_tokens_follow_the_models_distribution(llama: TransformersEngine) -> None:
    """400 first tokens, chi-squared against the probabilities; false alarm below 1 in 10**6."""
    prompt = [20, 30, 40]
    done = complete(llama, [(prompt, Sampling(max_new_tokens=1, seed=s)) for s in range(400)])
    model = AutoModelForCausalLM.from_pretrained(llama.model).eval()
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].softmax(-1).numpy() * 400
    found = np.bincount([c.token_ids[0] for c in done], minlength=VOCABULARY)
    common = expected >= 5
    observed = [*found[common], found[~common].sum()]
    wanted = [*expected[common], expected[~common].sum()]
    assert len(wanted) > 10
    statistic = sum((o - w) ** 2 / w for o, w in zip(observed, wanted, strict=True))
    freedom = len(wanted) - 1
    assert statistic < freedom + 5.5 * (2 * freedom) ** 0.5 + 20


def test_half_precision_works(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(model=str(folders["llama"]), dtype="bfloat16")
    engine.load()
    assert engine.fingerprint.endswith("/bfloat16")
    requests = mixed_requests(20)
    assert tokens_of(complete(engine, requests)) == tokens_of(one_by_one(engine, requests))
    engine.unload()


# --- where a row ends ---------------------------------------------------------------------------


def test_a_row_ends_at_a_stop_token_a_stop_string_or_its_length(llama: TransformersEngine) -> None:
    prompt = list(range(20, 40))
    full = complete(llama, [(prompt, Sampling(max_new_tokens=30, seed=1))])[0]
    assert (full.finish_reason, full.stop_reason) == ("length", None)
    assert full.completion_tokens == len(full.token_ids) == 30
    assert full.prompt_tokens == 20

    stop = full.token_ids[12]
    first = full.token_ids.index(stop)
    by_token = Sampling(max_new_tokens=30, seed=1, stop_token_ids=(stop,))
    ended = complete(llama, [(prompt, by_token)])[0]
    assert (ended.finish_reason, ended.stop_reason) == ("stop", stop)
    assert ended.token_ids == full.token_ids[: first + 1]
    assert ended.text == llama._decode(full.token_ids[:first])

    text = full.text[10:16]
    by_string = Sampling(max_new_tokens=30, seed=1, stop_strings=("never", text, text[1:]))
    ended = complete(llama, [(prompt, by_string)])[0]
    assert (ended.finish_reason, ended.stop_reason) == ("stop", text)
    assert ended.text == full.text[: full.text.index(text)]
    assert ended.token_ids == full.token_ids[: len(ended.token_ids)]


def test_the_models_own_end_token_ends_a_row(folders: dict[str, Path], tmp_path: Path) -> None:
    """Generation config, configuration and tokenizer may each name one."""
    engine = TransformersEngine(model=str(folders["llama"]))
    engine.load()
    prompt = list(range(20, 40))
    full = complete(engine, [(prompt, Sampling(max_new_tokens=30, seed=1))])[0]
    engine.unload()
    ending = full.token_ids[9]

    model = AutoModelForCausalLM.from_pretrained(folders["llama"])
    model.generation_config.eos_token_id = [ending, 599]
    engine = TransformersEngine(
        model=str(save(model, tiny_tokenizers.llama_style(), tmp_path / "ending"))
    )
    engine.load()
    ended = complete(engine, [(prompt, Sampling(max_new_tokens=30, seed=1))])[0]
    engine.unload()
    assert ended.stop_reason == ending
    assert ended.token_ids == full.token_ids[: full.token_ids.index(ending) + 1]


def test_a_row_ends_where_the_context_ends(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(model=str(folders["llama"]), max_context_tokens=50)
    engine.load()
    assert engine.max_model_len == 50
    done = complete(engine, [([20] * 45, Sampling(seed=1, temperature=1.5))])[0]
    assert done.completion_tokens <= 5
    with pytest.raises(PromptTooLongError, match=r"has 50 tokens and the context of .* holds 50"):
        complete(engine, [([20] * 50, Sampling())])
    engine.unload()


# --- slots ----------------------------------------------------------------------------------------


def test_a_long_row_holds_up_nobody(folders: dict[str, Path]) -> None:
    """With two slots, one of them taken by a long row, all short rows pass through the other."""
    engine = TransformersEngine(model=str(folders["llama"]), max_rows_in_flight=2)
    engine.load()
    order: list[str] = []

    async def run(name: str, tokens: int) -> None:
        await engine.complete([20, 30], Sampling(max_new_tokens=tokens, temperature=0.0, seed=1))
        order.append(name)

    async def main() -> None:
        await asyncio.gather(run("long", 300), *(run("short", 5) for _ in range(12)))

    asyncio.run(main())
    engine.unload()
    assert order == ["short"] * 12 + ["long"]


def test_cancelling_a_row_frees_its_slot(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(model=str(folders["llama"]), max_rows_in_flight=1)
    engine.load()

    async def main() -> Completion:
        endless = asyncio.create_task(
            engine.complete([20, 30], Sampling(max_new_tokens=10**6, temperature=0.0))
        )
        waiting = asyncio.create_task(engine.complete([20], Sampling(max_new_tokens=3)))
        await asyncio.sleep(0.05)
        endless.cancel()
        return await asyncio.wait_for(waiting, 20)

    assert asyncio.run(main()).completion_tokens <= 3
    engine.unload()


def test_unload_ends_the_rows_in_flight_and_the_thread(folders: dict[str, Path]) -> None:
    others = {thread for thread in threading.enumerate() if thread.name == "magpie-steps-decode"}
    engine = TransformersEngine(model=str(folders["llama"]), max_rows_in_flight=1)
    engine.load()

    async def main() -> list[Any]:
        rows = [engine.complete([20 + i], Sampling(max_new_tokens=400)) for i in range(3)]
        running = asyncio.gather(*rows, return_exceptions=True)
        await asyncio.sleep(0.02)
        await asyncio.get_running_loop().run_in_executor(None, engine.unload)
        return await running

    outcomes = asyncio.run(main())
    assert any(isinstance(o, RuntimeError) and "unloaded" in str(o) for o in outcomes)
    assert others == {t for t in threading.enumerate() if t.name == "magpie-steps-decode"}
    engine.unload()
    with pytest.raises(RuntimeError, match=r"call load\(\) first"):
        complete(engine, [([20], Sampling())])


def test_an_error_inside_the_model_fails_its_rows_and_the_next_ones_work(
    folders: dict[str, Path],
) -> None:
    engine = TransformersEngine(model=str(folders["llama"]))
    engine.load()
    requests = mixed_requests(10)
    before = tokens_of(complete(engine, requests))
    runner = engine._loop._runner
    decode, runner.decode = runner.decode, lambda *_: 1 / 0
    with pytest.raises(RuntimeError, match="generation failed: division by zero"):
        complete(engine, requests)
    runner.decode = decode
    assert tokens_of(complete(engine, requests)) == before
    engine.unload()


def test_rows_from_several_event_loops_share_the_engine(llama: TransformersEngine) -> None:
    requests = mixed_requests(12)
    expected = tokens_of(complete(llama, requests))
    found: dict[int, list[tuple[int, ...]]] = {}

    def run(number: int) -> None:
        found[number] = tokens_of(complete(llama, requests))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(3), expected)


# --- several completions of one prompt ------------------------------------------------------------


def test_several_completions_share_one_prefill(folders: dict[str, Path]) -> None:
    """Positions are counted in every prefill pass, for each prompt that is computed in it."""
    engine = TransformersEngine(model=str(folders["llama"]))
    engine.load()
    runner, computed = engine._loop._runner, []
    prefill = runner._prefill_chunk

    def counting(slots: list[int], *rest: Any) -> None:
        computed.append(len(slots) * rest[-1])
        prefill(slots, *rest)

    runner._prefill_chunk = counting
    samplings = [Sampling(max_new_tokens=5, seed=seed) for seed in range(5)]
    first, second = ([*range(start, start + 150)] for start in (20, 200))
    alone = complete(engine, [(first, samplings[0])])
    for_one = sum(computed)
    computed.clear()
    several = asyncio.run(engine.complete_all(second, samplings))
    assert sum(computed) == for_one >= 149
    assert len(set(tokens_of(several))) == 5
    assert several == one_by_one(engine, [(second, sampling) for sampling in samplings])
    assert asyncio.run(engine.complete_all(first, samplings[:1])) == alone
    engine.unload()


# --- as a component -----------------------------------------------------------------------------


def test_the_template_and_generate_work(llama: TransformersEngine) -> None:
    prompt = llama.template.pre_query_ids()
    assert prompt.ids[0] == tiny_tokenizers.llama_style().bos_token_id
    outputs = llama.generate(inputs=["Hello!"], num_generations=2, max_new_tokens=6)
    assert len(outputs[0]["generations"]) == 2
    assert max(outputs[0]["statistics"]["output_tokens"]) <= 6


def test_it_is_pickled_before_load_and_survives_yaml(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    engine = TransformersEngine(model=str(folders["llama"]), max_rows_in_flight=3)
    engine.save(tmp_path / "engine.yaml", format="yaml")
    assert TransformersEngine.from_yaml(tmp_path / "engine.yaml").dump() == engine.dump()
    copy = pickle.loads(pickle.dumps(engine))
    copy.load()
    complete(copy, [([20], Sampling(max_new_tokens=2))])
    copy.unload()
    assert copy.dump() == engine.dump()


def test_the_fingerprint_follows_the_content_not_the_place(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def fingerprint(folder: Path, **options: Any) -> str:
        engine = TransformersEngine(model=str(folder), **options)
        engine.load()
        engine.unload()
        return engine.fingerprint

    moved = tmp_path / folders["llama"].name
    shutil.copytree(folders["llama"], moved)
    original = fingerprint(folders["llama"])
    assert fingerprint(moved) == original
    assert fingerprint(moved, dtype="bfloat16") != original
    model = AutoModelForCausalLM.from_pretrained(moved)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    model.save_pretrained(moved)
    assert fingerprint(moved) != original


def test_threads_are_given_back(folders: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    engine = TransformersEngine(model=str(folders["llama"]), threads=1)
    engine.load()
    assert torch.get_num_threads() == 1
    engine.unload()
    assert torch.get_num_threads() == before


# --- clear errors -------------------------------------------------------------------------------


def load_error(model: str | Path, **options: Any) -> str:
    engine = TransformersEngine(model=str(model), **options)
    with pytest.raises(DistilabelUserError) as caught:
        engine.load()
    engine.unload()
    return str(caught.value)


@pytest.mark.parametrize("model", ["./no/such/model", "/no/such/model", "~/no-such-model", "a/b/c"])
def test_a_path_that_is_not_there_is_told_without_asking_the_hub(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    assert f"there is no model folder '{model}'" in load_error(model)


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = load_error("nobody/no-such-model-of-ours")
    assert "is no folder here and could not be fetched from the hub" in message


def test_a_folder_without_its_parts_says_what_is_missing(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    assert "holds no model: it has no config.json" in load_error(tmp_path)
    for missing, message in (
        ("model*", "has no weights"),
        ("tokenizer*", "has no tokenizer; save one"),
    ):
        folder = tmp_path / message
        shutil.copytree(folders["llama"], folder, ignore=shutil.ignore_patterns(missing))
        assert message in load_error(folder)


def test_damaged_weights_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["llama"], tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in load_error(tmp_path / "m")


def test_a_reward_model_is_not_taken_for_a_language_model(tmp_path: Path) -> None:
    """Transformers would give it a random head and only warn."""
    model = LlamaForSequenceClassification(LlamaConfig(**SHAPE, num_labels=1, pad_token_id=0))
    save(model, tiny_tokenizers.llama_style(), tmp_path)
    message = load_error(tmp_path)
    assert "not a complete causal language model: its weights lack lm_head.weight" in message
    assert "LlamaForSequenceClassification" in message


def test_a_model_without_chat_template_serves_raw_prompts_only(tmp_path: Path) -> None:
    """Base models have none, and are continued by raw prompts."""
    tokenizer = pickle.loads(pickle.dumps(tiny_tokenizers.llama_style()))
    tokenizer.chat_template = None
    save(LlamaForCausalLM(LlamaConfig(**SHAPE)), tokenizer, tmp_path)
    engine = TransformersEngine(model=str(tmp_path))
    engine.load()
    prompt = engine.encode("Hello! What is")
    assert prompt == (0, *tokenizer.encode("Hello! What is", add_special_tokens=False))
    assert complete(engine, [(prompt, Sampling(max_new_tokens=3))])[0].token_ids
    assert {"<|begin_of_text|>", "<|eot_id|>"} <= engine.special_tokens
    with pytest.raises(DistilabelUserError, match=r"no chat template.*chat_template="):
        _ = engine.template
    engine.unload()
    engine = TransformersEngine(model=str(tmp_path), chat_template=tiny_tokenizers.LLAMA_TEMPLATE)
    engine.load()
    assert engine.template.pre_query_ids().ids
    engine.unload()


def test_a_recurrent_model_is_refused(tmp_path: Path) -> None:
    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=1, expand=1
    )
    save(MambaForCausalLM(config), tiny_tokenizers.llama_style(), tmp_path)
    assert (
        "(type mamba) has layers of the kind linear_attention; this engine works with models whose"
        in load_error(tmp_path)
    )


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    """Within its window a sliding layer sees everything; beyond it our cache would be wrong."""
    config = MistralConfig(**SHAPE, num_key_value_heads=4, sliding_window=40)
    save(MistralForCausalLM(config), tiny_tokenizers.mistral_style(), tmp_path)
    engine = TransformersEngine(model=str(tmp_path))
    engine.load()
    assert engine.max_model_len == 40
    engine.unload()
    assert "attends to at most 40 tokens" in load_error(tmp_path, max_context_tokens=100)


@pytest.mark.parametrize("wrong", [-1, VOCABULARY])
def test_an_id_outside_the_vocabulary_fails_its_own_row_only(
    llama: TransformersEngine, wrong: int
) -> None:
    async def main() -> list[Any]:
        good = llama.complete([20, 30], Sampling(max_new_tokens=3))
        bad = llama.complete([20, wrong], Sampling(max_new_tokens=3))
        return await asyncio.gather(good, bad, return_exceptions=True)

    good, bad = asyncio.run(main())
    assert isinstance(good, Completion)
    assert isinstance(bad, ValueError)
    assert f"token id {wrong}" in str(bad)


def test_not_loaded_says_so(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(model=str(folders["llama"]))
    for name in ("fingerprint", "template", "max_model_len", "special_tokens"):
        with pytest.raises(RuntimeError, match=r"not loaded; call load\(\) first"):
            getattr(engine, name)
    with pytest.raises(RuntimeError, match=r"not loaded; call load\(\) first"):
        engine.encode("Hello")


# --- drawing and cutting --------------------------------------------------------------------------


def settings_of(rows: int, **values: Any) -> DrawSettings:
    made = DrawSettings.greedy(rows)
    made.temperature[:] = 1.0
    made.seed[:] = np.arange(rows)
    for name, value in values.items():
        getattr(made, name)[:] = value
    return made


PROBABILITIES = torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03])


def shares(**values: Any) -> np.ndarray[Any, Any]:
    rows = 4_000
    tokens = draw(PROBABILITIES.log().expand(rows, -1), settings_of(rows, **values))
    return np.bincount(tokens, minlength=5) / rows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        ({"temperature": 0.0}, [1, 0, 0, 0, 0]),
        ({"temperature": 1e-6}, [1, 0, 0, 0, 0]),
        ({"top_k": 1}, [1, 0, 0, 0, 0]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_k": 99}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        ({"top_p": 1e-9}, [1, 0, 0, 0, 0]),
        ({"top_p": 0.6}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_p": 0.8}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0, 0]),
        ({"min_p": 0.2}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [2 / 3, 1 / 3, 0, 0, 0]),
    ],
)
def test_filters_keep_the_right_tokens(values: dict[str, Any], expected: list[float]) -> None:
    """4,000 draws: five standard deviations are at most 0.04, a false alarm below 1 in 10**5."""
    found = shares(**values)
    assert all((share == 0) == (e == 0) for share, e in zip(found, expected, strict=True))
    assert np.abs(found - expected).max() < 0.04


def test_a_rows_draw_does_not_depend_on_the_other_rows_settings() -> None:
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    alone = settings_of(8)
    mixed = settings_of(8)
    mixed.top_p[1::2], mixed.top_k[2::4], mixed.temperature[3] = 0.5, 3, 0
    assert (draw(logits, alone)[[0, 4]] == draw(logits, mixed)[[0, 4]]).all()


def test_logits_that_are_not_finite_are_flagged_for_their_row_only() -> None:
    logits = torch.zeros(3, 5)
    logits[1, 2] = float("nan")
    logits[2, 1:] = float("-inf")
    for temperature in (0.0, 1.0):
        tokens = draw(logits, settings_of(3, temperature=temperature))
        assert tokens[0] >= 0
        assert tokens[1] == -1
        assert tokens[2] == 0


def test_uniform_numbers_are_uniform_and_differ_by_seed_and_step() -> None:
    """10,000 numbers: the mean's five standard deviations are 0.0145."""
    seeds = np.arange(10_000, dtype=np.uint64)
    first = uniforms(seeds, np.zeros_like(seeds))
    second = uniforms(seeds, np.ones_like(seeds))
    steps = uniforms(np.zeros_like(seeds), seeds)
    for numbers in (first, second, steps):
        assert 0 <= numbers.min() <= numbers.max() < 1
        assert abs(numbers.mean() - 0.5) < 0.0145
        assert len(np.unique(numbers)) == 10_000
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    largest = np.array([2**63 - 1], np.uint64)
    assert 0 <= uniforms(largest, largest)[0] < 1


@given(st.lists(st.integers(0, 9), max_size=700), st.integers(0, 700))
def test_chunks_cover_a_prompt_and_are_shared_by_prompts_with_its_beginning(
    tokens: list[int], kept: int
) -> None:
    chunks = [*chunks_of(tokens)]
    assert [i for c in chunks for i in range(c.start, c.stop)] == [*range(len(tokens))]
    assert all(c.stop - c.start <= c.padded <= 256 for c in chunks)
    other = [*chunks_of(tokens[:kept] + [77] * 40)]
    for left, right in zip(chunks, other, strict=False):
        if left.stop <= kept and left.stop == right.stop:
            assert left == right
        elif left.stop > kept:
            assert left.key != right.key
