"""Every recipe against an independent implementation in pandas."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import recipe_table
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.recipes import RECIPES, Recipe
from magpie_steps.selection import choose_longest, length_of, select

NUMBER = 10_000
RANKS = {
    **{"very easy": 1, "easy": 2, "medium": 3, "hard": 4, "very hard": 5},
    **{"very poor": 1, "poor": 2, "average": 3, "good": 4, "excellent": 5},
}


def at_least(column, level):
    return lambda t: t[column].map(RANKS).fillna(0) >= RANKS[level]


def above(column, bound):
    return lambda t: t[column].astype(float) > bound


def no_less(column, bound):
    return lambda t: t[column].astype(float) >= bound


def unique(t):
    return t.min_similar_uuid.isna() | (t.min_similar_uuid == "") | (t.min_similar_uuid == t.uuid)


def complete(t):
    return t.instruction.notna() & ~t.instruction.fillna("").str.strip().str.endswith(":")


def few_lines(t):
    few = t.instruction.fillna("").str.count("\n") < 5
    return t.instruction.notna() & (few | (t.task_category == "Coding & Debugging"))


def speaks(code):
    return lambda t: t.language == code


def safe(t):
    return t.safe == True  # noqa: E712


QUALITY, DIFFICULTY = "input_quality", "difficulty"
DISTANT = above("min_neighbor_distance", 0)
REWARD, GAIN = above("instruct_reward", -12), above("reward_difference", 0)
CARD = no_less("instruct_reward", -10)
GOOD, AVERAGE = at_least(QUALITY, "good"), at_least(QUALITY, "average")
EASY, MEDIUM = at_least(DIFFICULTY, "easy"), at_least(DIFFICULTY, "medium")
EXPECTED = {
    "air": (GOOD, MEDIUM, DISTANT, GAIN),
    "pro": (AVERAGE, DISTANT, REWARD),
    "pro-filter2": (GOOD, EASY, DISTANT, REWARD),
    "pro-filter3": (DISTANT, REWARD),
    "pro-filter4": (GOOD, EASY, DISTANT, GAIN),
    "pro-filter5": (GOOD, EASY, DISTANT, REWARD),
    "pro-filter6": (EASY, DISTANT, REWARD),
    "pro-card": (AVERAGE, CARD, unique, complete),
    "air-card": (GOOD, MEDIUM, GAIN, unique, complete),
    "pro-mt-card": (GOOD, EASY, CARD, unique, complete),
    "llama-3.1-pro-500k": (GOOD, CARD, unique, complete, few_lines),
    "llama-3.3-pro-500k": (GOOD, CARD, unique, complete, few_lines),
    "qwen2-pro-200k-chinese": (AVERAGE, CARD, speaks("ZH"), unique, complete),
    "qwen2-pro-200k-english": (AVERAGE, CARD, speaks("EN"), unique, complete),
    "notebook": (GOOD, above("instruct_reward", -10), complete, unique),
    "dpo": (MEDIUM, GOOD, no_less("instruct_reward", -5)),
    "ultra": (safe, unique, GOOD, EASY, no_less("instruct_reward", 0.1)),
}


@pytest.fixture(scope="module")
def rows():
    return recipe_table.rows(NUMBER)


@pytest.fixture(scope="module")
def table(rows):
    made = pd.DataFrame(rows)
    return made.assign(length=made.response.fillna("").str.len())


def kept_by_pandas(table, name, longest):
    kept = table[np.logical_and.reduce([rule(table) for rule in EXPECTED[name]])]
    order = kept.sort_values("length", ascending=False, kind="stable")
    if name == "pro-filter6":
        easy = order[order.difficulty == "easy"].head(longest // 2)
        harder = order[order.difficulty.map(RANKS) > RANKS["easy"]].head(longest - longest // 2)
        order = pd.concat([easy, harder])
    elif name not in ("pro-filter5", "dpo"):
        order = order.head(longest)
    return set(order.index)


@pytest.mark.parametrize("longest", [None, 6, 60, 201])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_keeps_the_rows_that_pandas_keeps(name, longest, rows, table):
    recipe = RECIPES[name]
    if recipe.longest is not None:
        recipe = recipe.with_longest(longest)
    found = select(recipe, rows)
    expected = kept_by_pandas(table, name, longest or recipe.longest or NUMBER)
    assert {i for i, reason in enumerate(found.reasons) if not reason} == expected
    assert found.counts.kept == len(expected) > 0
    assert found.counts.read == found.counts.kept + sum(found.counts.removed.values()) == NUMBER
    assert found.counts.removed == Counter(reason for reason in found.reasons if reason)
    if longest == 6 and recipe.longest is not None:
        assert found.counts.removed["recipe_longest"] > 0


@pytest.mark.parametrize("name", RECIPES)
def test_the_counts_of_every_rule_alone_are_those_of_pandas(name, rows, table):
    fails = list(select(RECIPES[name], rows).counts.fails.values())
    assert fails == [int((~rule(table)).sum()) for rule in EXPECTED[name]]


def test_every_recipe_is_tried():
    assert set(EXPECTED) == set(RECIPES)


# The longest


def test_of_equally_long_responses_the_earlier_is_kept():
    rows = [{"response_length": length} for length in (3, 5, 3, 5, 3, 1)]
    reasons = select(Recipe("mine", (), longest=3), rows).reasons
    assert reasons == ["", "", "recipe_longest", "", "recipe_longest", "recipe_longest"]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 2)), max_size=30),
    st.lists(st.integers(0, 6), min_size=3, max_size=3),
)
def test_the_longest_of_each_part_are_chosen(given_rows, quotas):
    lengths, parts = [row[0] for row in given_rows], [row[1] for row in given_rows]
    expected = []
    for part, quota in enumerate(quotas):
        places = [i for i in range(len(parts)) if parts[i] == part]
        expected += sorted(places, key=lambda i: (-lengths[i], i))[:quota]
    assert choose_longest(lengths, parts, quotas) == sorted(expected)


@pytest.mark.parametrize(
    ("row", "length"),
    [
        ({"response_length": 7, "response": "abc"}, 7),
        ({"response": "é€𝄞"}, 3),
        ({"response_length": None, "response": "abc"}, 0),
        ({"response_length": math.nan}, 0),
        ({"response_length": math.inf}, 0),
        ({"response_length": "7"}, 0),
        ({"response_length": np.int64(4)}, 4),
        ({"response": None}, 0),
        ({}, 0),
    ],
)
def test_length_is_the_columns_or_the_responses(row, length):
    assert length_of(row) == length


# Rows that a step before dropped


def test_dropped_rows_stay_dropped_with_their_reason_and_are_not_looked_at():
    rows = [
        {"keep": False, "drop_reason": "response_empty", "instruct_reward": None},
        {"keep": False, "drop_reason": None},
        {"keep": False},
        {"keep": None, "instruct_reward": 0.0, "min_neighbor_distance": 1.0},
        {"keep": True, "instruct_reward": -12.0, "min_neighbor_distance": 0.0},
    ]
    found = select(RECIPES["pro-filter3"], rows)
    assert found.reasons == ["response_empty", *["no_instruction"] * 2, "", "recipe_distance"]
    assert found.counts.fails == {"distance": 1, "reward": 1}
    assert found.counts.removed == {
        "no_instruction": 2,
        "response_empty": 1,
        "recipe_distance": 1,
    }


def test_no_rows():
    found = select(RECIPES["pro"], [])
    assert found.reasons == []
    assert (found.counts.read, found.counts.kept, found.counts.removed) == (0, 0, {})


def test_the_lines_add_up():
    rows = recipe_table.rows(50)
    lines = dict(select(RECIPES["pro"].with_longest(2), rows).counts.lines())
    removed = sum(int(n) for name, n in lines.items() if name.startswith("  recipe_"))
    assert lines["rows read"] == "50"
    assert int(lines["rows kept"]) + removed == 50
    assert int(lines["rows removed, by the first reason"]) == removed
