"""How are the rows of parquet files read and written in bounded memory, with their own columns?"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from magpie_steps.shards import ROWS_PER_FILE, ROWS_PER_GROUP, remove_shards

BATCH_BYTES = 32 * 2**20
"""About how large a batch of rows is in memory."""

BATCH_ROWS = 16_384
"""Most rows of a batch."""

BUFFER_BYTES = 2**20
"""How much of a column is read at once; without it a whole row group would be."""


def schema_of_files(paths: Sequence[Path]) -> Any:
    """Return the `pyarrow.Schema` that all the files have.

    Raises:
        ValueError: If a file is no parquet file, or has other columns than the first.
    """
    schemas = [_schema(path) for path in paths]
    for path, schema in zip(paths, schemas, strict=True):
        if not schema.equals(schemas[0]):
            differing = {field.name for field in set(schema) ^ set(schemas[0])}
            raise ValueError(
                f"{path} and {paths[0]} differ in the columns"
                f" {', '.join(sorted(differing)) or 'by their order'}; filter files with the same"
                " columns, one kind at a time"
            )
    return schemas[0]


def batches(paths: Sequence[Path], names: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield the files' rows as record batches, in order.

    Args:
        paths: The files.
        names: The columns to read, None for all.
    """
    for path in paths:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
            size = _batch_rows(file.metadata, names)
            yield from file.iter_batches(batch_size=size, columns=names)


def _schema(path: Path) -> Any:
    try:
        return pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no parquet file: {error}") from None


def _batch_rows(metadata: Any, names: Sequence[str] | None) -> int:
    """Return how many rows make a batch, by how large they are on average."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = 0
    for group in groups:
        chunks = [group.column(number) for number in range(group.num_columns)]
        size += sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if names is None or chunk.path_in_schema.partition(".")[0] in names
        )
    rows = int(BATCH_BYTES * max(metadata.num_rows, 1) // max(size, 1))
    return max(1, min(BATCH_ROWS, rows))


class ShardWriter:
    """Writes record batches to the numbered parquet files of a folder.

    The files are written beside their place and renamed into it when the `with` block ends without
    an error; then an earlier run's are removed. Without any rows there is no file, since `datasets`
    cannot open one without rows.

    Args:
        folder: Where to write; made if it does not exist.
        schema: The batches' `pyarrow.Schema`.
    """

    def __init__(self, folder: Path, schema: Any) -> None:
        self._folder = folder
        self._schema = schema
        self._scratch = folder.with_name(f".{folder.name}.tmp")
        self._files = 0
        self._rows = 0
        self._writer: Any = None
        self._waiting: list[Any] = []

    def __enter__(self) -> Self:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        return self

    def write(self, batch: Any) -> None:
        """Write a record batch; it waits until there are enough rows for a row group."""
        while batch.num_rows:
            waiting = sum(each.num_rows for each in self._waiting)
            part = batch.slice(0, ROWS_PER_GROUP - waiting)
            batch = batch.slice(part.num_rows)
            self._waiting.append(part)
            large = sum(each.nbytes for each in self._waiting) >= BATCH_BYTES
            if large or waiting + part.num_rows == ROWS_PER_GROUP:
                self._write_group()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                if self._waiting:
                    self._write_group()
                self._close_file()
                self._move()
            elif self._writer is not None:
                self._writer.close()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _write_group(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._scratch / str(self._files), self._schema)
            self._files += 1
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._writer.write_table(table)
        self._waiting = []
        self._rows += table.num_rows
        if self._rows >= ROWS_PER_FILE:
            self._close_file()

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._rows = None, 0

    def _move(self) -> None:
        if self._files:
            self._folder.mkdir(parents=True, exist_ok=True)
        names = [f"train-{n:05d}-of-{self._files:05d}.parquet" for n in range(self._files)]
        for number, name in enumerate(names):
            os.replace(self._scratch / str(number), self._folder / name)
        remove_shards(self._folder, keep=names)
