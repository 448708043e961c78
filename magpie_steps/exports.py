"""Which files does a trainer read without any preparation?

An export is a configuration of the dataset repository beside the default one: the kept rows in a
trainer's own format, with nothing but the trainer's columns, the row's id and a pair's scores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from magpie_steps import columns
from magpie_steps.column_types import ColumnType
from magpie_steps.columns import MESSAGES
from magpie_steps.conversation import USER, count_turns, find_fault
from magpie_steps.preference import kto_rows, preference_rows, sft_row
from magpie_steps.shards import ShardWriter, remove_shards

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


def _multi_turn_rows(row: Row) -> list[Row]:
    """Return a row's conversation if it has two finished turns, without a last unanswered one."""
    messages = row["messages"]
    if find_fault(messages):
        return []
    finished = messages[:-1] if messages[-1]["role"] == USER else messages
    turns = count_turns(finished)
    return [{"messages": finished, "turns": turns}] if turns > 1 else []


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
    "multi_turn": Export(
        types=_types("messages", "turns"),
        examples=_multi_turn_rows,
        needs="messages",
        producer=columns.TURN_WRITERS,
        use="conversations of two turns or more, without a last one that has no answer",
    ),
}
"""Every export by the name of its folder and configuration."""


SIDES: Mapping[str, bool] = {"filtered": True, "removed": False}
"""The configurations of the rows that a recipe keeps and of those that it does not."""

EMBEDDINGS = "embeddings"
"""The configuration of the instructions' embeddings, written only if it is asked for."""

REVIEWED, REVIEWED_PREFERENCE = "reviewed", "reviewed_preference"
"""The configurations of what people judged; they are written when verdicts come back."""

OTHERS: tuple[str, ...] = (*SIDES, *EXPORTS, EMBEDDINGS, REVIEWED, REVIEWED_PREFERENCE)
"""Every configuration but the default one; the folder of each has its name."""

_USES = {
    "default": "every row with all its columns, kept or not",
    "filtered": "the rows that the recipe keeps",
    "removed": "the other rows, with their `drop_reason`",
    EMBEDDINGS: "the instructions' embeddings by `uuid`, as `float16`",
    REVIEWED: "the rows that people judged, with their labels beside the machine's",
    REVIEWED_PREFERENCE: "pairs of answers that people ranked, blind",
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


@contextmanager
def open_exports(folder: Path, names: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    """Open exports of a dataset repository for writing, all of them at once.

    They take the place of an earlier run's when the `with` block ends without an error; one without
    examples leaves no file.

    Args:
        folder: The repository.
        names: The exports.

    Yields:
        What adds a row's examples to each export; the row counts if it is kept.
    """
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                ShardWriter(folder / name, {"uuid": "string", **export.types})
            )
            for name, export in EXPORTS.items()
            if name in names
        }
        yield partial(_add_examples, writers)
    for name in EXPORTS.keys() - writers.keys():
        remove_shards(folder / name)


def config(name: str, folder: str) -> dict[str, Any]:
    """Return a configuration of the repository for the card's front matter."""
    return {
        "config_name": name,
        "data_files": [{"split": "train", "path": f"{folder}/*.parquet"}],
    }


def use_of(name: str) -> str:
    """Return what a configuration is for, in Markdown."""
    return EXPORTS[name].use if name in EXPORTS else _USES[name]


def _add_examples(writers: Mapping[str, ShardWriter], row: Row) -> None:
    """Write a kept row's examples, each with the row's id."""
    if row["keep"]:
        for name, writer in writers.items():
            for example in EXPORTS[name].examples(row):
                writer.write({"uuid": row.get("uuid", ""), **example})
