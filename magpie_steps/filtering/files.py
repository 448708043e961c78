"""How are the rows of parquet files read in bounded memory?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from magpie_steps.shards import check_name

BATCH_BYTES = 32 * 2**20
"""About how large a batch of rows is in memory."""

BATCH_ROWS = 16_384
"""Most rows of a batch."""

BUFFER_BYTES = 2**20
"""How much of a column is read at once; without it a whole row group would be."""


def schema_of_files(paths: Sequence[Path]) -> Any:
    """Return the `pyarrow.Schema` that all the files have.

    Raises:
        ValueError: If a file is no parquet file, has other columns than the first, two of one
            name, or a name that is not UTF-8.
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
        with (
            _faults_told(path),
            pq.ParquetFile(path.absolute(), buffer_size=BUFFER_BYTES, pre_buffer=False) as file,
        ):
            size = _batch_rows(file.metadata, names)
            for batch in file.iter_batches(batch_size=size, columns=names):
                yield batch.cast(_without_views(batch.schema))


def _schema(path: Path) -> Any:
    check_name(path)
    with _faults_told(path):
        # Of a relative path's ~ Arrow would make a home.
        schema = _without_views(pq.read_schema(path.absolute()))
    if twice := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise ValueError(f"{path} has several columns {twice[0]!r}; leave one alone")
    return schema


@contextmanager
def _faults_told(path: Path) -> Iterator[None]:
    """Name the file in an error of Arrow's; the system's own errors do."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        said = " ".join(str(error).split())
        raise kind(f"{path} is no parquet file: {said}; write it again") from None


def _without_views(schema: Any) -> Any:
    """Return a schema without the views that Polars writes: Arrow cannot take rows of them."""
    fields = [field.with_type(_without_view(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def _without_view(kind: Any) -> Any:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind):
        return pa.list_(_inner(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_inner(kind.value_field))
    if pa.types.is_struct(kind):
        return pa.struct([_inner(field) for field in kind])
    return kind


def _inner(field: Any) -> Any:
    return field.with_type(_without_view(field.type))


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
