"""Small tables: highest, lowest, totals, counts, order."""

import re
from random import Random

from magpie_steps.embedded.dialogues.facts import DAYS, NAMES
from magpie_steps.embedded.dialogues.grammar import Drawn, Family, FollowUp, Pool, Values
from magpie_steps.embedded.dialogues.judging import names_only
from magpie_steps.embedded.dialogues.numbers import NUMBER_LIST, draw_numbers, numbers_of, says

_SUBJECT = Pool(("sales", "visitors", "orders", "points", "calls", "guests"))


def _draw_table(rng: Random) -> str:
    days, names = sorted(rng.sample(DAYS, 3), key=DAYS.index), sorted(rng.sample(NAMES, 3))
    keys = rng.choice((days, names))
    cells = zip(keys, draw_numbers(rng, 3), strict=True)
    return ", ".join(f"{key}: {number}" for key, number in cells)


def _table(values: Values) -> dict[str, int]:
    return {
        key: int(number)
        for key, number in (cell.split(": ") for cell in values["table"].split(", "))
    }


def _is_table(values: Values) -> bool:
    table = _table(values)
    keys = set(table)
    values_differ = len(set(table.values())) == 3
    return values_differ and (keys <= set(DAYS) or keys <= set(NAMES))


def _extreme(values: Values) -> str:
    table = _table(values)
    pick = max if values["most"] == "most" else min
    return pick(table, key=table.__getitem__)


def _sorted(values: Values) -> str:
    backwards = values["order"] == "largest to smallest"
    return ", ".join(map(str, sorted(numbers_of(values), reverse=backwards)))


def _which(values: Values) -> int:
    return (max if values["which"] == "largest" else min)(numbers_of(values))


def _above(values: Values) -> list[int]:
    return [number for number in numbers_of(values) if number > int(values["limit"])]


def _list_above(values: Values) -> str:
    above = _above(values)
    return f"{', '.join(map(str, above)) or 'None'} above {values['limit']}: {len(above)}"


def _lookup(values: Values) -> int:
    return _table(values).get(values["key"], -1)


_TABLE = Drawn(r"\w+: [1-9]\d?(?:, \w+: [1-9]\d?){2}", _draw_table)

FAMILIES = (
    Family(
        name="table_extreme",
        category="data_analysis",
        phrasings=(
            "Here are the {subject}: {table}. Who or what had the {most} {subject}?",
            "Look at these {subject}: {table}. Which entry has the {most}?",
            "In the list {table}, which one has the {most} {subject}?",
        ),
        slots={"subject": _SUBJECT, "table": _TABLE, "most": Pool(("most", "least"))},
        answer=lambda values, _: (
            f"The {values['most']} is {_extreme(values)}: {_table(values)[_extreme(values)]}"
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
            "numbers": NUMBER_LIST,
            "order": Pool(("smallest to largest", "largest to smallest")),
        },
        answer=lambda values, _: _sorted(values),
        is_correct=lambda values, answer: (
            re.findall(r"\d+", answer) == re.findall(r"\d+", _sorted(values))
        ),
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
        slots={"numbers": NUMBER_LIST, "which": Pool(("largest", "smallest"))},
        answer=lambda values, _: f"The {values['which']} is {_which(values)}.",
        is_correct=says(_which),
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
        slots={"numbers": NUMBER_LIST, "limit": Pool(("20", "30", "40", "50", "60", "70"))},
        answer=lambda values, _: _list_above(values),
        is_correct=says(lambda values: len(_above(values))),
        statement=lambda values, _: (
            f"Of {values['numbers']}, {len(_above(values))} are above {values['limit']}."
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
        answer=lambda values, _: f"The entry is {values['key']}: {_lookup(values)}",
        is_correct=says(_lookup),
        valid=lambda values: _is_table(values) and values["key"] in _table(values),
        follow_ups=(FollowUp("And for {key}?"),),
    ),
)
