import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_steps import columns, reasons
from magpie_steps.conversation import validate
from magpie_steps.preference import (
    SOURCES,
    Pair,
    answered_messages,
    find_pair,
    first_prompt,
    kto_rows,
    preference_rows,
    sft_row,
)

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi?"}
ASSISTANT = {"role": "assistant", "content": "Hello."}
AGAIN = {"role": "user", "content": "And?"}
NAN = float("nan")


def sampled(answers, scores, **more):
    return {"instruction": "Hi?", "responses": answers, "responses_rewards": scores, **more}


def against_base(score, base_score, response="Good.", base="Bad."):
    return {
        "instruction": "Hi?",
        "response": response,
        "base_response": base,
        "instruct_reward": score,
        "base_reward": base_score,
    }


def message(text):
    return [{"role": "assistant", "content": text}]


# Pairs


def test_best_and_worst_of_sampled_answers_make_the_pair():
    pair = find_pair(sampled(["a", "b", "c", "d"], [0.5, 2.0, -1.0, 1.0]), "sampled")
    assert pair.columns() == {
        "prompt": [USER],
        "chosen": message("b"),
        "rejected": message("c"),
        "chosen_score": 2.0,
        "rejected_score": -1.0,
        "score_margin": 3.0,
    }
    assert pair.reason == ""


def test_the_first_of_equals_counts_at_both_ends():
    pair = find_pair(sampled(["a", "b", "c", "d"], [2.0, 1.0, 2.0, 1.0]), "sampled")
    assert (pair.chosen, pair.rejected) == ("a", "b")


def test_the_response_is_chosen_against_the_base_response():
    pair = find_pair(against_base(1.5, -0.5), "instruct_vs_base")
    assert (pair.chosen, pair.rejected, pair.margin) == ("Good.", "Bad.", 2.0)


def test_a_better_base_answer_is_swapped_only_on_request():
    row = against_base(-0.5, 1.5)
    assert find_pair(row, "instruct_vs_base").reason == "preference_base_better"
    pair = find_pair(row, "instruct_vs_base", allow_swap=True)
    assert (pair.chosen, pair.rejected, pair.margin) == ("Bad.", "Good.", 2.0)


@pytest.mark.parametrize(
    ("answers", "scores", "reason"),
    [
        ([], [], "too_few"),
        (["a"], [1.0], "too_few"),
        (["a", ""], [1.0, 2.0], "too_few"),
        (["a", " \n"], [1.0, NAN], "too_few"),
        (["a", None], [1.0, 2.0], "too_few"),
        (None, None, "too_few"),
        ("ab", [1.0, 2.0], "too_few"),
        (["a", "b"], [1.0], "missing_reward"),
        (["a", "b"], [1.0, 2.0, 3.0], "missing_reward"),
        (["a", "b"], None, "missing_reward"),
        (["a", "b"], [1.0, None], "missing_reward"),
        (["a", "b", "c"], [1.0, 2.0, NAN], "missing_reward"),
        (["a", "b"], [1.0, math.inf], "missing_reward"),
        (["a", "b"], [1.0, "2"], "missing_reward"),
        (["a", "b"], [True, 2.0], "missing_reward"),
        (["a", "b"], [1.0, 1], "tie"),
        (["a", "a"], [1.0, 1.0], "tie"),
        (["a", " a\n"], [1.0, 2.0], "same_text"),
        (["a", "b"], [1.0, 1.25], "small_margin"),
    ],
)
def test_every_reason_is_reached_by_a_row_that_has_only_that_flaw(answers, scores, reason):
    pair = find_pair(sampled(answers, scores), "sampled", min_margin=0.5)
    assert pair.reason == reasons.preference_reason(reason)


def test_a_margin_of_exactly_the_least_is_enough():
    row = sampled(["a", "b"], [1.0, 1.5])
    assert find_pair(row, "sampled", 0.5).reason == ""
    assert find_pair(row, "sampled", 0.5000001).reason == "preference_small_margin"


def test_an_answer_without_text_is_passed_over_with_its_score():
    pair = find_pair(sampled(["a", "", "b"], [1.0, NAN, 2.0]), "sampled")
    assert (pair.chosen, pair.rejected, pair.reason) == ("b", "a", "")


def test_without_a_pair_every_value_is_the_empty_one():
    found = Pair(reason="preference_tie").columns()
    empty = columns.empty_row(found)
    assert str(found) == str(empty)
    assert list(found) == [n for n in columns.written_by("FormatPreference") if n in found][:6]


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([USER], [USER]),
        ([USER, ASSISTANT], [USER]),
        ([SYSTEM, USER, ASSISTANT], [SYSTEM, USER]),
        ([SYSTEM, USER, ASSISTANT, AGAIN, ASSISTANT], [SYSTEM, USER]),
        ([], [{"role": "user", "content": "Asked?"}]),
    ],
)
def test_the_prompt_is_what_precedes_the_first_answer(messages, prompt):
    row = {"instruction": "Asked?", "response": "Told.", "messages": messages}
    assert first_prompt(row) == (prompt, "")


@pytest.mark.parametrize(
    "messages",
    [
        [ASSISTANT],
        [USER, USER],
        [SYSTEM],
        "Hi?",
        7,
        [None],
        ["Hi?"],
        [{"role": "user", "content": None}],
    ],
)
def test_messages_that_are_no_conversation_are_a_reason(messages):
    row = sampled(["a", "b"], [1.0, 2.0], messages=messages)
    assert find_pair(row, "sampled").reason == reasons.BAD_MESSAGES
    assert answered_messages(row) == ([], reasons.BAD_MESSAGES)


@pytest.mark.parametrize("instruction", [None, "", " ", 3])
def test_without_an_instruction_there_is_no_pair(instruction):
    row = sampled(["a", "b"], [1.0, 2.0], instruction=instruction)
    assert find_pair(row, "sampled").reason == reasons.NO_INSTRUCTION


TEXT = st.sampled_from(["", " ", "a", "a ", "b", "c", None])
SCORE = st.sampled_from([0.0, 0.5, 1.0, -0.0, -7.25, 1e308, -1e308, 5e-324, math.inf, NAN, None])
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "instruction": TEXT,
        "messages": st.sampled_from(
            [None, [], [USER], [SYSTEM, USER, ASSISTANT], [{}], [USER] * 2]
        ),
        "response": TEXT,
        "base_response": TEXT,
        "instruct_reward": SCORE,
        "base_reward": SCORE,
        "responses": st.none() | st.lists(TEXT, max_size=5),
        "responses_rewards": st.none() | st.lists(SCORE, max_size=5),
    },
)


@settings(max_examples=400, deadline=None)
@given(ROWS, st.sampled_from(list(SOURCES)), st.sampled_from([0.0, 0.1, 0.5]), st.booleans())
def test_every_row_makes_a_pair_or_has_a_reason(row, source, min_margin, allow_swap):
    before = copy.deepcopy(row)
    pair = find_pair(row, source, min_margin, allow_swap=allow_swap)
    assert str(row) == str(before)
    assert list(pair.columns()) == list(Pair().columns())
    if pair.reason:
        assert pair.reason in reasons.DROP_REASONS
        assert preference_rows(pair.columns()) == kto_rows(pair.columns()) == []
        return
    assert pair.chosen_score > pair.rejected_score
    assert pair.margin == pair.chosen_score - pair.rejected_score >= min_margin
    assert pair.chosen.strip() != pair.rejected.strip() != ""
    validate([*pair.prompt, *message(pair.chosen)])
    assert pair.prompt[-1]["role"] == "user"
    if source == "instruct_vs_base" and not allow_swap:
        assert pair.chosen == row["response"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 3.0]), min_size=2, max_size=6))
def test_no_answer_scores_beyond_the_pair(scores):
    row = sampled([f"answer {i}" for i in range(len(scores))], scores)
    pair = find_pair(row, "sampled")
    if len(set(scores)) == 1:
        assert pair.reason == "preference_tie"
    else:
        assert pair.chosen == row["responses"][scores.index(max(scores))]
        assert pair.rejected == row["responses"][scores.index(min(scores))]


# Rows for other trainers


def test_a_pair_falls_into_a_good_and_a_bad_example():
    pair = find_pair(sampled(["a", "b"], [1.0, 2.0]), "sampled").columns()
    assert kto_rows(pair) == [
        {"prompt": [USER], "completion": message("b"), "label": True},
        {"prompt": [USER], "completion": message("a"), "label": False},
    ]
    assert preference_rows({**pair, "uuid": "x", "keep": True}) == [pair]


def test_a_conversation_to_imitate_has_all_its_turns():
    messages = [SYSTEM, USER, ASSISTANT, AGAIN, ASSISTANT]
    assert sft_row({"messages": messages}) == {"messages": messages}
    assert answered_messages({"messages": messages}, drop_system=True) == (messages[1:], "")
    assert answered_messages({"messages": messages[1:]}, drop_system=True) == (messages[1:], "")


def test_without_messages_instruction_and_response_are_the_conversation():
    assert sft_row({"instruction": "Hi?", "response": "Hello."}) == {"messages": [USER, ASSISTANT]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [USER]}, reasons.SFT_NO_RESPONSE),
        ({"messages": [USER, ASSISTANT, AGAIN]}, reasons.SFT_NO_RESPONSE),
        ({"instruction": "Hi?", "response": " "}, reasons.SFT_NO_RESPONSE),
        ({"instruction": "Hi?"}, reasons.SFT_NO_RESPONSE),
        ({"response": "Hello."}, reasons.NO_INSTRUCTION),
        ({}, reasons.NO_INSTRUCTION),
    ],
)
def test_a_conversation_without_an_answer_teaches_nothing(row, reason):
    assert answered_messages(row) == ([], reason)
    assert sft_row(row) == {"messages": []}
