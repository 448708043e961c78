"""How do rows become the files of a folder?

Every file is written beside its place and renamed into it, so a reader never meets half a file.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from magpie_steps.column_types import ColumnType

ROWS_PER_FILE = 100_000
"""Rows per parquet file; a Hub viewer reads files of up to some hundred megabytes well."""

BYTES_PER_FILE = 500 * 10**6
"""About how large the rows of a file are before compression, as in `datasets`' own uploads."""

ROWS_PER_GROUP = 10_000
"""Rows of a row group, which is what is in memory at once."""

BYTES_PER_GROUP = 64 * 2**20
"""About how large a row group is before compression; one of long rows has fewer rows."""

ROWS_PER_BATCH = 256
"""Rows that are converted to Arrow at once, as that costs too much for each alone."""

PARQUET: Mapping[str, Any] = {
    # Text is about a third smaller than with snappy, the default; every reader of today knows it.
    "compression": "zstd",
    # A reader of some rows, as the Hub's viewer, then skips the other pages of a row group.
    "write_page_index": True,
    # Pages end where their content says: the Hub stores those that a new version repeats only once.
    "use_content_defined_chunking": True,
}
"""How parquet files are written."""

_SHARD = re.compile(r"train-\d{5}-of-\d{5}\.parquet")


class ShardWriter:
    """Writes rows to the numbered parquet files of a folder, a row group at a time.

    The files are written beside their place and renamed into it when the `with` block ends without
    an error; then an earlier run's are removed. Several may be open at once.

    Args:
        folder: Where to write; made if it does not exist.
        columns: Every column's type, or the `pyarrow.Schema`.
        allow_empty: Whether no rows at all make a file without rows. Else they make none, since
            `datasets` cannot open one.

    Raises:
        ValueError: If the folder's name is not UTF-8.
    """

    def __init__(
        self, folder: Path, columns: Mapping[str, ColumnType] | Any, *, allow_empty: bool = False
    ) -> None:
        # Arrow would take a relative path's ~ for a home.
        self._folder = folder = folder.absolute()
        check_name(folder)
        self._schema = arrow_schema(columns) if isinstance(columns, Mapping) else columns
        self._allow_empty = allow_empty
        self._scratch = folder.with_name(f".{folder.name}.tmp")
        self._rows: list[Mapping[str, Any]] = []
        self._group: list[Any] = []
        self._group_size = _Size()
        self._file: Any = None
        self._file_size = _Size()
        self._files = 0

    def __enter__(self) -> Self:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
            elif self._file is not None:
                self._file.close()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row; what the columns do not name is left out, what it lacks is null."""
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_BATCH:
            self._convert()

    def write_batch(self, batch: Any) -> None:
        """Write a `pyarrow.RecordBatch` of the writer's schema."""
        self._convert()
        self._add(batch)

    def _convert(self) -> None:
        import pyarrow as pa

        if self._rows:
            batch = pa.RecordBatch.from_pylist(self._rows, schema=self._schema)
            self._rows = []
            self._add(batch)

    def _add(self, batch: Any) -> None:
        """Let a batch wait until there are enough rows for a row group."""
        while batch.num_rows:
            room = min(ROWS_PER_GROUP, ROWS_PER_FILE - self._file_size.rows) - self._group_size.rows
            part = batch.slice(0, room)
            batch = batch.slice(part.num_rows)
            self._group.append(part)
            self._group_size.add(part)
            if part.num_rows == room or self._group_size.bytes >= BYTES_PER_GROUP:
                self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetWriter(self._scratch / str(self._files), self._schema, **PARQUET)
            self._files += 1
        table = pa.Table.from_batches(self._group, self._schema)
        self._file.write_table(table)
        self._file_size.add(table)
        self._group, self._group_size = [], _Size()
        if self._file_size.rows >= ROWS_PER_FILE or self._file_size.bytes >= BYTES_PER_FILE:
            self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._file_size = None, _Size()

    def _finish(self) -> None:
        self._convert()
        if self._group or (self._allow_empty and not self._files):
            self._write_group()
        self._close_file()
        if self._files:
            self._folder.mkdir(parents=True, exist_ok=True)
        # The number of files, which their names tell, is known at the very end.
        names = [f"train-{n:05d}-of-{self._files:05d}.parquet" for n in range(self._files)]
        for number, name in enumerate(names):
            os.replace(self._scratch / str(number), self._folder / name)
        remove_shards(self._folder, keep=names)


@dataclass(slots=True)
class _Size:
    """How much is in a row group or a file so far."""

    rows: int = 0
    bytes: int = 0

    def add(self, part: Any) -> None:
        self.rows += part.num_rows
        self.bytes += part.nbytes


def check_name(path: Path) -> None:
    """Check that a path is text, as Arrow takes no other.

    Raises:
        ValueError: If it is not.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the path {str(path)!r} is not UTF-8; give another name") from None


def shard_files(folder: Path) -> list[Path]:
    """Return the numbered files of a folder, in order."""
    return sorted(path for path in folder.glob("*.parquet") if _SHARD.fullmatch(path.name))


def remove_shards(folder: Path, keep: Iterable[str] = ()) -> None:
    """Remove an earlier run's files from a folder, and the folder when nothing is left in it."""
    kept = frozenset(keep)
    for path in shard_files(folder):
        if path.name not in kept:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run had begun to write in a folder, and in those directly in it."""
    for path in (*folder.glob(".*.tmp"), *folder.glob("[!.]*/.*.tmp")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    _replace(path, lambda target: target.write_text(text, encoding="utf-8"))


def read_json(path: Path, remedy: str) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file.
        remedy: What mends one that is no JSON, for the error.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no JSON, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is no JSON of ours: nested too deeply; {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}; {remedy}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file."""
    _replace(path, lambda target: target.write_bytes(content))


def arrow_schema(types: Mapping[str, ColumnType]) -> Any:
    """Return the `pyarrow.Schema` of columns with these types."""
    import pyarrow as pa

    return pa.schema([(name, _arrow_type(kind)) for name, kind in types.items()])


def _arrow_type(kind: ColumnType) -> Any:
    import pyarrow as pa

    if isinstance(kind, str):
        return pa.bool_() if kind == "bool" else pa.type_for_alias(kind)
    if isinstance(kind, list):
        return pa.list_(_arrow_type(kind[0]))
    return pa.struct([(name, _arrow_type(inner)) for name, inner in kind.items()])


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then move it there in one step."""
    target = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(target)
        os.replace(target, path)
    finally:
        target.unlink(missing_ok=True)
