"""Small tables: highest, lowest, totals, counts, order."""

import re
from random import Random

from magpie_steps.embedded.dialogues.facts import DAYS, NAMES
from magpie_steps.embedded.dialogues.grammar import (
    Drawn,
    Family,
    FollowUp,
    Number,
    Pool,
    Several,
    Values,
)
from magpie_steps.embedded.dialogues.judging import last_number, names_only

_SUBJECT = Pool(("sales", "visitors", "orders", "points", "calls", "guests"))
_NUMBERS = Several(Number(1, 60), 3, 4)


def _draw_table(rng: Random) -> str:
    keys = rng.sample(rng.choice((DAYS, NAMES)), 3)
    return ", ".join(
        f"{key} {number}" for key, number in zip(keys, rng.sample(range(1, 60), 3), strict=True)
    )


def _table(values: Values) -> dict[str, int]:
    return {
        key: int(number)
        for key, number in (cell.split(" ") for cell in values["table"].split(", "))
    }


def _is_table(values: Values) -> bool:
    table = _table(values)
    keys = set(table)
    return len(set(table.values())) == 3 and (keys <= set(DAYS) or keys <= set(NAMES))


def _extreme(values: Values) -> str:
    table = _table(values)
    pick = max if values["most"] == "most" else min
    return pick(table, key=table.__getitem__)


def _numbers(values: Values) -> list[int]:
    return [int(number) for number in values["numbers"].split(", ")]


def _in_range(values: Values) -> bool:
    numbers = _numbers(values)
    return len(numbers) in (3, 4) and max(numbers) <= 60


def _sorted(values: Values) -> str:
    backwards = values["order"] == "largest to smallest"
    return ", ".join(map(str, sorted(_numbers(values), reverse=backwards)))


def _which(values: Values) -> int:
    return (max if values["which"] == "largest" else min)(_numbers(values))


def _count(values: Values) -> int:
    return sum(number > int(values["limit"]) for number in _numbers(values))


def _lookup(values: Values) -> int:
    return _table(values).get(values["key"], -1)


_TABLE = Drawn(r"\w+ \d+(?:, \w+ \d+){2}", _draw_table)

FAMILIES = (
    Family(
        name="table_extreme",
        category="data_analysis",
        phrasings=(
            "Here are the {subject}: {table}. Who or what had the {most} {subject}?",
            "Look at these {subject}: {table}. Which entry has the {most}?",
            "{table}. Which one has the {most} {subject}?",
        ),
        slots={"subject": _SUBJECT, "table": _TABLE, "most": Pool(("most", "least"))},
        answer=lambda values, _: (
            f"{_extreme(values)} has the {values['most']} with {_table(values)[_extreme(values)]}."
        ),
        is_correct=lambda values, answer: names_only(answer, _extreme(values), _table(values)),
        valid=_is_table,
        follow_ups=(FollowUp("And which has the {most}?"),),
    ),
    Family(
        name="sort_numbers",
        category="data_analysis",
        phrasings=(
            "Sort these numbers from {order}: {numbers}",
            "Put {numbers} in order from {order}.",
            "Order the values {numbers} from {order}.",
        ),
        slots={
            "numbers": _NUMBERS,
            "order": Pool(("smallest to largest", "largest to smallest")),
        },
        answer=lambda values, _: _sorted(values),
        is_correct=lambda values, answer: (
            re.findall(r"\d+", answer) == re.findall(r"\d+", _sorted(values))
        ),
        valid=_in_range,
        statement=lambda values, answer: f"{values['numbers']} from {values['order']}: {answer}",
        follow_ups=(
            FollowUp("Now from {order}."),
            FollowUp("And {numbers}?"),
        ),
    ),
    Family(
        name="largest_number",
        category="data_analysis",
        phrasings=(
            "What is the {which} of these numbers: {numbers}?",
            "Find the {which} value in {numbers}.",
        ),
        slots={"numbers": _NUMBERS, "which": Pool(("largest", "smallest"))},
        answer=lambda values, _: f"The {values['which']} is {_which(values)}.",
        is_correct=lambda values, answer: last_number(answer) == _which(values),
        valid=_in_range,
        statement=lambda values, _: (
            f"The {values['which']} of {values['numbers']} is {_which(values)}."
        ),
        follow_ups=(FollowUp("And the {which}?"), FollowUp("And in {numbers}?")),
    ),
    Family(
        name="count_above",
        category="data_analysis",
        phrasings=(
            "How many of these numbers are above {limit}: {numbers}?",
            "Count the values greater than {limit} in {numbers}.",
        ),
        slots={"numbers": _NUMBERS, "limit": Pool(("10", "20", "30", "40", "50"))},
        answer=lambda values, _: f"The count is {_count(values)}.",
        is_correct=lambda values, answer: last_number(answer) == _count(values),
        valid=_in_range,
        statement=lambda values, _: (
            f"Of {values['numbers']}, {_count(values)} are above {values['limit']}."
        ),
        follow_ups=(FollowUp("And above {limit}?"),),
    ),
    Family(
        name="table_lookup",
        category="data_analysis",
        phrasings=(
            "These are the {subject}: {table}. How many {subject} are there for {key}?",
            "Given the {subject} {table}, what is the value for {key}?",
        ),
        slots={"subject": _SUBJECT, "table": _TABLE, "key": Pool((*DAYS, *NAMES))},
        answer=lambda values, _: f"{values['key']} has {_lookup(values)} {values['subject']}.",
        is_correct=lambda values, answer: last_number(answer) == _lookup(values),
        valid=lambda values: _is_table(values) and values["key"] in _table(values),
        follow_ups=(FollowUp("And for {key}?"),),
    ),
)
