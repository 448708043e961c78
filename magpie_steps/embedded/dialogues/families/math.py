"""Sums, differences, doubles, a small times table, unit conversion."""

from magpie_steps.embedded.dialogues.facts import UNITS
from magpie_steps.embedded.dialogues.grammar import Family, FollowUp, Number, Pool, Values
from magpie_steps.embedded.dialogues.numbers import says


def _sum(values: Values) -> int:
    return int(values["a"]) + int(values["b"])


def _difference(values: Values) -> int:
    return int(values["a"]) - int(values["b"])


def _product(values: Values) -> int:
    return int(values["a"]) * int(values["b"])


def _small_ones(values: Values) -> int:
    return int(values["a"]) * UNITS[values["large"], values["small"]]


FAMILIES = (
    Family(
        name="addition",
        category="math",
        phrasings=(
            "What is {a} plus {b}?",
            "Calculate {a} + {b}.",
            "Add {a} and {b}.",
            "What is the sum of {a} and {b}?",
            "How much is {a} + {b}?",
        ),
        slots={"a": Number(2, 99), "b": Number(2, 9)},
        answer=lambda values, _: f"{values['a']} + {values['b']} = {_sum(values)}",
        is_correct=says(_sum),
        follow_ups=(
            FollowUp("And what is {a} plus {b}?"),
            FollowUp("Now add {b} to {a}."),
            FollowUp("What if I add {b} instead?"),
        ),
    ),
    Family(
        name="subtraction",
        category="math",
        phrasings=(
            "What is {a} minus {b}?",
            "Calculate {a} - {b}.",
            "Subtract {b} from {a}.",
            "What is the difference between {a} and {b}?",
        ),
        slots={"a": Number(9, 99), "b": Number(2, 9)},
        answer=lambda values, _: f"{values['a']} - {values['b']} = {_difference(values)}",
        is_correct=says(_difference),
        follow_ups=(
            FollowUp("And what is {a} minus {b}?"),
            FollowUp("What if I subtract {b} instead?"),
        ),
    ),
    Family(
        name="doubling",
        category="math",
        phrasings=("What is double {a}?", "Double the number {a}.", "What is twice {a}?"),
        slots={"a": Number(2, 99)},
        answer=lambda values, _: f"Double {values['a']} is {2 * int(values['a'])}.",
        is_correct=says(lambda values: 2 * int(values["a"])),
        follow_ups=(FollowUp("And double {a}?"),),
    ),
    Family(
        name="times_table",
        category="math",
        phrasings=("What is {a} times {b}?", "Multiply {a} by {b}.", "Calculate {a} * {b}."),
        slots={"a": Number(2, 9), "b": Number(2, 9)},
        answer=lambda values, _: f"{values['a']} * {values['b']} = {_product(values)}",
        is_correct=says(_product),
        follow_ups=(FollowUp("And what is {a} times {b}?"), FollowUp("And times {b}?")),
        holds_out=False,
    ),
    Family(
        name="unit_conversion",
        category="math",
        phrasings=(
            "How many {small} are in {a} {large}?",
            "Convert {a} {large} to {small}.",
            "How many {small} is {a} {large}?",
        ),
        slots={
            "a": Number(2, 99),
            "large": Pool(tuple(sorted({large for large, _ in UNITS}))),
            "small": Pool(tuple(sorted({small for _, small in UNITS}))),
        },
        answer=lambda values, _: (
            f"{values['a']} {values['large']} is {_small_ones(values)} {values['small']}."
        ),
        is_correct=says(_small_ones),
        valid=lambda values: (values["large"], values["small"]) in UNITS,
        follow_ups=(FollowUp("And {a} {large}?"),),
    ),
)
