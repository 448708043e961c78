"""FormatPreference and FormatSFT on plain dicts, without a pipeline."""

import copy
import math

import pytest
from pydantic import ValidationError

from magpie_steps import columns, reasons
from magpie_steps.steps.format_preference import FormatPreference
from magpie_steps.steps.format_sft import FormatSFT

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")
USER = {"role": "user", "content": "Hi?"}
ASSISTANT = {"role": "assistant", "content": "Hello."}
SYSTEM = {"role": "system", "content": "Be brief."}
ROW = {"instruction": "Hi?", "responses": ["a", "b"], "responses_rewards": [1.0, 2.0]}
BASE = {
    "instruction": "Hi?",
    "response": "a",
    "base_response": "b",
    "instruct_reward": 1.0,
    "base_reward": 2.0,
}
BAD = [
    {},
    {"instruction": None, "messages": None, "responses": None, "responses_rewards": None},
    {**ROW, "responses": [None, None]},
    {**ROW, "messages": "no list"},
    {**ROW, "instruction": "x" * 100_000},
    {**ROW, "responses_rewards": ["high", "low"]},
    {**BASE, "response": ["a"], "instruct_reward": None},
]


def formatted(kind, rows, **fields):
    step = kind(name="step", **fields)
    step.load()
    before = copy.deepcopy(rows)
    (found,) = list(step.process(rows))
    assert rows == before
    assert [row["instruction"] for row in found] == [row["instruction"] for row in rows]
    return found


@pytest.mark.parametrize("kind", [FormatPreference, FormatSFT])
def test_no_row_however_bad_harms_another(kind):
    step = kind(name="step")
    (found,) = list(step.process([*BAD, {**ROW, "response": "a"}]))
    assert len(found) == len(BAD) + 1
    assert found[-1]["keep"] is True
    for row in found:
        assert (row["drop_reason"] in reasons.DROP_REASONS) != row["keep"]
        empty = columns.empty_row(step.outputs)
        assert all(type(row[name]) is type(value) for name, value in empty.items())


@pytest.mark.parametrize("kind", [FormatPreference, FormatSFT])
def test_a_row_that_is_not_kept_passes_with_its_reason(kind):
    row = {**ROW, "response": "a", "keep": False, "drop_reason": "engine_error"}
    (found,) = formatted(kind, [row])
    assert (found["keep"], found["drop_reason"]) == (False, "engine_error")
    assert {**found, **row} == found
    written = set(found) - set(row)
    assert str({name: found[name] for name in written}) == str(
        {name: columns.empty_row()[name] for name in written}
    )


def test_a_kept_row_carries_its_pair():
    (found,) = formatted(FormatPreference, [{**ROW, "keep": True, "drop_reason": ""}])
    assert found["prompt"] == [USER]
    assert found["chosen"] == [{"role": "assistant", "content": "b"}]
    assert found["rejected"] == [{"role": "assistant", "content": "a"}]
    assert (found["chosen_score"], found["rejected_score"], found["score_margin"]) == (2, 1, 1)
    assert (found["keep"], found["drop_reason"]) == (True, "")


def test_settings_reach_the_pair():
    (found,) = formatted(FormatPreference, [ROW], min_margin=1.5)
    assert found["drop_reason"] == "preference_small_margin"
    assert math.isnan(found["score_margin"])
    (found,) = formatted(FormatPreference, [BASE], source="instruct_vs_base")
    assert found["drop_reason"] == "preference_base_better"
    (found,) = formatted(FormatPreference, [BASE], source="instruct_vs_base", allow_swap=True)
    assert found["chosen"] == [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("source", "required"),
    [
        ("sampled", {"responses", "responses_rewards"}),
        ("instruct_vs_base", {"response", "base_response", "instruct_reward", "base_reward"}),
    ],
)
def test_a_pipeline_without_the_columns_of_the_source_is_refused(source, required):
    inputs = FormatPreference(name="step", source=source).inputs
    assert {name for name, needed in inputs.items() if needed} == required


@pytest.mark.parametrize(
    "fields",
    [{"source": "best"}, {"min_margin": -0.1}, {"min_margin": math.nan}, {"min_margin": math.inf}],
)
def test_settings_that_mean_nothing_are_refused(fields):
    with pytest.raises(ValidationError, match=next(iter(fields))):
        FormatPreference(name="step", **fields)


@pytest.mark.parametrize("drop_system", [False, True])
def test_the_system_message_stays_unless_it_is_dropped(drop_system):
    row = {"instruction": "Hi?", "messages": [SYSTEM, USER, ASSISTANT]}
    (found,) = formatted(FormatSFT, [row], drop_system=drop_system)
    assert found["messages"] == row["messages"][drop_system:]
    assert found["keep"] is True


def test_a_row_without_an_answer_is_dropped_with_the_reason():
    rows = [{"instruction": "Hi?", "response": ""}, {"instruction": "Hi?", "response": "Hello."}]
    found = formatted(FormatSFT, rows)
    assert [row["drop_reason"] for row in found] == ["sft_no_response", ""]
    assert [row["messages"] for row in found] == [[], [USER, ASSISTANT]]
