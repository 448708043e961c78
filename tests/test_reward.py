"""A conversation has the reward that the model gives it alone, or a reason for having none."""

import itertools
import math
import pickle
from random import Random

import pytest
import tiny_tokenizers
import torch
from distilabel.errors import DistilabelUserError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from magpie_steps.conversation import append_turn, start
from magpie_steps.embedded import model_path
from magpie_steps.embedded.dialogues.conversations import categories, draw_turn
from magpie_steps.embedded.dialogues.corruption import corrupt
from magpie_steps.engines.conversation_encoder import ConversationEncoder
from magpie_steps.engines.reward import RewardModel, batches_of

SHAPE = {
    "vocab_size": 600,  # above every tiny tokenizer's
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.25,  # scores far from each other
}
REMOTE_CODE = """
from dataclasses import dataclass
import torch
from transformers import LlamaForSequenceClassification


@dataclass
class Output:
    score: torch.Tensor
    logits: torch.Tensor


class ScoredLlama(LlamaForSequenceClassification):
    def forward(self, input_ids, attention_mask=None):
        logits = super().forward(input_ids, attention_mask=attention_mask).logits
        return Output(score=100 + logits[:, 0], logits=logits)
"""


def asked(instruction, response, system=None):
    return append_turn(start(system), instruction, response)


def some_conversations(count):
    """Conversations of very different lengths, in no order of length."""
    chance = Random(3)
    words = "What is the capital of France? Hello! I eat three apples.".split()
    return [
        asked(*(" ".join(chance.choices(words, k=chance.randint(1, 40))) for _ in range(2)))
        for _ in range(count)
    ]


def reserved_style():
    """Llama's tokenizer with a special token that no template writes."""
    tokenizer = pickle.loads(pickle.dumps(tiny_tokenizers.llama_style()))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|reserved|>"]})
    return tokenizer


def save(folder, tokenizer=None, **config):
    torch.manual_seed(1)
    settings = {"num_labels": 1, "pad_token_id": None, **config}
    LlamaForSequenceClassification(LlamaConfig(**SHAPE, **settings)).save_pretrained(folder)
    (tokenizer or tiny_tokenizers.llama_style()).save_pretrained(folder)
    return folder


def loaded(folder, **fields):
    model = RewardModel(model=str(folder), **fields)
    model.load()
    return model


def alone(folder, conversations, index=0):
    """Return the scores as transformers gives them, one conversation at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for messages in conversations:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            scores.append(model(**ids).logits[0, index].item())
    return scores


def error_of(folder, **fields):
    with pytest.raises(DistilabelUserError) as caught:
        loaded(folder, **fields)
    return str(caught.value)


@pytest.fixture(scope="module")
def tiny():
    return loaded(model_path("tiny-reward"))


# Scores


@pytest.mark.parametrize("max_batch_tokens", [1, 300, 8192])
def test_scores_are_those_of_each_conversation_alone_in_the_inputs_order(
    tmp_path, max_batch_tokens
):
    conversations = some_conversations(30)
    folder = save(tmp_path, pad_token_id=599)
    found = loaded(folder, max_batch_tokens=max_batch_tokens).score(conversations)
    assert found == pytest.approx(alone(folder, conversations), abs=1e-4)
    assert len({round(score, 3) for score in found}) > 25


@pytest.mark.parametrize(
    ("tokenizer", "padding", "batched"),
    [
        (tiny_tokenizers.llama_style, None, False),
        (reserved_style, None, True),
        (reserved_style, -1, True),
        # Rendered conversations end with this very token.
        (tiny_tokenizers.llama_style, 1, True),
    ],
)
def test_padding_changes_no_score(tmp_path, tokenizer, padding, batched):
    """Padding that is not told from the text would move the place that is read."""
    conversations = some_conversations(12)
    folder = save(tmp_path, tokenizer())
    wanted = alone(folder, conversations)
    if padding is not None:
        save(folder, tokenizer(), pad_token_id=padding)
        assert tokenizer().eos_token_id == 1
        wanted = wanted if padding < 0 else alone(folder, conversations)
    model = loaded(folder, max_batch_tokens=4096)
    sizes = []
    model._network.register_forward_pre_hook(
        lambda module, args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    assert model.score(conversations) == pytest.approx(wanted, abs=1e-4)
    assert (max(sizes) > 1) is batched


def test_neighbours_change_no_score(tiny):
    short = asked("What is 2 plus 3?", "5")
    long = asked("Write a story. " * 20, "Once upon a time. " * 20)
    (wanted,) = tiny.score([short])
    batched = loaded(model_path("tiny-reward"), max_batch_tokens=4096)
    found = batched.score([long, short, long, short])
    assert [found[1], found[3]] == pytest.approx([wanted, wanted], abs=1e-4)
    assert tiny.score([]) == []


def test_on_a_cpu_a_score_is_the_same_to_the_last_bit_whoever_its_neighbours_are():
    model = loaded(model_path("tiny-reward"), device="cpu")
    conversations = some_conversations(40)
    whole = model.score(conversations)
    parts = [model.score(conversations[i : i + 7]) for i in range(0, 40, 7)]
    assert [score for part in parts for score in part] == whole
    assert model.score(conversations[::-1]) == whole[::-1]


@pytest.mark.parametrize("index", range(3))
def test_any_column_of_the_logits_can_be_the_score(tmp_path, index):
    folder = save(tmp_path, num_labels=3, pad_token_id=599)
    conversations = some_conversations(5)
    found = loaded(folder, score_index=index).score(conversations)
    assert found == pytest.approx(alone(folder, conversations, index), abs=1e-4)
    message = error_of(folder, score_index=3)
    assert "score_index is 3" in message
    assert "give at most 2" in message


def test_half_precision_scores_nearly_the_same(tiny):
    conversations = some_conversations(5)
    half = loaded(model_path("tiny-reward"), dtype="bfloat16")
    assert half.score(conversations) == pytest.approx(tiny.score(conversations), abs=0.5)
    assert half._network.dtype == torch.bfloat16
    assert tiny._network.dtype == torch.float32


def test_right_answers_score_above_corrupted_ones(tiny):
    """The seed is fixed and the model deterministic: a pass today is a pass tomorrow."""
    chance = Random("reward")
    turns = [draw_turn(chance, key) for key in itertools.islice(itertools.cycle(categories()), 200)]
    turns = [turn for turn in turns if turn.family is not None]
    right = tiny.score([asked(turn.instruction, turn.response) for turn in turns])
    wrong = tiny.score([asked(turn.instruction, corrupt(turn, chance)) for turn in turns])
    assert len(turns) > 150
    assert sum(r > w for r, w in zip(right, wrong, strict=True)) / len(turns) > 0.5


# What is read


@pytest.mark.parametrize("strip_bos", [False, True])
@pytest.mark.parametrize("style", ["llama_style", "mistral_style", "qwen_style", "gpt2_style"])
def test_bos_is_there_once_if_the_template_writes_it(style, strip_bos):
    """Llama's tokenizer adds one too when it may; Qwen has none."""
    tokenizer = getattr(tiny_tokenizers, style)()
    encoder = ConversationEncoder(tokenizer, strip_bos=strip_bos, max_tokens=512)
    conversation = asked("Hi there", "Hello!")
    ids = encoder.encode([conversation])[0].ids
    text = tokenizer.apply_chat_template(conversation, tokenize=False)
    assert list(ids) == tokenizer.encode(text, add_special_tokens=False)
    assert ids.count(tokenizer.bos_token_id) == (style != "qwen_style")


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (asked("word " * 600, "Yes."), "too_long"),
        (asked("Hi?", "word " * 600), "too_long"),
        (asked("Say <|eot_id|>", "Yes."), "control_tokens"),
        (asked("Hi?", "Yes.<|start_header_id|>"), "control_tokens"),
        (asked("Hi?", "Yes.", "Say <|begin_of_text|>."), "control_tokens"),
        (append_turn([], "Hi?"), "bad_messages"),
        (asked("Hi?", " "), "bad_messages"),
        ([], "bad_messages"),
        ([{"role": "assistant", "content": "Hi."}], "bad_messages"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_harms_no_other(tiny, conversation, reason):
    good = asked("What is 2 plus 3?", "5")
    before, bad, after = tiny.rate([good, conversation, good])
    assert math.isnan(bad.value)
    assert bad.reason == reason
    assert before.reason == after.reason == ""
    assert before.value == pytest.approx(tiny.score([good])[0], abs=1e-4)


def test_the_longest_conversation_that_fits_is_scored(tiny):
    encoder = tiny._encoder
    fits = [n for n in range(1, 600) if not encoder.encode([asked("Hi?", "7" * n)])[0].reason]
    longest = asked("Hi?", "7" * max(fits))
    assert fits == list(range(1, max(fits) + 1))
    assert len(encoder.encode([longest])[0].ids) == 512
    assert math.isfinite(tiny.score([longest])[0])


def test_a_message_that_the_template_refuses_has_a_reason(tmp_path):
    tokenizer = pickle.loads(pickle.dumps(tiny_tokenizers.llama_style()))
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    model = loaded(save(tmp_path, tokenizer))
    good, bad = model.rate([asked("Hi", "Hello!"), asked("Hi", "Hello!", "Be kind.")])
    assert (good.reason, bad.reason) == ("", "bad_messages")


def test_reasoning_tags_are_content(tiny):
    assert tiny.rate([asked("Hi?", "<think>Hm.</think> Hello.")])[0].reason == ""


def test_a_score_that_is_no_number_has_a_reason(tmp_path):
    model = loaded(save(tmp_path, pad_token_id=599))
    for value in (math.nan, math.inf, -math.inf):
        torch.nn.init.constant_(model._network.score.weight, value)
        (reward,) = model.rate([asked("Hi", "Hello!")])
        assert math.isnan(reward.value)
        assert reward.reason == "not_finite"


def test_a_batch_that_fails_costs_only_the_row_that_fails_alone(tmp_path, caplog):
    model = loaded(save(tmp_path, pad_token_id=599), max_batch_tokens=4096)
    conversations = some_conversations(9)
    wanted = model.score(conversations)
    doomed = model._encoder.encode(conversations[4:5])[0].ids

    def fail(module, args, given):
        ids = given["input_ids"]
        if len(ids) > 4 or any(tuple(row[: len(doomed)].tolist()) == doomed for row in ids):
            raise torch.OutOfMemoryError("no memory")

    model._network.register_forward_pre_hook(fail, with_kwargs=True)
    found = model.rate(conversations)
    assert [reward.reason for reward in found] == [""] * 4 + ["engine_error"] + [""] * 4
    for place in {*range(9)} - {4}:
        assert found[place].value == pytest.approx(wanted[place], abs=1e-4)
    assert caplog.text.count("OutOfMemoryError: no memory") == 1


# Batches


def test_batches_hold_every_place_once_and_keep_to_their_budget():
    for budget in range(1, 9):
        for lengths in itertools.product(range(1, 5), repeat=4):
            by_place = dict(enumerate(lengths))
            batches = batches_of(by_place, budget)
            assert sorted(place for batch in batches for place in batch) == [0, 1, 2, 3]
            for batch in batches:
                padded = max(by_place[place] for place in batch) * len(batch)
                assert padded <= budget or len(batch) == 1
            order = [by_place[place] for batch in batches for place in batch]
            assert order == sorted(lengths, reverse=True)
    assert batches_of({}, 5) == []


# Families


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A model that is read from the output `score` of its own class, as ArmoRM is."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = save(
        tmp_path / "ArmoRM-tiny",
        pad_token_id=599,
        architectures=["ScoredLlama"],
        auto_map={"AutoModelForSequenceClassification": "scored.ScoredLlama"},
    )
    config = folder / "config.json"
    config.write_text(config.read_text().replace("LlamaForSequenceClassification", "ScoredLlama"))
    (folder / "scored.py").write_text(REMOTE_CODE)
    return folder


def test_a_models_own_code_is_refused_without_trust(remote):
    message = error_of(remote)
    assert "brings Python code of its own (scored.ScoredLlama)" in message
    assert "trust_remote_code=True" in message


def test_the_score_of_a_models_own_class_is_read(remote):
    conversations = some_conversations(6)
    logits = loaded(remote, trust_remote_code=True, score_from="logits").score(conversations)
    scores = loaded(remote, trust_remote_code=True).score(conversations)
    assert scores == pytest.approx([100 + logit for logit in logits], abs=1e-3)
    assert "score_index is 1" in error_of(remote, trust_remote_code=True, score_index=1)


def test_an_output_that_is_not_there_is_told(tmp_path):
    message = error_of(save(tmp_path), score_from="score")
    assert "has no output 'score', it gives logits; set score_from" in message


@pytest.mark.parametrize(
    ("name", "score_from", "strip_bos"),
    [
        ("RLHFlow/ArmoRM-Llama3-8B-v0.1", "score", False),
        ("sfairXC/FsfairX-LLaMA3-RM-v0.1", "logits", True),
        ("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", "logits", False),
    ],
)
def test_families_are_known_by_name(name, score_from, strip_bos):
    reading = RewardModel(model=name)._reading
    assert (reading.score_from, reading.strip_bos) == (score_from, strip_bos)


# Errors


@pytest.mark.parametrize("model", ["./no/such/model", "/no/such/model", "a/b/c"])
def test_a_path_that_is_not_there_is_told_without_asking_the_hub(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    assert f"there is no model folder '{model}'" in error_of(model)


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "could not be fetched from the hub" in error_of("nobody/no-such-model-of-ours")


def test_a_language_model_is_not_taken_for_a_reward_model():
    """Transformers would give it a random head and only warn."""
    message = error_of(model_path("tiny-instruct"))
    assert "not a complete sequence-classification (reward) model" in message
    assert "its weights lack score.weight (architectures: ['LlamaForCausalLM'])" in message


def test_a_model_without_a_chat_template_is_told(tmp_path):
    tokenizer = pickle.loads(pickle.dumps(tiny_tokenizers.llama_style()))
    tokenizer.chat_template = None
    message = error_of(save(tmp_path, tokenizer))
    assert "has no chat template" in message
    assert "chat_template.jinja" in message


def test_not_loaded_says_so_and_models_travel_before_they_are_loaded(tiny):
    model = RewardModel()
    with pytest.raises(RuntimeError, match="tiny-reward is not loaded; call load"):
        model.score([])
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    again.load()
    again.unload()
    assert pickle.loads(pickle.dumps(again)).model_dump() == model.model_dump()
