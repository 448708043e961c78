"""How do rows become the files of a folder?

Every file is written beside its place and renamed into it, so a reader never meets half a file.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from magpie_steps.column_types import ColumnType

ROWS_PER_FILE = 100_000
"""Rows per parquet file; a Hub viewer reads files of up to some hundred megabytes well."""

ROWS_PER_GROUP = 10_000
"""Rows that are in memory at once; a file holds a multiple of them."""

_SHARD = re.compile(r"train-\d{5}-of-\d{5}\.parquet")


def write_shards(
    folder: Path, rows: Iterable[Mapping[str, Any]], types: Mapping[str, ColumnType]
) -> None:
    """Write rows to numbered parquet files, in place of those that an earlier run wrote.

    Args:
        folder: Where to write; made if it does not exist.
        rows: The rows, taken one by one; what `types` does not name is left out.
        types: Every column's type, in the files' order.
    """
    schema = arrow_schema(types)
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        # A file's number of rows is known at its end, the number of files at the very end.
        size = min(ROWS_PER_GROUP, ROWS_PER_FILE)
        groups, files = _groups(rows, size), 0
        while (first := next(groups, None)) is not None or not files:
            rest = islice(groups, ROWS_PER_FILE // size - 1)
            _write_file(scratch / str(files), chain([first or []], rest), schema)
            files += 1
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"train-{number:05d}-of-{files:05d}.parquet" for number in range(files)]
        for number, name in enumerate(names):
            os.replace(scratch / str(number), folder / name)
    finally:
        shutil.rmtree(scratch)
    remove_shards(folder, keep=names)


def _groups(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    source = iter(rows)
    while part := [dict(row) for row in islice(source, size)]:
        yield part


def _write_file(path: Path, groups: Iterable[list[dict[str, Any]]], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        for group in groups:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def remove_shards(folder: Path, keep: Iterable[str] = ()) -> None:
    """Remove an earlier run's files from a folder, and the folder when nothing is left in it."""
    kept = frozenset(keep)
    for path in folder.glob("*.parquet"):
        if _SHARD.fullmatch(path.name) and path.name not in kept:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    _replace(path, lambda target: target.write_text(text, encoding="utf-8"))


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
