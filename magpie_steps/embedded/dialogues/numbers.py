"""Lists of numbers in questions, and answers that come down to one number."""

from collections.abc import Callable
from random import Random

from magpie_steps.embedded.dialogues.grammar import Drawn, Values
from magpie_steps.embedded.dialogues.judging import last_number


def draw_numbers(rng: Random, count: int) -> list[int]:
    """Draw numbers of two digits, no two with the same first one: a glance tells their order."""
    return [10 * tens + rng.randrange(10) for tens in rng.sample(range(1, 10), count)]


def _draw_list(rng: Random) -> str:
    return ", ".join(map(str, draw_numbers(rng, rng.choice((3, 4)))))


NUMBER_LIST = Drawn(r"[1-9]\d?(?:, [1-9]\d?){2,3}", _draw_list)
"""Three or four numbers below a hundred."""


def numbers_of(values: Values) -> list[int]:
    """The numbers of the slot `numbers`."""
    return [int(number) for number in values["numbers"].split(", ")]


def says(result: Callable[[Values], int]) -> Callable[[Values, str], bool]:
    """A judge that wants `result` as the last number of the answer."""
    return lambda values, answer: last_number(answer) == result(values)
