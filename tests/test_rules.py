import math
from itertools import product

import numpy as np
import pytest

from magpie_steps.labels import Difficulty, Quality
from magpie_steps.rules import (
    KINDS,
    FewerNewlines,
    IsTrue,
    LevelAtLeast,
    NotEndingWith,
    NotRepeated,
    NumberAbove,
    NumberAtLeast,
    OneOf,
    rule_as_dict,
    rule_from_dict,
)

RANKS = {
    "difficulty": {"very easy": 1, "easy": 2, "medium": 3, "hard": 4, "very hard": 5},
    "input_quality": {"very poor": 1, "poor": 2, "average": 3, "good": 4, "excellent": 5},
}
EXAMPLES = [
    LevelAtLeast("difficulty", "hard"),
    LevelAtLeast("input_quality", Quality.AVERAGE),
    NumberAbove("instruct_reward", -12),
    NumberAtLeast("repeat_count", 2),
    NotRepeated(),
    NotEndingWith(),
    NotEndingWith("..."),
    FewerNewlines(5),
    FewerNewlines(1, ""),
    OneOf("language", ("EN", "NO")),
    IsTrue("safe"),
]


# Levels


@pytest.mark.parametrize("column", RANKS)
def test_levels_pass_by_rank_for_every_level_and_bound(column):
    ranks = RANKS[column]
    for least, level in product(ranks, ranks):
        rule = LevelAtLeast(column, least)
        assert rule.fails({column: level}) == (ranks[level] < ranks[least]), (least, level)
        assert set(rule.accepted) == {word for word, rank in ranks.items() if rank >= ranks[least]}


@pytest.mark.parametrize("column", RANKS)
@pytest.mark.parametrize("value", [None, "", "Good", "[hard]", "great", 4, math.nan, ["good"]])
def test_what_is_no_level_fails_even_the_lowest_bound(column, value):
    assert LevelAtLeast(column, next(iter(RANKS[column]))).fails({column: value})


def test_levels_are_not_compared_as_texts():
    """Magpie Ultra's filter did: its "good" kept very poor and poor and removed the best."""
    rule = LevelAtLeast("input_quality", "good")
    kept = [word for word in RANKS["input_quality"] if not rule.fails({"input_quality": word})]
    as_texts = [word for word in RANKS["input_quality"] if word >= "good"]
    assert kept == ["good", "excellent"]
    assert as_texts == ["very poor", "poor", "good"]
    medium = LevelAtLeast("difficulty", "medium")
    assert medium.fails({"difficulty": "very easy"})
    assert not medium.fails({"difficulty": "hard"})


# The other kinds


@pytest.mark.parametrize(
    ("value", "above", "at_least"),
    [
        (-12.0, False, True),
        (-12, False, True),
        (math.nextafter(-12, 0), True, True),
        (math.nextafter(-12, -13), False, False),
        (np.float32(3), True, True),
        (np.int64(-13), False, False),
        (math.inf, True, True),
        (-math.inf, False, False),
        (math.nan, False, False),
        (None, False, False),
        ("5", False, False),
        (True, False, False),
        ([1.0], False, False),
    ],
)
def test_numbers_are_above_a_bound_or_at_it(value, above, at_least):
    row = {"instruct_reward": value}
    assert NumberAbove("instruct_reward", -12).fails(row) is not above
    assert NumberAtLeast("instruct_reward", -12).fails(row) is not at_least


@pytest.mark.parametrize(
    ("similar", "uuid", "passes"),
    [
        (None, "a", True),
        ("", "a", True),
        ("a", "a", True),
        ("", None, True),
        ("b", "a", False),
        ("b", None, False),
        (5, 5, False),
        (math.nan, "a", False),
    ],
)
def test_one_row_of_those_that_repeat_each_other_passes(similar, uuid, passes):
    row = {"min_similar_uuid": similar, "uuid": uuid}
    assert NotRepeated().fails(row) is not passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Say:", False),
        ("Say: \n\t\u3000\u2003\x1f", False),
        (":", False),
        ("Say", True),
        ("a: b", True),
        ("Say：", True),
        ("", True),
        (None, False),
        (3, False),
    ],
)
def test_unfinished_instructions_end_with_a_colon(text, passes):
    assert NotEndingWith().fails({"instruction": text}) is not passes


@pytest.mark.parametrize(
    ("text", "category", "passes"),
    [
        ("\n" * 4, "Math", True),
        ("\n" * 5, "Math", False),
        ("a\r\n" * 5, "", False),
        ("\n" * 5, None, False),
        ("\n" * 50, "Coding & Debugging", True),
        ("\n" * 50, "coding & debugging", False),
        (None, "Coding & Debugging", False),
    ],
)
def test_only_code_may_have_many_lines(text, category, passes):
    row = {"instruction": text, "task_category": category}
    assert FewerNewlines(5).fails(row) is not passes


def test_without_an_exception_the_category_is_not_needed():
    assert FewerNewlines(5, "").columns == ("instruction",)
    assert not FewerNewlines(5, "").fails({"instruction": "\n"})
    assert FewerNewlines(1, "").fails({"instruction": "\n"})


def test_texts_and_flags():
    language, safe = OneOf("language", ("EN", "ZH")), IsTrue("safe")
    passing = [
        value
        for value in ("EN", "ZH", "en", "", None, 3, ["EN"])
        if not language.fails({"language": value})
    ]
    assert passing == ["EN", "ZH"]
    assert [safe.fails({"safe": value}) for value in (True, False, None, "true", 1)] == [
        False,
        True,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("rule", EXAMPLES, ids=repr)
def test_a_row_without_the_columns_fails(rule):
    assert rule.fails({})
    assert rule.fails({"response": "text"})


# As data


@pytest.mark.parametrize("rule", EXAMPLES, ids=repr)
def test_rules_survive_as_dicts(rule):
    data = rule_as_dict(rule)
    assert rule_from_dict(data) == rule
    assert not any(isinstance(value, tuple) for value in data.values())
    assert all(type(value) in (str, int, float, list) for value in data.values())


def test_every_kind_has_an_example_a_word_and_a_text():
    assert {type(rule) for rule in EXAMPLES} == set(KINDS.values())
    assert all(rule.name and rule.text for rule in EXAMPLES)
    assert LevelAtLeast("input_quality", Difficulty.EASY.value.replace("easy", "good"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "level_above"}, "no rule of the kind 'level_above'.*level_at_least"),
        ({}, "no rule of the kind None.*is_true"),
        ("safe", "a rule is 'safe'"),
        ({"kind": "is_true"}, "lacks 'column'"),
        ({"kind": "is_true", "column": "language"}, "cannot read the column 'language'.*safe"),
        ({"kind": "is_true", "column": ["safe"]}, "cannot read the column"),
        ({"kind": "is_true", "column": "safe", "values": []}, "has no 'values'; it has column"),
        (
            {"kind": "level_at_least", "column": "difficulty", "least": "good"},
            "'good' is no difficulty.*very easy, easy, medium, hard, very hard",
        ),
        ({"kind": "level_at_least", "column": "quality", "least": "good"}, "input_quality"),
        ({"kind": "number_above", "column": "reward", "bound": 1}, "instruct_reward"),
        ({"kind": "number_above", "column": "turns", "bound": "1"}, "'1'; give a finite number"),
        ({"kind": "number_at_least", "column": "turns", "bound": math.nan}, "finite"),
        ({"kind": "number_at_least", "column": "turns", "bound": True}, "finite"),
        ({"kind": "one_of", "column": "language", "values": "EN"}, "give a list of texts"),
        ({"kind": "one_of", "column": "language", "values": ["EN", False]}, "in quotes"),
        ({"kind": "one_of", "column": "language", "values": []}, "give a list of texts"),
        ({"kind": "not_ending_with", "ending": ""}, "give a text"),
        ({"kind": "not_ending_with", "ending": ": "}, "leave it out"),
        ({"kind": "fewer_newlines", "below": 0}, "at least 1"),
        ({"kind": "fewer_newlines", "below": 2.0}, "at least 1"),
        (
            {"kind": "fewer_newlines", "below": 5, "except_category": "Coding"},
            "no category 'Coding'.*Coding & Debugging",
        ),
    ],
)
def test_wrong_rules_are_refused_and_say_what_is_right(data, message):
    with pytest.raises(ValueError, match=message):
        rule_from_dict(data)
