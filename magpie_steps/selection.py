"""Which rows does a recipe keep?

The last operation, the longest responses, needs all rows, so a selection is of a whole dataset.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from magpie_steps import reasons
from magpie_steps.recipes import LONGEST, Recipe
from magpie_steps.rules import Row, is_number


@dataclass(frozen=True, slots=True)
class Counts:
    """What a recipe did; read = kept + the sum of ``removed``.

    Attributes:
        read: Rows in all.
        kept: Rows that are kept.
        removed: Rows that are not, by drop reason, most frequent first; also those that a step
            before had dropped.
        fails: Rows that each rule alone fails, by its word, in the recipe's order; those that a
            step before had dropped are not looked at.
    """

    read: int
    kept: int
    removed: dict[str, int]
    fails: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return the counts as names and values."""
        removed = [(f"  {reason}", f"{n:,}") for reason, n in self.removed.items()]
        fails = [(f"  {rule}", f"{n:,}") for rule, n in self.fails.items()]
        return [
            ("rows read", f"{self.read:,}"),
            ("rows kept", f"{self.kept:,}"),
            ("rows removed, by the first reason", f"{self.read - self.kept:,}"),
            *removed,
            *([("rows that each rule alone fails", "")] if fails else []),
            *fails,
        ]


@dataclass(frozen=True, slots=True)
class Selection:
    """What becomes of some rows.

    Attributes:
        reasons: Each row's drop reason, "" for a row that is kept, in their order.
        counts: The counts.
    """

    reasons: list[str]
    counts: Counts


def select(recipe: Recipe, rows: Sequence[Row]) -> Selection:
    """Apply a recipe to rows.

    One that a step before dropped stays so, with its reason; what another recipe removed is decided
    anew.
    """
    found = [carried_into(row) for row in rows]
    fails: Counter[str] = Counter()
    passing = []
    for place, row in enumerate(rows):
        if found[place]:
            continue
        failing = recipe.failing(row)
        fails.update(failing)
        if failing:
            found[place] = reasons.recipe_reason(failing[0])
        else:
            passing.append(place)
    if recipe.longest is not None:
        lengths = [length_of(rows[place]) for place in passing]
        parts = [recipe.part(rows[place]) for place in passing]
        chosen = set(choose_longest(lengths, parts, recipe.quotas()))
        for number, place in enumerate(passing):
            found[place] = "" if number in chosen else reasons.recipe_reason(LONGEST)
    return Selection(found, tally(recipe, Counter(found), fails))


def carried_into(row: Row) -> str:
    """Return why a row is lost to any recipe, "" for one that a recipe decides on."""
    carried = reasons.carried_by(row)
    return "" if reasons.is_recipe_reason(carried) else carried


def choose_longest(
    lengths: Sequence[int], parts: Sequence[int], quotas: Sequence[int]
) -> list[int]:
    """Choose the longest rows of each part; of equally long ones the earlier.

    Args:
        lengths: Each row's length.
        parts: Each row's part, as a place in the quotas; -1 for none, which is not chosen.
        quotas: How many rows of each part are chosen at most.

    Returns:
        The places of the chosen rows, in order.
    """
    left = dict(enumerate(quotas))
    chosen = []
    # Sorting is stable, in reverse too: of equally long rows the earlier comes first.
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if left.get(parts[place], 0) > 0:
            left[parts[place]] -= 1
            chosen.append(place)
    return sorted(chosen)


def length_of(row: Row) -> int:
    """Return a response's length in characters, 0 without one.

    That is what the column of lengths says, or, without such a column, what the response has.
    """
    if "response_length" not in row:
        response = row.get("response")
        return len(response) if isinstance(response, str) else 0
    length = row["response_length"]
    return int(length) if is_number(length) and isfinite(length) else 0


def tally(recipe: Recipe, by_reason: Counter[str], fails: Counter[str]) -> Counts:
    """Return the counts of rows.

    Args:
        recipe: The recipe.
        by_reason: Rows by drop reason, "" for those that are kept.
        fails: Rows that each rule fails, by its word.
    """
    removed = Counter({reason: n for reason, n in by_reason.items() if reason and n})
    return Counts(
        read=by_reason.total(),
        kept=by_reason[""],
        removed=dict(removed.most_common()),
        fails={rule.name: fails[rule.name] for rule in recipe.rules},
    )
