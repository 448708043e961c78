"""How do rows become a Hub dataset repository on disk?

The folder holds what would be uploaded and nothing else: ``README.md`` (the card), ``data/``
(parquet files), ``run.json`` and a folder of parquet files per export.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from magpie_steps import columns, shards
from magpie_steps.card import Filtered, RunRecord, card
from magpie_steps.conversation import count_turns, turn_columns
from magpie_steps.exports import (
    SIDES,
    check_exports,
    sides_with_rows,
    write_exports,
)
from magpie_steps.recipes import Recipe
from magpie_steps.selection import rule_counts
from magpie_steps.summary import Summary, replayed


def write_repository(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    summary: Summary,
    record: RunRecord,
    exports: Sequence[str] = (),
    recipe: Recipe | None = None,
) -> None:
    """Write card, data and ``run.json`` to a folder, in place of what an earlier run wrote there.

    Args:
        folder: Where to write; made if it does not exist.
        rows: The rows; a column that they lack is left out of the files. Turns after the first
            get columns of their own, up to the longest conversation's.
        summary: Their counts.
        record: What to say about the run.
        exports: The kept rows in trainers' formats beside the default configuration: "sft",
            "preference", "kto".
        recipe: What chose the kept rows: these and the others are then configurations of their own,
            "filtered" and "removed".

    Raises:
        FileExistsError: If the folder holds something else than an earlier run's output.
        OSError: If the folder cannot be written.
        ValueError: If there is no such export, or the rows lack what it needs.
    """
    check_exports(exports, rows)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards.write_text(folder / "run.json", run_json(summary, record, recipe))
    n_turns = longest_conversation(rows)
    names = published_names(rows, n_turns)
    types = {name: columns.described(name).type for name in names}
    shards.write_shards(folder / "data", _with_turns(rows, n_turns), types)
    removed = summary.generated - summary.kept
    sides = sides_with_rows(summary.kept, removed) if recipe else []
    for name, kept in SIDES.items():
        if name in sides:
            side = (row for row in _with_turns(rows, n_turns) if row["keep"] is kept)
            shards.write_shards(folder / name, side, types)
        else:
            shards.remove_shards(folder / name)
    write_exports(folder, rows, exports)
    sample = next((row for row in _with_turns(rows, n_turns) if row["keep"]), None)
    filtered = Filtered(recipe, rule_counts(recipe, rows)) if recipe else None
    shards.write_text(folder / "README.md", card(summary, record, names, sample, exports, filtered))


def longest_conversation(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the most turns of a row's messages, at least 1."""
    return max((count_turns(row.get("messages") or ()) for row in rows), default=1) or 1


def published_names(rows: Sequence[Mapping[str, Any]], n_turns: int) -> list[str]:
    """Return the columns of the default configuration: those of the rows, then of later turns."""
    names = [name for name in columns.NAMES if not rows or name in rows[0]]
    return [*names, *turn_columns((), n_turns)]


def _with_turns(rows: Iterable[Mapping[str, Any]], n_turns: int) -> Iterator[Mapping[str, Any]]:
    """Yield the rows with the columns of later turns."""
    for row in rows:
        yield {**row, **turn_columns(row.get("messages") or (), n_turns)}


def check_folder(folder: Path, sign: str = "run.json", whose: str = "a run") -> None:
    """Check that a folder is new, empty or an earlier output, and can be written.

    Args:
        folder: The folder.
        sign: The file that every output has.
        whose: What wrote it, for the error.

    Raises:
        FileExistsError: If it holds something else.
        PermissionError: If it cannot be written.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise FileExistsError(f"{nearest} is a file, not a folder; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{nearest} may not be written to; choose another folder")
    foreign = sorted(p.name for p in folder.glob("*") if not p.name.startswith("."))
    if foreign and sign not in foreign:
        raise FileExistsError(
            f"{folder} holds {foreign[0]} but no {sign}, so it is not {whose}'s output and nothing"
            " is overwritten; choose another folder"
        )


def run_json(summary: Summary, record: RunRecord, recipe: Recipe | None = None) -> str:
    """Return the text of ``run.json``; `recipe` is what chose the kept rows."""
    effort = record.effort
    per_second = summary.generated / effort.seconds if effort.seconds > 0 else 0.0
    content = {
        "title": record.title,
        "model": record.model,
        "generator": record.generator,
        "versions": dict(record.versions),
        "settings": dict(record.settings),
        "pre_query_template": record.template,
        **({"recipe": recipe.as_dict()} if recipe else {}),
        "counts": summary.as_dict(),
        "completions": {
            "generated": effort.completions,
            "replayed": replayed(summary, effort.completions),
            "all_runs": record.completions_of_all_runs,
        },
        "seconds": round(effort.seconds, 3),
        "rows_per_second": round(per_second, 3),
        "effort": effort.as_dict(summary.kept),
        "engines": [dict(engine) for engine in record.engines],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def arrow_schema(names: Iterable[str] = columns.NAMES) -> Any:
    """Return the columns as a `pyarrow.Schema`, in their order in `magpie_steps.columns`."""
    wanted = frozenset(names)
    return shards.arrow_schema({c.name: c.type for c in columns.COLUMNS if c.name in wanted})
