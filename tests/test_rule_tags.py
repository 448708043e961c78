"""Rules label the miniature models' questions well, and other texts without failing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.embedded.dialogues.conversations import categories, draw_turn
from magpie_steps.labels import Category, Difficulty, Quality
from magpie_steps.rule_tags import category_of, difficulty_of, quality_of, rule_tags


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("What is 12 * 7?", "Math"),
        ("Write a Python function that reverses a list.", "Coding & Debugging"),
        ("Write a short poem about rain.", "Creative writing"),
        ("Pretend to be a pirate and greet me.", "Role playing"),
        ("Give me 5 ideas for a birthday gift.", "Brainstorming"),
        ("Plan a trip to Rome in 3 days.", "Planning"),
        ("What should I do about my noisy neighbour?", "Advice seeking"),
        ("Rewrite this sentence in the past tense: I go home.", "Editing"),
        ("Which word does not belong: apple, pear, car?", "Reasoning"),
        ("What is the average of 3, 5 and 10?", "Data analysis"),
        ("Who wrote Hamlet?", "Information seeking"),
        ("Good morning!", "Others"),
    ],
)
def test_each_kind_of_task_is_known_by_its_words(text, category):
    assert category_of(text)[0] == category


def test_the_miniature_models_questions_are_told_apart():
    rng = random.Random(5)
    drawn = [(key, draw_turn(rng, key).instruction) for key in categories() for _ in range(40)]
    right = [category_of(text)[0] is Category[key.upper()] for key, text in drawn]
    assert sum(right) / len(right) >= 0.9


def test_longer_and_richer_instructions_are_harder():
    easy = "What is a cat?"
    hard = (
        "Design and implement a function that sorts 3 lists of 20 numbers and 4 tables, explain why"
        " it is correct, and compare it with another algorithm for the same task in detail."
    )
    assert difficulty_of(easy) < Difficulty.MEDIUM < difficulty_of(hard)


@pytest.mark.parametrize(
    ("text", "flaws"),
    [
        ("What is the capital of France?", 0),
        ("what is the capital of France", 2),
        ("hm", 3),
        ("Tell me the the answer", 2),
        ('Say "hello to all of them.', 1),
        ("Write about the following...", 1),
    ],
)
def test_each_flaw_of_form_costs_a_level(text, flaws):
    level, explanation = quality_of(text)
    assert level.rank == len(Quality) - flaws
    assert ("no flaw" in explanation) is (flaws == 0)


@given(st.text())
def test_every_text_gets_labels_that_exist(text):
    tags = rule_tags(text)
    Category(tags["task_category"])
    Difficulty.of(tags["difficulty"])
    Quality.of(tags["input_quality"])
    assert tags["task_category"] not in tags["other_task_category"]
    assert tags["difficulty_generator"] == "rules"
