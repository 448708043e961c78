"""What are the rows of all shards, read without having them all in memory?"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from magpie_steps import columns
from magpie_steps.filtering.decisions import Decisions
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.merging.neighbours import Nearness
from magpie_steps.merging.parts import Part
from magpie_steps.shards import ShardWriter, arrow_schema

Row = dict[str, Any]


class MergedRows(Sequence[Row]):
    """The rows of parquet files, read in parts whenever they are gone through.

    Args:
        files: The files, in the rows' order.
        rows: How many rows they have.
        decisions: What a recipe decides about each row, None if none does.
    """

    def __init__(self, files: Sequence[Path], rows: int, decisions: Decisions | None) -> None:
        self._files = files
        self._rows = rows
        self._decisions = decisions

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        first = 0
        for batch in batches(self._files):
            rows = batch.to_pylist()
            yield from rows if self._decisions is None else _decided(rows, first, self._decisions)
            first += len(rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        places = range(self._rows)[index]
        if isinstance(places, int):
            return next(row for place, row in enumerate(self) if place == places)
        wanted = set(places)
        found = {place: row for place, row in enumerate(self) if place in wanted}
        return [found[place] for place in places]


def _decided(rows: list[Row], first: int, decisions: Decisions) -> Iterator[Row]:
    codes = decisions.codes[first : first + len(rows)].tolist()
    for row, code in zip(rows, codes, strict=True):
        yield {**row, "keep": code == 0, "drop_reason": decisions.reasons[code]}


def columns_of(parts: Sequence[Part]) -> list[str]:
    """Return the columns of the shards' rows, but for those of later turns, which follow from them.

    Raises:
        ValueError: If they are not the same in all shards.
    """
    found = {part.folder: set(schema_of_files(part.files).names) for part in parts if part.files}
    (folder, first), *others = found.items()
    for other, names in others:
        if differing := sorted((first ^ names) & set(columns.NAMES)):
            raise ValueError(
                f"the rows in {folder} and {other} differ in the columns {', '.join(differing)};"
                " run the shards with one release"
            )
    return [name for name in columns.NAMES if name in first]


def join(parts: Sequence[Part], names: Sequence[str], near: Nearness | None, folder: Path) -> None:
    """Write the rows of all shards to parquet files, in their order.

    Args:
        parts: The shards, all of them, in order.
        names: The columns to write.
        near: What is known of the rows' neighbours instead of what the shards say, None if they say
            nothing.
        folder: Where to write; what is there is replaced.
    """
    schema = arrow_schema({name: columns.described(name).type for name in names})
    first = 0
    with ShardWriter(folder, schema, allow_empty=True) as writer:
        for part in parts:
            for batch in batches(part.files, names):
                rows = slice(first, first + len(batch))
                first += len(batch)
                found = {name: batch.column(name) for name in names}
                found |= near.columns(rows) if near else {}
                arrays = [found[field.name].cast(field.type) for field in schema]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def check_rows(parts: Sequence[Part]) -> None:
    """Check that each shard has all its rows once, in order.

    Raises:
        ValueError: If one has not.
    """
    for part in parts:
        own, done = part.shard.rows, 0
        for batch in batches(part.files, ["row"]):
            numbers = batch.column("row").to_numpy(zero_copy_only=False)
            expected = np.arange(own.start + done, own.start + done + len(batch))
            if not np.array_equal(numbers, expected):
                wrong = int(np.flatnonzero(numbers != expected)[0])
                raise ValueError(
                    f"{part.folder} has row {numbers[wrong]} where row {expected[wrong]} should be;"
                    " run that shard again"
                )
            done += len(batch)
        if done != len(own):
            raise ValueError(
                f"{part.folder} has {done:,} rows, but the shard {part.shard} of"
                f" {part.shard.all_rows:,} rows has {len(own):,}; run that shard again"
            )
