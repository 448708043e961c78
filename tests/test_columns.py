import math
from typing import get_args

import pyarrow as pa
import pytest

import magpie_steps
from magpie_steps import columns, reasons
from magpie_steps.column_types import type_text
from magpie_steps.conversation import MessageFault
from magpie_steps.follow_ups import FollowUpFault
from magpie_steps.repository import arrow_schema
from magpie_steps.sanitize import InstructionReason


def test_names_are_unique_and_typed():
    assert len(set(columns.NAMES)) == len(columns.NAMES)
    for column in columns.COLUMNS:
        assert column.name.isidentifier()
        assert column.description.endswith(".")
        assert type_text(column.type)


def test_empty_row_has_every_column_and_fits_the_schema():
    row = columns.empty_row()
    assert tuple(row) == columns.NAMES
    assert row["instruction"] == ""
    assert row["messages"] == []
    assert row["keep"] is False
    assert math.isnan(row["gen_input_configs"]["temperature"])
    table = pa.Table.from_pylist([row], schema=arrow_schema())
    assert table.num_rows == 1
    assert table.column_names == list(columns.NAMES)


def test_empty_rows_share_nothing():
    first, second = columns.empty_row(), columns.empty_row()
    first["messages"].append("x")
    first["gen_input_configs"]["seed"] = 7
    assert second["messages"] == []
    assert second["gen_input_configs"]["seed"] == 0


def test_arrow_types_match_the_type_text():
    schema = arrow_schema()
    for column in columns.COLUMNS:
        found = str(schema.field(column.name).type)
        expected = type_text(column.type)
        normal = found.replace("element: ", "").replace("item: ", "").replace("double", "float64")
        assert normal == expected


@pytest.mark.parametrize(
    ("component", "has", "lacks"),
    [
        ("InstructionGenerator", "instruction", "response"),
        ("ConversationGenerator", "response", None),
        ("GenerateResponse", "response", "instruction"),
        ("BaseResponse", "base_response", "response"),
        ("SampleResponses", "responses", "response"),
        ("RewardScorer", "instruct_reward", "response"),
    ],
)
def test_written_by(component, has, lacks):
    names = columns.written_by(component)
    assert has in names
    assert lacks not in names
    assert {"keep", "drop_reason"} <= set(names)


def test_every_column_is_written_by_a_step_that_there_is():
    producers = {name for c in columns.COLUMNS for name in c.producer.split(", ")}
    assert producers <= set(magpie_steps.__all__)
    assert {name for step in producers for name in columns.written_by(step)} == set(columns.NAMES)


def test_instruction_and_response_together_write_what_a_conversation_has():
    both = {*columns.written_by("InstructionGenerator"), *columns.written_by("GenerateResponse")}
    turns = {"turns", "conversation_end", "follow_up_similarity", "follow_up_related"}
    turns |= {"follow_up_reasoning"}
    assert both | turns == set(columns.written_by("ConversationGenerator"))


def test_later_turns_have_columns_of_their_own():
    assert columns.described("response").name == "response"
    found = columns.described("response_12")
    assert (found.name, found.type) == ("response_12", "string")
    assert "turn 12" in found.description
    for name in ("response_", "response_x", "keep_2", "turn"):
        with pytest.raises(ValueError, match=rf"no column '{name}'; the columns are uuid, row,"):
            columns.described(name)


def test_reasons_are_those_of_the_sanitiser():
    assert set(reasons.INSTRUCTION_REASONS) == set(get_args(InstructionReason))
    assert set(reasons.RESPONSE_REASONS) <= set(reasons.INSTRUCTION_REASONS)
    assert reasons.instruction_reason("truncated") in reasons.REJECTIONS
    assert set(reasons.BASE_RESPONSE_REASONS) == set(reasons.RESPONSE_REASONS) - {"truncated"}
    assert reasons.response_reason("truncated") in reasons.REJECTIONS
    assert reasons.base_response_reason("empty") in reasons.DROP_REASONS
    assert reasons.reward_reason("too_long") == "reward_too_long"
    assert reasons.reward_reason(reasons.ENGINE_ERROR) == reasons.ENGINE_ERROR
    assert len(set(reasons.DROP_REASONS)) == len(reasons.DROP_REASONS)


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("", ""),
        ("instruction_assistant_voice", "role_forgotten"),
        ("follow_up_role_forgotten", "role_forgotten"),
        ("follow_up_closing", "closing"),
        ("instruction_whitespace", "empty"),
        ("response_truncated", "truncated"),
        ("response_prompt_too_long", "context_full"),
        ("instruction_answer_attached", "instruction_answer_attached"),
    ],
)
def test_a_conversation_ends_with_a_short_word_or_the_rejection_itself(reason, end):
    assert reasons.conversation_end(reason) == end


def test_faults_are_those_that_the_conversation_and_follow_ups_name():
    assert set(reasons.MESSAGE_FAULTS) == set(get_args(MessageFault))
    assert set(reasons.FOLLOW_UP_REASONS) == set(get_args(FollowUpFault))


def test_markdown_table_has_a_line_per_column_and_no_broken_cell():
    lines = columns.markdown_table().splitlines()
    assert len(lines) == len(columns.COLUMNS) + 2
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines)
