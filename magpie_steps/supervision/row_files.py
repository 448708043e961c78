"""How the rows of the leaf steps become datasets: Arrow files on disk with one schema each.

A column's type is only known once every row has been seen: the first rows may hold nothing but
`None` or `[]` in it, or lack it altogether. Rows are therefore written with the schema known so
far, a wider schema starts a new file, and at the end the narrower files are written again.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from magpie_steps.supervision.messages import FAILED_ROW, collector_paused

ROWS_PER_WRITE = 2_000

Row = dict[str, Any]

_logger = logging.getLogger(__name__)


class ColumnTypeError(ValueError):
    """A column holds values of types that no Arrow type has in common."""


class LeafWriter:
    """Writes one leaf step's rows, in the order of its batches' numbers.

    Attributes:
        rows: rows added so far.
        failed: how many of them some step failed on, by `"step: error"`.
    """

    def __init__(self, step: str, folder: Path) -> None:
        self.step = step
        self.rows = 0
        self.failed: dict[str, int] = {}
        self._folder = folder
        self._next_batch = 0
        self._early: dict[int, list[Row]] = {}  # replicas may overtake each other
        self._buffer: list[Row] = []
        self._schema: pa.Schema = pa.schema([])
        self._files: list[Path] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, number: int, rows: list[Row]) -> None:
        """Take the rows of the batch with this number (from 0, without gaps in the end)."""
        self._early[number] = rows
        self.rows += len(rows)
        while self._next_batch in self._early:
            self._buffer.extend(self._early.pop(self._next_batch))
            self._next_batch += 1

    def write(self, *, everything: bool = False) -> None:
        """Write the buffered rows once they are many, or all of them."""
        if everything:
            for number in sorted(self._early):
                self._buffer.extend(self._early.pop(number))
        if self._buffer and (everything or len(self._buffer) >= ROWS_PER_WRITE):
            rows, self._buffer = self._buffer, []
            with collector_paused():
                self._write_table(self._to_table(rows))

    def finish(self) -> list[Path]:
        """Write what is left and return the files, in order, all of one schema."""
        self.write(everything=True)
        self._close()
        for file in self._files:
            with pa.memory_map(str(file)) as source:
                reader = pa.ipc.open_stream(source)
                if reader.schema.equals(self._schema):
                    continue
                table = _conform(reader.read_all(), self._schema)
                wider = file.with_suffix(".wider")
                with pa.ipc.new_stream(str(wider), self._schema) as writer:
                    writer.write_table(table)
            wider.replace(file)
        return list(self._files)

    def _to_table(self, rows: list[Row]) -> pa.Table:
        for row in rows:
            if (reason := row.pop(FAILED_ROW, None)) is not None:
                self.failed[reason] = self.failed.get(reason, 0) + 1
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: self._to_array(name, rows) for name in names})

    def _to_array(self, name: str, rows: list[Row]) -> pa.Array | pa.ChunkedArray:
        values = [row.get(name) for row in rows]
        try:
            return pa.array(values)
        except UnicodeEncodeError:
            _logger.warning(
                "step %r: texts in column %r hold half a surrogate pair, which no file can; U+FFFD"
                " stands for it",
                self.step,
                name,
            )
            return pa.array([_encodable(value) for value in values])
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise ColumnTypeError(
                f"column {name!r} of step {self.step!r} cannot become an Arrow column: {error}; "
                "give every row a value of one type in it"
            ) from error

    def _write_table(self, table: pa.Table) -> None:
        schema = self._widen(table.schema)
        if self._writer is None or not schema.equals(self._schema):
            self._close()
            self._schema = schema
            self._files.append(self._folder / f"part-{len(self._files):05d}.arrow")
            self._writer = pa.ipc.new_stream(str(self._files[-1]), schema)
        self._writer.write_table(_conform(table, schema))

    def _widen(self, schema: pa.Schema) -> pa.Schema:
        try:
            return pa.unify_schemas([self._schema, schema], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise ColumnTypeError(
                f"the rows of step {self.step!r} do not agree on a column's type: {error}; "
                "give every row a value of one type in it"
            ) from error

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_rows(files: Iterable[Path]) -> datasets.Dataset:
    """The files as one dataset, memory-mapped: the files must stay where they are."""
    parts = [datasets.Dataset.from_file(str(file)) for file in files]
    if not parts:
        return datasets.Dataset.from_dict({})
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _encodable(value: Any) -> Any:
    """The value with its texts as UTF-8 can have them."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return value


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly the schema's columns; it holds no column that the schema lacks."""
    if table.schema.equals(schema):
        return table
    columns = [_conform_column(table, field) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _conform_column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    column = table.column(field.name)
    if column.type.equals(field.type):
        return column
    # Arrow cannot cast every null nested in lists and structs; values can always be read again.
    return pa.array(column.to_pylist(), type=field.type)
