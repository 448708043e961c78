"""Which answers of a row are compared, behind which names?

Blind: the names A, B, C ... are given by chance, and the order is the key that gives a verdict back
its meaning.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from magpie_steps.conversation import ASSISTANT, Message
from magpie_steps.preference import SOURCES
from magpie_steps.review.settings import ANSWER_NAMES


def comparable(row: Mapping[str, Any], messages: Sequence[Message]) -> dict[str, str]:
    """Return a row's answers by where they stand; {} if there are not two different ones.

    Those are the sampled responses if there are several, else the response and the base response.
    A conversation of several turns has none: its later messages would tell which answer they
    follow.

    Args:
        row: The row.
        messages: Its conversation.

    Returns:
        Texts by column; of a column of lists also by position, from 0: "responses 2".
    """
    return {} if _has_later_answers(messages) else _several(row)


def is_uncompared(row: Mapping[str, Any], messages: Sequence[Message]) -> bool:
    """Return whether a row has different answers that its later turns keep from being compared."""
    return _has_later_answers(messages) and bool(_several(row))


def blinded(answers: Mapping[str, str], seed: int, uuid: str) -> dict[str, str]:
    """Return the same answers in an order that depends on the seed and the row alone."""
    names = sorted(answers)
    random.Random(f"{seed}:{uuid}:answers").shuffle(names)
    return {name: answers[name] for name in names}


def named(answers: Mapping[str, str]) -> dict[str, str]:
    """Return answers in their order by the names under which reviewers see them.

    Raises:
        ValueError: If there are more than names.
    """
    if len(answers) > len(ANSWER_NAMES):
        raise ValueError(
            f"a row has {len(answers)} answers to compare; reviewers can compare at most"
            f" {len(ANSWER_NAMES)}: sample fewer responses"
        )
    return dict(zip(ANSWER_NAMES, answers.values(), strict=False))


def order_text(answers: Mapping[str, str]) -> str:
    """Return the order of answers as a record's metadata hold it."""
    return ",".join(answers)


def unblinded(order: str) -> dict[str, str]:
    """Return where the answer behind each name stands."""
    places = order.split(",") if order else []
    return dict(zip(ANSWER_NAMES, places, strict=False))


def _has_later_answers(messages: Sequence[Message]) -> bool:
    return sum(message["role"] == ASSISTANT for message in messages) > 1


def _several(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row's different answers by where they stand, {} if there are not two."""
    for source in SOURCES.values():
        found = _distinct(
            {
                place: text
                for column in source.answers
                for place, text in _texts(column, row.get(column))
            }
        )
        if len(found) > 1:
            return found
    return {}


def _texts(column: str, value: object) -> list[tuple[str, str]]:
    """Return the texts of a column's value, each with where it stands."""
    if isinstance(value, list):
        found = [(f"{column} {number}", text) for number, text in enumerate(value)]
    else:
        found = [(column, value)]
    return [(place, text) for place, text in found if isinstance(text, str) and text.strip()]


def _distinct(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts without those that an earlier one repeats."""
    found: dict[str, str] = {}
    for place, text in texts.items():
        found.setdefault(text.strip(), place)
    return {place: texts[place] for place in found.values()}
