import pytest

from magpie_steps.conversation import (
    append_turn,
    count_turns,
    split_last_turn,
    start,
    turn_columns,
    validate,
)

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi?"}
ASSISTANT = {"role": "assistant", "content": "Hello."}


def test_append_turn_builds_a_new_conversation():
    first = append_turn(start("Be brief."), "Hi?", "Hello.")
    second = append_turn(first, "Again?")
    assert first == [SYSTEM, USER, ASSISTANT]
    assert second == [*first, {"role": "user", "content": "Again?"}]


def test_append_turn_needs_an_answered_conversation():
    with pytest.raises(ValueError, match="ends with a user message"):
        append_turn([USER], "And?")


@pytest.mark.parametrize("system", [None, ""])
def test_start_without_system_prompt_is_empty(system):
    assert start(system) == []


@pytest.mark.parametrize(
    "messages",
    [[USER], [SYSTEM, USER], [USER, ASSISTANT], [SYSTEM, USER, ASSISTANT, USER]],
)
def test_valid_conversations(messages):
    validate(messages)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no user message"),
        ([SYSTEM], "no user message"),
        ([ASSISTANT], "message 0 has the role 'assistant'"),
        ([USER, USER], "message 1 has the role 'user', expected 'assistant'"),
        ([USER, SYSTEM], "message 1 has the role 'system'"),
        ([USER, {"role": "assistant", "content": " "}], "message 1 .assistant. has no text"),
        ([{"role": "user", "content": None}], "message 0 .user. has no text"),
        ([{"content": "Hi"}], "message 0 has the role None"),
    ],
)
def test_invalid_conversations_name_the_place(messages, message):
    with pytest.raises(ValueError, match=message):
        validate(messages)


def test_split_last_turn_with_and_without_answer():
    answered = split_last_turn([SYSTEM, USER, ASSISTANT])
    assert (answered.history, answered.instruction, answered.response) == (
        (SYSTEM,),
        "Hi?",
        "Hello.",
    )
    waiting = split_last_turn([USER, ASSISTANT, {"role": "user", "content": "And?"}])
    assert waiting.history == (USER, ASSISTANT)
    assert (waiting.instruction, waiting.response) == ("And?", "")


def test_split_and_append_are_inverse():
    messages = append_turn(append_turn(start("S"), "a", "b"), "c", "d")
    last = split_last_turn(messages)
    assert append_turn(last.history, last.instruction, last.response) == messages


@pytest.mark.parametrize("system", [[], [SYSTEM]])
def test_later_turns_are_columns_up_to_the_longest_conversation(system):
    messages = append_turn(append_turn([*system], "a", "b"), "c", "d")
    assert count_turns(messages) == 2
    assert turn_columns(messages, 1) == {}
    assert turn_columns(messages, 2) == {"instruction_2": "c", "response_2": "d"}
    assert turn_columns(messages, 3) == {
        "instruction_2": "c",
        "response_2": "d",
        "instruction_3": "",
        "response_3": "",
    }


def test_an_unanswered_turn_counts_and_has_no_response():
    messages = append_turn(append_turn([], "a", "b"), "c")
    assert count_turns(messages) == 2
    assert turn_columns(messages, 2) == {"instruction_2": "c", "response_2": ""}


def test_no_conversation_has_no_turns():
    assert count_turns([]) == 0
    assert turn_columns([], 2) == {"instruction_2": "", "response_2": ""}
