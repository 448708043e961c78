"""Which files does a trainer read without any preparation?

An export is a configuration of the dataset repository beside the default one: the kept rows in a
trainer's own format, with nothing but the trainer's columns, the row's id and a pair's scores.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie_steps import columns
from magpie_steps.column_types import ColumnType
from magpie_steps.columns import MESSAGES
from magpie_steps.preference import kto_rows, preference_rows, sft_row
from magpie_steps.shards import remove_shards, write_shards

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """One export.

    Attributes:
        types: The columns besides the row's id, with their types.
        examples: Returns the trainer's examples of a row, none or several.
        needs: The column that rows must have.
        producer: The components that write it.
        use: What it is for, as the card says it.
    """

    types: Mapping[str, ColumnType]
    examples: Callable[[Row], Sequence[Row]]
    needs: str
    producer: str
    use: str


def _sft_rows(row: Row) -> list[Row]:
    example = sft_row(row)
    return [example] if example["messages"] else []


def _types(*names: str) -> dict[str, ColumnType]:
    return {name: columns.described(name).type for name in names}


EXPORTS: Mapping[str, Export] = {
    "sft": Export(
        types=_types("messages"),
        examples=_sft_rows,
        needs="messages",
        producer=columns.described("messages").producer,
        use="conversations to imitate, for TRL's `SFTTrainer`",
    ),
    "preference": Export(
        types=_types(
            "prompt", "chosen", "rejected", "chosen_score", "rejected_score", "score_margin"
        ),
        examples=preference_rows,
        needs="chosen",
        producer="FormatPreference",
        use="pairs of a better and a worse answer, for TRL's `DPOTrainer`",
    ),
    "kto": Export(
        types={"prompt": MESSAGES, "completion": MESSAGES, "label": "bool"},
        examples=kto_rows,
        needs="chosen",
        producer="FormatPreference",
        use="single answers labelled good or bad, for TRL's `KTOTrainer`",
    ),
}
"""Every export by the name of its folder and configuration."""


SIDES: Mapping[str, bool] = {"filtered": True, "removed": False}
"""The configurations of the rows that a recipe keeps and of those that it does not."""

_SIDE_USES = {
    "filtered": "the rows that the recipe keeps",
    "removed": "the other rows, with their `drop_reason`",
}


def sides_with_rows(kept: int, removed: int) -> list[str]:
    """Return those of `SIDES` that have rows; `datasets` cannot open one without."""
    return [side for side, keeps in SIDES.items() if (kept if keeps else removed)]


def check_exports(names: Sequence[str], rows: Sequence[Row]) -> None:
    """Check that exports exist and that rows have what they need.

    Raises:
        ValueError: If one does not exist, or the rows lack its column.
    """
    for name in names:
        if name not in EXPORTS:
            raise ValueError(f"there is no export {name!r}; there are {', '.join(EXPORTS)}")
        export = EXPORTS[name]
        if rows and export.needs not in rows[0]:
            raise ValueError(
                f"the export {name!r} needs the column {export.needs!r}, which the rows lack;"
                f" add one of the steps {export.producer} to the pipeline or leave the export out"
            )


def write_exports(folder: Path, rows: Iterable[Row], names: Sequence[str]) -> None:
    """Write exports to a dataset repository and remove those of an earlier run.

    Args:
        folder: The repository.
        rows: The rows; gone through once per export.
        names: The exports.
    """
    for name, export in EXPORTS.items():
        if name in names:
            types: dict[str, ColumnType] = {"uuid": "string", **export.types}
            write_shards(folder / name, _examples(rows, export), types)
        else:
            remove_shards(folder / name)


def config(name: str, folder: str) -> dict[str, Any]:
    """Return a configuration of the repository for the card's front matter."""
    return {
        "config_name": name,
        "data_files": [{"split": "train", "path": f"{folder}/*.parquet"}],
    }


def usage(names: Sequence[str]) -> str:
    """Return a Markdown list that says how each configuration is loaded."""
    lines = [
        "PATH is this repository's id or its folder.",
        "",
        "- `load_dataset(PATH)`: every row with all its columns, kept or not",
        *(f'- `load_dataset(PATH, "{name}")`: {_use(name)}' for name in names),
    ]
    return "\n".join(lines)


def _use(name: str) -> str:
    return _SIDE_USES[name] if name in SIDES else EXPORTS[name].use


def _examples(rows: Iterable[Row], export: Export) -> Iterator[Row]:
    """Yield the examples of the kept rows, each with its row's id."""
    for row in rows:
        if row["keep"]:
            for example in export.examples(row):
                yield {"uuid": row.get("uuid", ""), **example}
