"""How are a dataset's rows read for a review?"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.exports import SIDES
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.review.sample import COLUMNS, HAS_TEXT
from magpie_steps.sources import parquet_files

Row = Mapping[str, Any]

_TEXTS = ("instruction", "instruction_raw")


class Rows:
    """The rows of a dataset repository on disk, read in parts whenever they are gone through.

    Args:
        folder: A run's output folder, or another with parquet files in our columns.

    Raises:
        FileNotFoundError: If there is no such folder, or it has no parquet files.
        ValueError: If the files have no column uuid or none with texts.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}; give a run's output folder")
        self.paths = _files(folder)
        self.schema = schema_of_files(self.paths)
        missing = [name for name in ("uuid", "instruction") if name not in self.schema.names]
        if missing:
            raise ValueError(
                f"the rows in {folder} have no column {' or '.join(missing)} but"
                f" {', '.join(self.schema.names)}; give the output folder of magpie-steps"
            )

    def for_choice(self) -> Iterator[Row]:
        """Yield all rows with the columns that a sample is chosen by."""
        present = self.schema.names
        names = [name for name in (*COLUMNS, *_TEXTS) if name in present]
        for batch in batches(self.paths, names):
            texts = [
                pc.fill_null(pc.utf8_length(_as_text(batch.column(t))), 0)
                for t in names
                if t in _TEXTS
            ]
            lengths = texts[0] if len(texts) == 1 else pc.add(*texts)
            light = batch.select([name for name in names if name in COLUMNS])
            for row, length in zip(light.to_pylist(), lengths.to_pylist(), strict=True):
                yield {**row, HAS_TEXT: length > 0}

    def chosen(self, uuids: Collection[str]) -> Iterator[Row]:
        """Yield those of the rows that have one of the ids."""
        wanted = pa.array(sorted(uuids), pa.string())
        for batch in batches(self.paths):
            mask = pc.is_in(_as_text(batch.column("uuid")), value_set=wanted)
            yield from batch.filter(mask).to_pylist()


def run_record(folder: Path) -> Mapping[str, Any]:
    """Return what ``run.json`` says about a run, {} without one."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}; let the run write it again") from None
    return content if isinstance(content, dict) else {}


def _files(folder: Path) -> list[Path]:
    """Return the files with all rows: those of a run, or both sides of a filtered dataset."""
    sides = [path for side in SIDES for path in sorted((folder / side).glob("*.parquet"))]
    return sides if sides and not (folder / "data").is_dir() else parquet_files(folder)


def _as_text(column: Any) -> Any:
    return pc.fill_null(pc.cast(column, pa.string()), "")
