"""The embedded models do what their card says, through the engine that pipelines use."""

from collections.abc import Iterator

import pytest
from transformers import AutoTokenizer

from magpie_steps.embedded import MODEL_NAMES, model_path
from magpie_steps.embedded.evaluate import (
    measure_answers,
    measure_base_answers,
    measure_instructions,
    measure_reward,
    measure_steering,
)
from magpie_steps.engines.base import Engine
from magpie_steps.engines.transformers import TransformersEngine

MAX_WHEEL_BYTES = 30_000_000


def _loaded(name: str) -> Iterator[Engine]:
    engine = TransformersEngine(model=str(model_path(name)))
    engine.load()
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def instruct() -> Iterator[Engine]:
    yield from _loaded("tiny-instruct")


@pytest.fixture(scope="module")
def base() -> Iterator[Engine]:
    yield from _loaded("tiny-base")


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'tiny-huge'; there are tiny-instruct, tiny-base, tiny"):
        model_path("tiny-huge")


def test_weights_fit_the_wheel():
    folder = model_path("tiny-instruct").parent
    assert (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MAX_WHEEL_BYTES
    )
    assert (folder / "README.md").exists()


def test_models_share_one_tokenizer():
    texts = {(model_path(name) / "tokenizer.json").read_text() for name in MODEL_NAMES}
    assert len(texts) == 1


def test_digits_are_single_tokens():
    tokenizer = AutoTokenizer.from_pretrained(model_path("tiny-instruct"))
    tokens = tokenizer.tokenize("What is 1234 plus 5?")
    assert [token for token in tokens if token.isdigit()] == list("12345")


def test_pre_query_is_what_the_chat_template_puts_before_the_user(instruct: Engine):
    assert instruct.template.pre_query == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    )
    assert instruct.template.system_mode == "separate"


# What the models are meant to reach; benchmarks/results/embedded_models.json has what they do, on
# more draws. Sampling is seeded and engines are deterministic, so a pass today is a pass tomorrow.
WELL_FORMED = 0.95
STEERED = 0.85
ANSWERED = 0.80
RANKED = 0.90
RANKED_HELD_OUT = 0.87


def test_instructions_are_well_formed_distinct_and_of_every_category(instruct: Engine):
    figures = measure_instructions(instruct, 400)
    assert figures["well_formed"] >= WELL_FORMED
    assert figures["distinct"] >= 0.60
    assert all(count for key, count in figures["categories"].items() if key != "None")


def test_category_system_prompts_steer(instruct: Engine):
    shares = measure_steering(instruct, 50)
    assert min(shares.values()) >= STEERED, shares


def test_answers_to_held_out_questions_are_right_and_the_base_model_is_far_below(
    instruct: Engine, base: Engine
):
    right = measure_answers(instruct, 240)["correct"]
    assert right >= ANSWERED
    assert measure_base_answers(base, model_path("tiny-base"), 240)["correct"] <= right - 0.20


def test_reward_model_ranks_right_answers_above_wrong_ones():
    figures = measure_reward(model_path("tiny-reward"), 1000)
    assert figures["ranked_right"] >= RANKED
    assert figures["ranked_right_held_out"] >= RANKED_HELD_OUT
