"""Which tokens may come: what `TransformersEngine` obeys, row by row, on a tiny random model."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_transformers_engine import (
    FAMILIES,
    VOCABULARY,
    complete,
    mixed_requests,
    one_by_one,
    save,
    tokens_of,
)
from transformers import AutoModelForCausalLM

from magpie_steps.decoding import MARKDOWN_OPENER
from magpie_steps.engines.base import (
    Completion,
    Engine,
    Sampling,
    Structure,
    UnsupportedSamplingError,
)
from magpie_steps.engines.runner import ModelRunner
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.steps.instruction import InstructionGenerator
from magpie_steps.templates import PreQueryTemplate

PROMPT = [*range(20, 40)]
EVERY = range(VOCABULARY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer, model, config = FAMILIES["llama"]
    torch.manual_seed(0)
    return save(model(config), tokenizer(), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    made = TransformersEngine(model=str(folder))
    made.load()
    yield made
    made.unload()


@pytest.fixture(scope="module")
def ranked(folder: Path) -> list[tuple[int, float]]:
    """Every token with its logit after `PROMPT`, the likeliest first."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1]
    return [(int(token), float(logits[token])) for token in logits.argsort(descending=True)]


def greedy(tokens: int = 8, **constraints: Any) -> Sampling:
    return Sampling(temperature=0.0, max_new_tokens=tokens, **constraints)


def write(engine: Engine, sampling: Sampling, prompt: Sequence[int] = PROMPT) -> Completion:
    return asyncio.run(engine.complete(prompt, sampling))


def first(engine: Engine, **constraints: Any) -> int:
    return write(engine, greedy(1, **constraints)).token_ids[0]


# Biases


def test_a_bias_is_added_to_its_tokens_logit(
    engine: TransformersEngine, ranked: list[tuple[int, float]]
) -> None:
    """A little less than what the second token lacks changes nothing, a little more does."""
    (best, high), (second, low), (third, lowest) = ranked[:3]
    assert first(engine) == best
    assert first(engine, logit_bias={second: high - low - 0.01}) == best
    assert first(engine, logit_bias={second: high - low + 0.01}) == second
    assert first(engine, logit_bias={best: low - high - 0.01}) == second
    both = {second: high - low + 0.01, third: high - lowest + 0.02}
    assert first(engine, logit_bias=both) == third


def test_a_bias_holds_for_every_token(engine: TransformersEngine) -> None:
    done = write(engine, greedy(logit_bias={77: 100.0}))
    assert done.token_ids == (77,) * 8
    plain = write(engine, greedy(20)).token_ids
    without = write(engine, greedy(20, logit_bias=dict.fromkeys(plain, -100.0))).token_ids
    assert not set(plain) & set(without)


# Allowed tokens


def test_only_allowed_tokens_come(
    engine: TransformersEngine, ranked: list[tuple[int, float]]
) -> None:
    allowed = [token for token, _ in ranked[100:110]]
    assert first(engine, allowed_token_ids=allowed) == allowed[0]
    assert set(write(engine, greedy(30, allowed_token_ids=allowed)).token_ids) <= set(allowed)
    hot = Sampling(temperature=2.0, max_new_tokens=30, allowed_token_ids=tuple(allowed))
    done = write(engine, hot)
    assert 1 < len(set(done.token_ids)) <= len(allowed)
    assert set(done.token_ids) <= set(allowed)


def test_allowing_all_is_the_same_as_allowing_any(engine: TransformersEngine) -> None:
    sampling = Sampling(max_new_tokens=20, seed=3)
    every = Sampling(max_new_tokens=20, seed=3, allowed_token_ids=tuple(EVERY))
    assert write(engine, every).token_ids == write(engine, sampling).token_ids


def test_a_bias_counts_among_the_allowed(engine: TransformersEngine) -> None:
    both = {"allowed_token_ids": (50, 60), "logit_bias": {60: 100.0, 70: 100.0}}
    assert write(engine, greedy(**both)).token_ids == (60,) * 8


# The first token


def test_a_banned_first_token_gives_way_to_the_next_likeliest(
    engine: TransformersEngine, ranked: list[tuple[int, float]]
) -> None:
    best = [token for token, _ in ranked[:4]]
    assert first(engine, first_token_not=best[:1]) == best[1]
    assert first(engine, first_token_not=best[:3]) == best[3]
    assert first(engine, first_token_not=best[1:]) == best[0]


def test_later_tokens_may_be_what_the_first_may_not(engine: TransformersEngine) -> None:
    """All tokens but one are banned from the first place; after it comes what comes after it."""
    others = tuple(token for token in EVERY if token != 77)
    done = write(engine, greedy(9, first_token_not=others))
    assert done.token_ids[0] == 77
    assert done.token_ids[1:] == write(engine, greedy(8), [*PROMPT, 77]).token_ids
    assert set(done.token_ids[1:]) & set(others)


def test_no_draw_gives_a_banned_first_token(
    engine: TransformersEngine, ranked: list[tuple[int, float]]
) -> None:
    """Half of the probability is banned: without the ban 50 draws pass once in 2**50 times."""
    share = np.exp([logit for _, logit in ranked])
    banned = tuple(token for token, _ in ranked[:25])
    assert share[:25].sum() / share.sum() > 0.5
    samplings = [Sampling(max_new_tokens=3, seed=s, first_token_not=banned) for s in range(50)]
    done = complete(engine, [(PROMPT, sampling) for sampling in samplings])
    assert not {each.token_ids[0] for each in done} & set(banned)


def test_tokens_are_found_by_their_whole_text(engine: TransformersEngine) -> None:
    found = engine.tokens_matching(MARKDOWN_OPENER)
    texts = {engine._decode([token]) for token in found}
    assert "#" in texts
    assert all(text.strip().strip("#*:") == "" for text in texts)
    vocabulary = [engine._decode([token]) for token in range(len(engine._tokenizer))]
    signs = [token for token, text in enumerate(vocabulary) if text.strip() and text[0] in "#"]
    assert {*signs} <= {*found}
    assert not any(text.strip() in ("*", "a", "", ":") for text in texts)
    assert [vocabulary[token] for token in engine.tokens_matching("[ab]")] == ["a", "b"]


# Rows beside each other


def constrained(requests: Sequence[tuple[list[int], Sampling]]) -> list[Sampling]:
    """Every kind of constraint in turn."""
    kinds: list[dict[str, Any]] = [
        {"logit_bias": dict.fromkeys(range(0, VOCABULARY, 2), -100.0)},
        {"allowed_token_ids": tuple(range(100, 130))},
        {"first_token_not": tuple(range(0, 500))},
        {"logit_bias": {5: 3.0}, "first_token_not": (5,), "allowed_token_ids": tuple(range(300))},
    ]
    changed = []
    for number, (_, sampling) in enumerate(requests):
        settings = {name: getattr(sampling, name) for name in ("temperature", "top_p", "seed")}
        changed.append(Sampling(max_new_tokens=20, **settings, **kinds[number % len(kinds)]))
    return changed


def test_a_constraint_is_its_own_rows_and_no_neighbours(engine: TransformersEngine) -> None:
    plain = mixed_requests(40)
    bound = [(prompt, s) for (prompt, _), s in zip(plain, constrained(plain), strict=True)]
    mixed = [request for pair in zip(plain, bound, strict=True) for request in pair]
    together = tokens_of(complete(engine, mixed))
    assert together[::2] == tokens_of(complete(engine, plain))
    assert together[1::2] == tokens_of(one_by_one(engine, bound))
    assert sum(a != b for a, b in zip(together[::2], together[1::2], strict=True)) > 30


def outcomes(engine: Engine, *samplings: Sampling) -> list[Any]:
    async def main() -> list[Any]:
        rows = (engine.complete(PROMPT, sampling) for sampling in samplings)
        return await asyncio.gather(*rows, return_exceptions=True)

    return asyncio.run(main())


@pytest.mark.parametrize("wrong", [-1, VOCABULARY])
@pytest.mark.parametrize("name", ["logit_bias", "allowed_token_ids", "first_token_not"])
def test_an_id_outside_the_vocabulary_fails_its_own_row_only(
    engine: TransformersEngine, name: str, wrong: int
) -> None:
    value: Any = {30: 1.0, wrong: 1.0} if name == "logit_bias" else (30, wrong)
    good, bad = outcomes(engine, greedy(), greedy(**{name: value}))
    assert good.token_ids == write(engine, greedy()).token_ids
    assert isinstance(bad, ValueError)
    assert f"the sampling holds the token id {wrong}, but the vocabulary" in str(bad)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("constraints", "named"),
    [
        ({"first_token_not": tuple(EVERY)}, "first_token_not"),
        (
            {"allowed_token_ids": (30, 31), "first_token_not": (30, 31)},
            "allowed_token_ids, first_token_not",
        ),
    ],
)
def test_a_row_that_may_say_nothing_fails_alone_and_says_why(
    engine: TransformersEngine, temperature: float, constraints: dict[str, Any], named: str
) -> None:
    """Its error blamed the weights: there was no finite logit left."""
    failed = engine.stats.failed
    bad = Sampling(temperature=temperature, max_new_tokens=8, **constraints)
    good, mute, other = outcomes(engine, greedy(), bad, greedy(logit_bias={77: 100.0}))
    assert good.token_ids == write(engine, greedy()).token_ids
    assert other.token_ids == (77,) * 8
    assert isinstance(mute, RuntimeError)
    assert f"no token may come: {named} of the sampling ban all" in str(mute)
    assert engine.stats.failed == failed + 1


# What is not obeyed


@pytest.mark.parametrize(
    ("constraints", "named"),
    [
        ({"bad_words": ("never",)}, "bad_words"),
        ({"structure": Structure("regex", "a+")}, "structure"),
        (
            {"bad_words": ("x",), "structure": Structure("json", "{}"), "first_token_not": (3,)},
            "bad_words, structure",
        ),
    ],
)
def test_what_an_engine_does_not_obey_it_refuses(
    engine: TransformersEngine, constraints: dict[str, Any], named: str
) -> None:
    """Left out without a word, a constraint would be missed by nobody until the rows are read."""
    good, bad = outcomes(engine, greedy(), greedy(**constraints))
    assert good.token_ids == write(engine, greedy()).token_ids
    assert isinstance(bad, UnsupportedSamplingError)
    assert f"TransformersEngine with {engine.model_name} cannot obey {named}; it obeys" in str(bad)
    assert "it obeys allowed_token_ids, first_token_not, logit_bias. Leave that out" in str(bad)


def test_an_engine_without_a_model_obeys_what_it_says() -> None:
    engine = ScriptedEngine()
    engine.load()
    question = write(engine, Sampling(seed=1), (0, 1)).text
    banned = engine.tokens_matching(f"[{question[0]}]")
    assert len(banned) == 1
    again = write(engine, Sampling(seed=1, first_token_not=banned), (0, 1))
    assert again.text == question.lstrip(question[0])
    (refused,) = outcomes(engine, Sampling(logit_bias={3: 1.0}))  # type: ignore[arg-type]
    assert isinstance(refused, UnsupportedSamplingError)
    assert "cannot obey logit_bias; it obeys first_token_not. Leave that out" in str(refused)
    engine.unload()


# Steps


@pytest.fixture(scope="module")
def lover(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, changed so that every user turn begins with a heading."""
    tokenizer = FAMILIES["llama"][0]()
    prompt = PreQueryTemplate.from_tokenizer(tokenizer).pre_query_ids().ids
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        state = model.model(torch.tensor([prompt])).last_hidden_state[0, -1]
        model.lm_head.weight[tokenizer.convert_tokens_to_ids("#")] = state * 100 / state.norm() ** 2
    return save(model, tokenizer, tmp_path_factory.mktemp("lover"))


@pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")
def test_a_model_that_loves_markdown_begins_no_user_turn_with_it(lover: Path) -> None:
    def raw_turn(**fields: Any) -> str:
        step = InstructionGenerator(
            name="step",
            llm=TransformersEngine(model=str(lover)),
            num_rows=1,
            instruction_sampling={"max_new_tokens": 6, "temperature": 0.0},
            max_attempts=1,
            **fields,
        )
        step.load()
        (((row,), _),) = step.process()
        step.unload()
        return str(row["instruction_raw"])

    assert raw_turn() == "######"
    banned = raw_turn(ban_markdown_start=True)
    assert not banned.startswith("#")


# What was computed before


def test_an_engine_says_how_much_of_a_prompt_it_knew(folder: Path) -> None:
    """All but the last token, which is fed to get the first new one."""
    engine = TransformersEngine(model=str(folder))
    engine.load()
    prompt = [*range(100, 250)]
    fresh, again = (write(engine, greedy(2), prompt) for _ in range(2))
    assert (fresh.prompt_tokens, fresh.cached_tokens) == (150, 0)
    assert (again.prompt_tokens, again.cached_tokens) == (150, 149)
    other = write(engine, greedy(2), [*prompt[:130], *range(300, 340)])
    assert other.cached_tokens == 128  # prompts are cut after 32, 64, 128, ... tokens
    assert write(engine, greedy(2), [*range(300, 400)]).cached_tokens == 0
    stats = engine.stats
    assert stats.prompt_tokens == 150 + 150 + 170 + 100
    assert stats.cached_tokens == 149 + 128
    assert stats.cached_share == pytest.approx(277 / 570)
    engine.unload()


def test_prompts_that_come_at_once_know_each_others_beginning(folder: Path) -> None:
    engine = TransformersEngine(model=str(folder))
    engine.load()
    prompt = [*range(100, 250)]
    samplings = [Sampling(max_new_tokens=4, seed=seed) for seed in range(5)]
    done = asyncio.run(engine.complete_all(prompt, samplings))
    assert sorted(each.cached_tokens for each in done) == [0, 149, 149, 149, 149]
    engine.unload()


def test_what_the_journal_replays_is_no_merit_of_the_cache(folder: Path, tmp_path: Path) -> None:
    engine = TransformersEngine(model=str(folder))
    engine.use_journal(tmp_path / "journal.sqlite")
    engine.load()
    first_time, second_time = (write(engine, greedy(2), [*range(100, 250)]) for _ in range(2))
    assert first_time == second_time
    assert first_time.cached_tokens == second_time.cached_tokens == 0
    assert (engine.stats.generated, engine.stats.replayed) == (1, 1)
    assert engine.stats.cached_tokens == 0
    engine.unload()


def test_completions_that_say_the_same_are_equal_whatever_they_cost() -> None:
    """A prompt that was known made another completion of the same tokens."""
    one = Completion("a", (1,), "length", None, 9, 1)
    assert one == Completion("a", (1,), "length", None, 9, 1, cached_tokens=8)
    assert one != Completion("a", (2,), "length", None, 9, 1)


# Places


def test_an_engine_has_as_many_places_as_rows_are_decoded_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows would change each other they go one by one, and it still spoke of 64 places."""
    engine = TransformersEngine(model=str(folder), max_rows_in_flight=5)
    assert engine.capacity == 5
    engine.load()
    assert engine.capacity == engine.stats.capacity == 5
    engine.unload()

    def no_batch_will_do(runner: ModelRunner) -> bool:
        runner.batch_sizes = (1,)
        return False

    monkeypatch.setattr(ModelRunner, "calibrate", no_batch_will_do)
    engine.load()
    assert engine.capacity == engine.stats.capacity == 1
    assert write(engine, greedy()).completion_tokens == 8
    engine.unload()
    assert engine.capacity == 5
