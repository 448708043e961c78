"""What becomes of each row of parquet files?

Only the columns that the recipe needs are read. A row takes three numbers: the place of its drop
reason and, if it passes the rules and the longest are wanted, its length and its part.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from magpie_steps import reasons
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.filtering.masks import fulfilled
from magpie_steps.filtering.origins import as_numbers, as_texts, computed, is_numeric
from magpie_steps.recipes import LONGEST, RECIPES, Recipe
from magpie_steps.row_schemas import OURS, Origin, Schema, schema_of
from magpie_steps.rules import NumberAbove, NumberAtLeast
from magpie_steps.selection import Counts, choose_longest, tally

MOST = 2.0**53
"""The largest number up to which every length is told from the next one."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What becomes of a dataset's rows.

    Attributes:
        codes: For each row the place of its drop reason in `reasons`, a NumPy array.
        reasons: The drop reasons; the first is "", for rows that are kept.
        counts: The counts.
    """

    codes: Any
    reasons: list[str]
    counts: Counts


def decide(paths: Sequence[Path], recipe: Recipe) -> Decisions:
    """Decide what becomes of the rows of parquet files.

    Args:
        paths: The files, in the rows' order.
        recipe: The recipe.

    Raises:
        ValueError: If the files have not the columns that the recipe needs, or something else than
            numbers where it compares numbers.
        OSError: If a file cannot be read.
    """
    files = schema_of_files(paths)
    present = files.names
    schema = schema_of(present)
    origins = origins_for(recipe, schema, present)
    _check_numbers(recipe, origins, files)
    marks = ("keep", "drop_reason") if schema is OURS else ()
    read = [name for origin in origins.values() for name in origin.columns]
    # Without a column to read, batches would have no rows.
    names = list(dict.fromkeys([*read, *marks])) or present[:1]
    deciding = _Deciding(recipe)
    for batch in batches(paths, names):
        deciding.add(computed(origins, batch, deciding.rows), batch, marked=bool(marks))
    return deciding.end()


def origins_for(recipe: Recipe, schema: Schema, present: Sequence[str]) -> dict[str, Origin]:
    """Return where the columns that a recipe needs come from.

    Args:
        recipe: The recipe.
        schema: The dataset's schema.
        present: The dataset's columns.

    Raises:
        ValueError: If it has not all of them; names the recipes that would work.
    """
    needed = _needed(recipe)
    found = {name: schema.origin(name, present) for name in needed}
    if missing := [name for name, origin in found.items() if origin is None]:
        lacks = ", ".join(f"{name} (read from {schema.names(name)})" for name in missing)
        works = [
            name
            for name, each in RECIPES.items()
            if all(schema.origin(column, present) for column in _needed(each))
        ]
        raise ValueError(
            f"the recipe {recipe.name} needs columns that the dataset, in the schema of"
            f" {schema.name}, has not: {lacks}; the recipes that it has all columns for:"
            f" {', '.join(works) or 'none'}"
        )
    return {name: origin for name, origin in found.items() if origin is not None}


def _check_numbers(recipe: Recipe, origins: dict[str, Origin], files: Any) -> None:
    """Refuse a column without numbers for a rule about numbers: every row would fail it."""
    for rule in recipe.rules:
        if not isinstance(rule, NumberAbove | NumberAtLeast):
            continue
        origin = origins[rule.column]
        kind = files.field(origin.columns[0]).type
        if origin.how == "copy" and not (is_numeric(kind) or pa.types.is_null(kind)):
            raise ValueError(
                f"the recipe {recipe.name} compares {rule.column}, but the column"
                f" {origin.columns[0]} holds {kind}; give a dataset with numbers there"
            )


def _needed(recipe: Recipe) -> list[str]:
    return [*recipe.columns, *([] if recipe.longest is None else ["response_length"])]


@dataclass(slots=True)
class _Deciding:
    """The decisions so far."""

    recipe: Recipe
    rows: int = 0
    fails: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)
    lengths: list[Any] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        words = [*(rule.name for rule in self.recipe.rules), LONGEST]
        self.reasons = ["", *map(reasons.recipe_reason, words)]

    def add(self, arrays: dict[str, Any], batch: Any, *, marked: bool) -> None:
        """Decide a batch's rows, but for their length."""
        codes = self._carried(batch) if marked else np.zeros(len(batch), np.int32)
        carried = codes != 0
        for number, rule in enumerate(self.recipe.rules, 1):
            failing = ~fulfilled(rule, arrays) & ~carried
            self.fails[rule.name] += int(failing.sum())
            codes[failing & (codes == 0)] = number
        self.codes.append(codes)
        self.rows += len(batch)
        if self.recipe.longest is not None:
            lengths = np.nan_to_num(as_numbers(arrays["response_length"]), posinf=0, neginf=0)
            # Numbers that are no lengths may be beyond integers.
            self.lengths.append(lengths.clip(-MOST, MOST).astype(np.int64)[codes == 0])
            self.parts.append(self._parts(arrays, len(batch))[codes == 0])

    def end(self) -> Decisions:
        """Choose the longest and return the decisions."""
        codes = np.concatenate([np.zeros(0, np.int32), *self.codes])
        if self.lengths:
            lengths, parts = np.concatenate(self.lengths), np.concatenate(self.parts)
            chosen = choose_longest(lengths.tolist(), parts.tolist(), self.recipe.quotas())
            passing = np.flatnonzero(codes == 0)
            codes[passing] = self.reasons.index(reasons.recipe_reason(LONGEST))
            codes[passing[chosen]] = 0
        numbers = np.bincount(codes, minlength=len(self.reasons)).tolist()
        by_reason: Counter[str] = Counter()
        for reason, number in zip(self.reasons, numbers, strict=True):
            by_reason[reason] += number
        return Decisions(codes, self.reasons, tally(self.recipe, by_reason, self.fails))

    def _carried(self, batch: Any) -> Any:
        """Return the codes of the rows that a step before dropped, 0 for the others.

        What another recipe removed is decided anew.
        """
        keep = batch.column("keep")
        if not pa.types.is_boolean(keep.type):
            return np.zeros(len(batch), np.int32)
        dropped = ~keep.fill_null(True).to_numpy(zero_copy_only=False)
        codes = np.zeros(len(batch), np.int32)
        given = as_texts(batch.column("drop_reason")).filter(pa.array(dropped)).dictionary_encode()
        words = [word or reasons.NO_INSTRUCTION for word in given.dictionary.to_pylist()]
        places = np.array([self._place(word) for word in [*words, reasons.NO_INSTRUCTION]])
        codes[dropped] = places[given.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)]
        return codes

    def _place(self, reason: str) -> int:
        """Return the place of a carried reason, 0 for a recipe's."""
        if reasons.is_recipe_reason(reason):
            return 0
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def _parts(self, arrays: dict[str, Any], rows: int) -> Any:
        """Return the rows' shares, as `Recipe.part` does."""
        if not self.recipe.shares:
            return np.zeros(rows, np.int8)
        parts = np.full(rows, -1, np.int8)
        for number, share in enumerate(self.recipe.shares):
            parts[fulfilled(share.rule, arrays) & (parts == -1)] = number
        return parts
