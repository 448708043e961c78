"""How are a dataset's rows read for a review?"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.exports import SIDES
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.prompts import category_prompts
from magpie_steps.review.sample import COLUMNS, HAS_TEXT
from magpie_steps.review.values import text_of
from magpie_steps.shards import read_json
from magpie_steps.sources import parquet_files

Row = Mapping[str, Any]

_TEXTS = ("instruction", "instruction_raw")

_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("uuid", "drop_reason", *_TEXTS), "text"),
    "keep": "true or false",
}
"""What columns hold that would be read wrongly as anything else."""


class Rows:
    """The rows of a dataset repository on disk, read in parts whenever they are gone through.

    Args:
        folder: A run's output folder, or another with parquet files in our columns.

    Raises:
        FileNotFoundError: If there is no such folder, or it has no parquet files.
        ValueError: If the files have no column uuid or none with texts, or hold something else than
            those have.
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
        for field in self.schema:
            _check_kind(field, folder)

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
    return json_object(folder / "run.json", "let the run write it again")


def json_object(path: Path, remedy: str) -> Mapping[str, Any]:
    """Return a JSON object that a file holds, {} if there is no such file or it holds another.

    Args:
        path: The file.
        remedy: What mends one that is no JSON, for the error.

    Raises:
        ValueError: If it is no JSON.
    """
    try:
        content = read_json(path, remedy)
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}


def system_prompts(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of system prompts by key: the package's own, and those that a run used.

    Args:
        run: What ``run.json`` says, in which "system_prompts" may be missing.
    """
    used = run.get("system_prompts")
    texts = {
        key: text_of(prompt.get("text"))
        for key, prompt in (used.items() if isinstance(used, dict) else ())
        if isinstance(prompt, dict)
    }
    return {**category_prompts(), **{key: text for key, text in texts.items() if text}}


def _files(folder: Path) -> list[Path]:
    """Return the files with all rows: those of a run, or both sides of a filtered dataset."""
    sides = [path for side in SIDES for path in sorted((folder / side).glob("*.parquet"))]
    return sides if sides and not (folder / "data").is_dir() else parquet_files(folder)


def _check_kind(field: Any, folder: Path) -> None:
    wanted = _KINDS.get(field.name)
    if wanted and not pa.types.is_null(field.type) and _kind(field.type) != wanted:
        raise ValueError(
            f"the column {field.name} in {folder} holds {str(field.type)[:100]}, not {wanted};"
            f" write it as {'bool' if wanted == _KINDS['keep'] else 'string'}"
        )


def _kind(kind: Any) -> str:
    """Return what a column of an Arrow type holds, "" for anything else."""
    if pa.types.is_boolean(kind):
        return "true or false"
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return "text" if pa.types.is_string(inner) or pa.types.is_large_string(inner) else ""


def _as_text(column: Any) -> Any:
    return pc.fill_null(pc.cast(column, pa.string()), "")
