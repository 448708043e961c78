"""What the families' answers and judges are made of. No test on a text ever raises."""

import re
from collections.abc import Iterable, Sequence
from random import Random


def last_number(text: str) -> int | None:
    """The last whole number in a text, or None."""
    numbers = re.findall(r"-?\d+", text)
    return int(numbers[-1]) if numbers else None


def has_word(text: str, word: str) -> bool:
    """Whether `word` (one or more words) stands in the text as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def names_only(text: str, right: str, others: Iterable[str]) -> bool:
    """Whether the text names the right one of several and none of the others."""
    return has_word(text, right) and not any(
        has_word(text, other) for other in others if other != right
    )


def numbered_lines(text: str) -> list[str] | None:
    """The texts of the lines `1. ...`, `2. ...`, or None where a line breaks the counting."""
    texts: list[str] = []
    for number, line in enumerate(text.strip().split("\n"), start=1):
        match = re.fullmatch(rf"{number}\. (.+)", line)
        if not match:
            return None
        texts.append(match.group(1))
    return texts


def lists_different(text: str, count: int, allowed: Sequence[str]) -> bool:
    """Whether the text is a numbered list of `count` different allowed items."""
    items = numbered_lines(text)
    return (
        items is not None
        and len(items) == count
        and len(set(items)) == count
        and set(items) <= set(allowed)
    )


def some_of(items: Sequence[str], count: int, rng: Random) -> list[str]:
    """Draw `count` different items and keep their order, so that a list never comes back on itself.

    In random order the likeliest next item would always be the same one: greedy lists would repeat.
    """
    return [items[i] for i in sorted(rng.sample(range(len(items)), count))]


def as_numbered_lines(items: Sequence[str]) -> str:
    """Write items as `1. ...` lines."""
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
