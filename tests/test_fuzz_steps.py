"""Whatever a row holds, it gets a reason or its columns, and no other row changes.

Rows come from anywhere: a data frame, a file, another step. One exception would turn a whole batch
into `None`.
"""

import inspect
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from distilabel.steps.base import GeneratorStep, _Step
from fuzzing import fuzz, messages, scalars, texts, values
from hypothesis import given
from hypothesis import strategies as st
from told_engine import ToldEngine

import magpie_steps
from magpie_steps import columns
from magpie_steps.conversation import find_fault, is_text
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.shards import arrow_schema

EXPORTED = [getattr(magpie_steps, name) for name in magpie_steps.__all__]
STEPS = [x for x in EXPORTED if inspect.isclass(x) and issubclass(x, _Step)]
READERS = [kind for kind in STEPS if not issubclass(kind, GeneratorStep)]
ENGINES = {"scripted": ScriptedEngine, "told": ToldEngine}
TOKENIZED = {"ContinueConversation", "GenerateResponse", "InstructionTagger"}
"""Steps that are tried with a real tokenizer too; others write their prompts as these do."""
CASES = [
    (kind, engine)
    for kind in READERS
    for engine in (ENGINES if kind.__name__ in TOKENIZED else ["scripted"])
]
ROUNDED = {"instruct_reward", "base_reward", "reward_difference", "responses_rewards"}
"""Rewards depend on a batch's other rows by rounding."""
RELATIVE = {"min_neighbor_distance", "repeat_count", "min_similar_uuid"}
"""What other rows that have a text do change."""
GIVEN_ON = {"messages", "tag_failures"}
"""Columns that a step writes and that rows bring along."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline"),
]


def good(number: int) -> dict[str, Any]:
    """Return a row that every step accepts."""
    asked, said = f"What is {number} plus 2?", f"It is {number + 2}."
    return {
        "uuid": f"id-{number}",
        "row": number,
        "instruction": asked,
        "response": said,
        "messages": [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": said},
        ],
        "base_response": "No.",
        "responses": ["One.", "Two.", "Three."],
        "responses_rewards": [0.1, 0.9, 0.3],
        "instruct_reward": 1.0,
        "base_reward": -1.0,
        "reward_difference": 2.0,
        "response_length": len(said),
        "min_neighbor_distance": 1.0,
        "input_quality": "good",
        "difficulty": "medium",
        "instruction_attempts": 1,
        "instruction_rejections": [],
        "tag_failures": [],
        "keep": True,
        "drop_reason": "",
    }


GOOD = [good(number) for number in range(3)]
ANY_ROW = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(GOOD[0], values),
        "messages": values | messages,
        "instruction": values | texts,
        "keep": st.booleans() | values,
        "instruction_rejections": values | st.lists(texts, max_size=3),
        "tag_failures": values
        | st.lists(st.dictionaries(st.sampled_from(("tag", "reason", "raw")), values), max_size=2),
        "responses": values | st.lists(texts | scalars, max_size=4),
        "responses_rewards": values | st.lists(scalars, max_size=4),
    },
)
NO_TEXTS = values.filter(lambda value: not is_text(value))
NO_QUESTION = st.fixed_dictionaries(
    {"keep": st.booleans() | st.none()},
    optional={
        "instruction": NO_TEXTS,
        "messages": (values | messages).filter(lambda value: find_fault(value) is not None),
        "response": texts,
        "responses": st.lists(texts),
        "responses_rewards": st.lists(st.floats()),
    },
)
"""Rows that ask nothing: no step can do anything for them."""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def step(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A loaded step."""
    kind, engine = request.param
    built = kind(name="step", **({"llm": ENGINES[engine]()} if "llm" in kind.model_fields else {}))
    built.load()
    yield built
    built.unload()


def run(step: Any, rows: list[Any]) -> list[dict[str, Any]]:
    (written,) = step.process(rows)
    return list(written)


def check(step: Any, bad: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check rows among good ones; return what became of them."""
    mixed = [GOOD[0], *bad, *GOOD[1:]]
    before = [dict(row) for row in mixed]
    written = run(step, mixed)
    assert len(written) == len(mixed)
    assert [list(row) for row in mixed] == [list(row) for row in before], "the input was changed"
    alone = run(step, GOOD)
    for row, expected in zip([written[0], *written[len(bad) + 1 :]], alone, strict=True):
        assert_same(row, expected, set() if not bad else RELATIVE)
    for row, given_row in zip(written[1 : len(bad) + 1], bad, strict=True):
        assert_typed(step, row)
        assert_whole(step, row, given_row)
    return written[1 : len(bad) + 1]


def assert_same(row: dict[str, Any], expected: dict[str, Any], relative: set[str]) -> None:
    assert list(row) == list(expected)
    for name in row.keys() - relative:
        if name in ROUNDED:
            np.testing.assert_allclose(row[name], expected[name], atol=1e-4)
        else:
            assert row[name] == expected[name] or both_nan(row[name], expected[name]), name


def both_nan(one: Any, other: Any) -> bool:
    return isinstance(one, float) and isinstance(other, float) and math.isnan(one + other)


def assert_typed(step: Any, row: dict[str, Any]) -> None:
    """Check that what the step wrote fits its columns: one misfit ends the whole run's writing."""
    types = {name: columns.described(name).type for name in step.outputs if name != "drop_reason"}
    schema = arrow_schema(types)
    for name in types:
        pa.array([row[name]], schema.field(name).type)


def assert_whole(step: Any, row: dict[str, Any], given_row: dict[str, Any]) -> None:
    """Check that the row says what became of it, and has all else that it came with."""
    if {"keep", "drop_reason"} <= set(step.outputs):
        assert isinstance(row["drop_reason"], str)
        assert row["keep"] is (row["drop_reason"] == "")
    for name in given_row.keys() - set(step.outputs):
        if name not in ("keep", "drop_reason"):
            assert row[name] is given_row[name]


@fuzz(8)
@given(bad=st.lists(ANY_ROW, max_size=4))
def test_any_row_is_answered_or_has_a_reason(step: Any, bad: list[dict[str, Any]]) -> None:
    check(step, bad)


@fuzz(6)
@given(bad=st.lists(NO_QUESTION, min_size=1, max_size=3))
def test_rows_without_a_question_say_so(step: Any, bad: list[dict[str, Any]]) -> None:
    for row in check(step, bad):
        assert has_reason(step, row), row


def has_reason(step: Any, row: dict[str, Any]) -> bool:
    """Return whether a row says that the step did nothing for it."""
    outputs = set(step.outputs)
    if row.get("keep") is False and isinstance(row.get("drop_reason"), str | None):
        return True
    if "tag_failures" in outputs:
        return bool(row["tag_failures"])
    empty = columns.empty_row(list(outputs - GIVEN_ON - {"keep", "drop_reason"}))
    return all(row[name] == value or both_nan(row[name], value) for name, value in empty.items())


ONCE_BROKE: list[dict[str, Any]] = [
    {"instruction_attempts": "3"},
    {"instruction_rejections": 1.5},
    {"keep": False, "drop_reason": ["a", "list"]},
    {"keep": False, "messages": [{"role": 1}]},
    {"instruction": "\ud800", "messages": None},
    {"messages": [{"role": ["user"], "content": "\ud800"}]},
    {"messages": np.array([{"role": "user", "content": "Hi?"}, {"role": "user", "content": "?"}])},
    {"responses_rewards": [10**400, 1.0, 2.0]},
    {"tag_failures": [{"tag": pd.NA, "reason": "\udfff"}]},
]
"""What ended a batch, or what no file could hold that came of it."""


def test_rows_that_broke_a_batch_do_so_no_more(step: Any) -> None:
    check(step, [{**good(9), **each} for each in ONCE_BROKE])


@pytest.mark.parametrize("column", ["instruction", "response", "messages"])
def test_a_huge_text_harms_no_other_row(step: Any, column: str) -> None:
    text = "word and more " * 75_000  # about 1 MB
    row = good(7)
    row[column] = [{"role": "user", "content": text}] if column == "messages" else text
    if column == "instruction":
        del row["messages"]
    check(step, [row])


def test_nothing_but_bad_rows_is_a_batch_too(step: Any) -> None:
    assert len(run(step, [{}, {"instruction": None}, {"messages": 3}])) == 3
    assert run(step, []) == []
