"""How do our rows get the columns of a published dataset?

Rows are read, changed and written a batch at a time, so that a dataset need not fit into memory.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from magpie_steps.export_schemas.published import PublishedSchema
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.filtering.origins import as_texts
from magpie_steps.row_schemas import OURS, schema_of
from magpie_steps.shards import ShardWriter

NO_REASON = "no_reason_given"
"""What is counted for a row that is not kept and does not say why."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was exported; read = written + the sum of ``left_out``.

    Attributes:
        read: Rows in all.
        written: Rows that were written.
        left_out: Rows that were not, by drop reason, most frequent first.
    """

    read: int
    written: int
    left_out: dict[str, int]

    def lines(self) -> list[tuple[str, str]]:
        """Return the counts as names and values."""
        left_out = [(f"  {reason}", f"{n:,}") for reason, n in self.left_out.items()]
        return [
            ("rows read", f"{self.read:,}"),
            ("rows written", f"{self.written:,}"),
            ("rows left out, by the first reason", f"{self.read - self.written:,}"),
            *left_out,
        ]


def export_files(
    paths: Sequence[Path], published: PublishedSchema, folder: Path, *, kept_only: bool = True
) -> Counts:
    """Write rows with the columns of a published dataset.

    Args:
        paths: Parquet files with our columns, in the rows' order.
        published: The published columns.
        folder: Where the files go; without any rows there is no file.
        kept_only: Whether to leave out the rows that are not kept.

    Raises:
        ValueError: If the files have not our columns, or one holds what its published one cannot.
        OSError: If a file cannot be read or written.
    """
    present = schema_of_files(paths).names
    if (schema := schema_of(present)) is not OURS:
        raise ValueError(
            f"{paths[0]} has the columns of {schema.name}; only a dataset of {OURS.name} is"
            " exported, one with the columns keep and drop_reason"
        )
    columns = published.columns_for(present)
    needed = {"keep", "drop_reason"}.union(*(column.reads for column in columns))
    by_reason: Counter[str] = Counter()
    target = pa.schema([(column.name, column.type) for column in columns])
    with ShardWriter(folder, target) as writer:
        for batch in batches(paths, [name for name in present if name in needed]):
            if kept_only:
                batch = _kept(batch, by_reason)
            by_reason[""] += len(batch)
            arrays = [column.values(batch) for column in columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=target))
    return _counts(by_reason)


def _kept(batch: Any, by_reason: Counter[str]) -> Any:
    """Return the kept rows of a batch and count the reasons of the others."""
    keep = batch.column("keep")
    if not pa.types.is_boolean(keep.type):
        return batch
    kept = keep.fill_null(True).to_numpy(zero_copy_only=False)
    words = as_texts(batch.column("drop_reason")).filter(pa.array(~kept)).to_pylist()
    by_reason.update(word or NO_REASON for word in words)
    return batch.filter(pa.array(kept))


def _counts(by_reason: Counter[str]) -> Counts:
    """Return the counts of rows by their drop reason, "" for those that were written."""
    left_out = Counter({reason: n for reason, n in by_reason.items() if reason})
    return Counts(by_reason.total(), by_reason[""], dict(left_out.most_common()))
