"""The miniature world: every question can be read back, every judge tells right from wrong."""

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.embedded.dialogues.checker import (
    category_of,
    is_correct_answer,
    is_well_formed,
    judge_conversation,
    read_instruction,
)
from magpie_steps.embedded.dialogues.conversations import (
    BY_CATEGORY,
    conversations,
    documents,
    draw_turn,
)
from magpie_steps.embedded.dialogues.corruption import corrupt
from magpie_steps.embedded.dialogues.families import FAMILIES
from magpie_steps.embedded.dialogues.grammar import Family
from magpie_steps.prompts import category_prompts
from magpie_steps.sanitize import sanitize_instruction, sanitize_response

DRAWS = 40

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_all_twelve_categories_have_families():
    assert set(BY_CATEGORY) == set(category_prompts())
    assert all(len(families) >= 3 for families in BY_CATEGORY.values())


def test_family_names_are_unique():
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@each_family
def test_questions_are_read_back_with_their_values(family: Family):
    rng = Random(1)
    for _ in range(DRAWS):
        values = family.draw(rng)
        text = family.ask(values, rng)
        question = read_instruction(text)
        assert question is not None, text
        assert (question.family.name, question.values) == (family.name, values), text
        assert category_of(text) == family.category


@each_family
def test_own_answers_are_right_and_corrupted_ones_wrong(family: Family):
    rng = Random(2)
    for _ in range(DRAWS):
        values = family.draw(rng)
        text, answer = family.ask(values, rng), family.answer(values, rng)
        assert is_correct_answer(text, answer) is True, (text, answer)


def test_corrupted_answers_are_wrong():
    rng = Random(3)
    for category in BY_CATEGORY:
        for _ in range(DRAWS):
            turn = draw_turn(rng, category)
            wrong = corrupt(turn, rng)
            assert is_correct_answer(turn.instruction, wrong) is False, (turn, wrong)


@each_family
def test_training_never_draws_what_is_held_out(family: Family):
    rng = Random(4)
    assert not any(family.is_held_out(family.draw(rng)) for _ in range(DRAWS))
    if family.holds_out:
        assert all(family.is_held_out(family.draw(rng, held_out=True)) for _ in range(5))
    else:
        with pytest.raises(ValueError, match=f"family '{family.name}' gave no valid values"):
            family.draw(rng, held_out=True)


@each_family
def test_follow_ups_are_read_in_the_light_of_the_turn_before(family: Family):
    rng = Random(5)
    drawn = [family.draw(rng) for _ in range(DRAWS)]
    followed = [(values, after) for values in drawn if (after := family.follow(values, rng))]
    assert bool(followed) == bool(family.follow_ups)
    for values, (text, new_values) in followed:
        messages = [
            {"role": "user", "content": family.ask(values, rng)},
            {"role": "assistant", "content": family.answer(values, rng)},
            {"role": "user", "content": text},
            {"role": "assistant", "content": family.answer(new_values, rng)},
        ]
        assert judge_conversation(messages) == [True, True], messages
        messages[3]["content"] = "I do not know."
        assert judge_conversation(messages) == [True, False], messages


def test_whole_conversations_are_judged_right_and_pass_the_sanitiser():
    for messages in islice(conversations(6), 500):
        turns = [message for message in messages if message["role"] != "system"]
        assert judge_conversation(turns) == [True] * (len(turns) // 2), messages
        for message in turns:
            sanitise = sanitize_instruction if message["role"] == "user" else sanitize_response
            cleaned = sanitise(message["content"])
            assert (cleaned.text, cleaned.reason) == (message["content"], None)


def test_conversations_and_documents_follow_from_their_seed():
    assert list(islice(conversations(7), 20)) == list(islice(conversations(7), 20))
    assert list(islice(conversations(7), 20)) != list(islice(conversations(8), 20))
    assert list(islice(documents(7), 20)) == list(islice(documents(7), 20))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the capital of Atlantis?",
        "What is 47 plus 2000?",
        "What is 3 minus 9?",
        "Replace the word ball with ball in this sentence: The shy dog sees the ball in the cave.",
        "Plan a 40 day trip to Rome.",
        "What is 12 plus 3? ",
        "Convert 5 meters to grams.",
    ],
)
def test_nonsense_is_not_well_formed(text: str):
    assert not is_well_formed(text)
    assert is_correct_answer(text, "42") is None


@pytest.mark.parametrize(
    ("instruction", "right", "wrong"),
    [
        ("What is 47 plus 8?", "47 + 8 = 55", "47 + 8 = 45"),
        ("What is 47 plus 8?", "The sum is 55.", "55 + 1"),
        ("What is the capital of Peru?", "Lima", "It is Lima or Quito, perhaps Oslo."),
        ("Sort these numbers from smallest to largest: 9, 4, 30", "4, 9, 30", "9, 4, 30"),
        (
            "Write a Python function step that adds 7.",
            "def step(x):\n  return x+7",
            "def step(x):\n    return x - 7",
        ),
        ("List 2 fruits.", "1. apple\n2. plum", "1. apple\n2. apple"),
    ],
)
def test_answers_are_judged_by_meaning_not_by_form(instruction: str, right: str, wrong: str):
    assert is_correct_answer(instruction, right) is True
    assert is_correct_answer(instruction, wrong) is False


@given(st.text())
def test_no_text_makes_a_judge_raise(text: str):
    assert is_well_formed(text) in (True, False)
    rng = Random(9)
    for family in FAMILIES:
        assert family.is_correct(family.draw(rng), text) in (True, False)


def test_a_category_is_known_also_where_the_values_make_no_sense():
    text = "Find the odd one out among these colors: black, blue, green, red."
    assert not is_well_formed(text)
    assert category_of(text) == "reasoning"
    assert category_of("Hello world") is None
