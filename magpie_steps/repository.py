"""How do rows become a Hub dataset repository on disk?

The folder holds what would be uploaded and nothing else: ``README.md`` (the card), ``run.json``,
``pipeline.yaml``, a folder of parquet files per configuration (``data`` is the default one's),
``report.html`` and its figures.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from magpie_steps import columns, shards
from magpie_steps.card import card
from magpie_steps.card.record import Config, Contents, Filtered, RunRecord
from magpie_steps.card.revision import with_configs, with_section
from magpie_steps.column_types import ColumnType
from magpie_steps.conversation import turn_columns
from magpie_steps.exports import (
    EMBEDDINGS,
    OTHERS,
    REVIEWED,
    REVIEWED_PREFERENCE,
    SIDES,
    check_exports,
    open_exports,
    use_of,
)
from magpie_steps.recipes import Recipe
from magpie_steps.review.section import TITLE, review_section
from magpie_steps.review.standing import EarlierReview
from magpie_steps.selection import carried_into
from magpie_steps.summary import Summary, replayed

Row = Mapping[str, Any]

DEFAULT = "data"
"""The folder of the default configuration."""

REVIEW = "review.json"
"""What people found, if verdicts have come back."""


def write_repository(
    folder: Path,
    rows: Sequence[Row],
    summary: Summary,
    record: RunRecord,
    exports: Sequence[str] = (),
    recipe: Recipe | None = None,
    *,
    embeddings: Path | None = None,
    evaluation_sets: Sequence[str] = (),
    illustrated: bool = True,
) -> None:
    """Write card, data and ``run.json`` to a folder, in place of what an earlier run wrote there.

    What people found stays if all rows that they judged are there again with the same texts, else
    it goes; their verdicts are still in Argilla.

    Args:
        folder: Where to write; made if it does not exist.
        rows: The rows, gone through once; a column that they lack is left out of the files. Turns
            after the first get columns of their own, up to the longest conversation's.
        summary: Their counts.
        record: What to say about the run.
        exports: The kept rows in trainers' formats beside the default configuration: "sft",
            "multi_turn", "preference", "kto".
        recipe: What chose the kept rows: these and the others are then configurations of their own,
            "filtered" and "removed".
        embeddings: Where `NeighbourDistance` keeps the embeddings that become the configuration
            "embeddings", None for no such configuration.
        evaluation_sets: Files with prompts of benchmarks, which the report looks for.
        illustrated: Whether to draw figures for the card and a report, some seconds of work.

    Raises:
        FileExistsError: If the folder holds something else than an earlier run's output.
        OSError: If the folder cannot be written.
        ValueError: If there is no such export, or the rows lack what it needs.
    """
    check_exports(exports, rows)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards.remove_leftovers(folder)
    # First: the sign that the folder is ours, should the rest be cut short.
    shards.write_text(folder / "run.json", run_json(summary, record, recipe))
    names = published_names(rows, summary.longest_conversation)
    types = {name: columns.described(name).type for name in names}
    review = EarlierReview(folder)
    seen = _write_rows(
        folder, review.noting(rows), types, summary.longest_conversation, exports, recipe
    )
    if review.outdated:
        _remove_review(folder)
    _write_embeddings(folder / EMBEDDINGS, rows, embeddings)
    _write_pipeline(folder, record.pipeline)
    contents = Contents(
        configs=configs_in(folder),
        names=names,
        sample=seen.sample,
        filtered=Filtered(recipe, dict(seen.fails)) if recipe else None,
        sections=_review_section(folder),
    )
    if illustrated:
        contents = _illustrated(contents, folder, evaluation_sets)
    # Last: a card never promises files that are not there.
    shards.write_text(folder / "README.md", card(summary, record, contents))


@dataclass(slots=True)
class _Seen:
    """What is known when all rows are written.

    Attributes:
        sample: The first kept row.
        fails: Rows that each of the recipe's rules alone fails, by its word.
    """

    sample: Row | None = None
    fails: Counter[str] = field(default_factory=Counter)


def _write_rows(
    folder: Path,
    rows: Iterable[Row],
    types: Mapping[str, ColumnType],
    n_turns: int,
    exports: Sequence[str],
    recipe: Recipe | None,
) -> _Seen:
    """Write the rows to every configuration at once."""
    seen = _Seen(fails=Counter({rule.name: 0 for rule in recipe.rules} if recipe else {}))
    with ExitStack() as stack:
        every = stack.enter_context(shards.ShardWriter(folder / DEFAULT, types, allow_empty=True))
        sides = {
            keep: stack.enter_context(shards.ShardWriter(folder / name, types))
            for name, keep in SIDES.items()
            if recipe
        }
        add_examples = stack.enter_context(open_exports(folder, exports))
        for row in rows:
            whole = {**row, **turn_columns(row.get("messages") or (), n_turns)}
            every.write(whole)
            add_examples(row)
            if recipe:
                sides[bool(row["keep"])].write(whole)
                seen.fails.update(() if carried_into(row) else recipe.failing(row))
            if seen.sample is None and row["keep"]:
                seen.sample = whole
    if not recipe:
        for name in SIDES:
            shards.remove_shards(folder / name)
    return seen


def published_names(rows: Sequence[Row], n_turns: int) -> list[str]:
    """Return the columns of the default configuration: those of the rows, then of later turns."""
    names = [name for name in columns.NAMES if not rows or name in rows[0]]
    return [*names, *turn_columns((), n_turns)]


def configs_in(folder: Path) -> list[Config]:
    """Return the configurations that have files in a repository, the default one first.

    One without rows is none, since `datasets` cannot open it; the default one always is.
    """
    names = {"default": DEFAULT, **{name: name for name in OTHERS}}
    found = (_config(folder, name, path) for name, path in names.items())
    return [each for each in found if each.rows or each.name == "default"]


def _config(folder: Path, name: str, path: str) -> Config:
    import pyarrow.parquet as pq

    files = shards.shard_files(folder / path)
    metadata = [pq.read_metadata(file.absolute()) for file in files]
    groups = [each.row_group(n) for each in metadata for n in range(each.num_row_groups)]
    return Config(
        name=name,
        folder=path,
        use=use_of(name),
        rows=sum(each.num_rows for each in metadata),
        file_bytes=sum(file.stat().st_size for file in files),
        data_bytes=sum(group.total_byte_size for group in groups),
        schema=metadata[0].schema.to_arrow_schema() if metadata else None,
    )


def _write_embeddings(folder: Path, rows: Iterable[Row], store: Path | None) -> None:
    if store is None:
        shards.remove_shards(folder)
        return
    from magpie_steps.embeddings import write_embeddings  # NumPy, and only for this

    write_embeddings(folder, rows, store)


def _write_pipeline(folder: Path, pipeline: str) -> None:
    if pipeline:
        shards.write_text(folder / "pipeline.yaml", pipeline)
    else:
        (folder / "pipeline.yaml").unlink(missing_ok=True)


def _illustrated(contents: Contents, folder: Path, evaluation_sets: Sequence[str]) -> Contents:
    """Write the report of what was written, and take its figures for the card."""
    from magpie_steps.report import report  # slow, and only for this
    from magpie_steps.report.telling import for_card

    found = report(str(folder), folder, decontaminate=evaluation_sets, coverage=False)
    figures, title, text = for_card(found)
    return replace(contents, figures=figures, sections={title: text, **contents.sections})


def tell_review(folder: Path) -> None:
    """Let a repository's card say what people found, and list what they judged.

    A folder without a card stays so.

    Raises:
        OSError: If the card or ``review.json`` cannot be read or written.
    """
    path = folder / "README.md"
    if not path.is_file():
        return
    text = with_configs(path.read_text(encoding="utf-8"), configs_in(folder))
    for title, section in _review_section(folder).items():
        text = with_section(text, title, section, before="What it took")
    shards.write_text(path, text)


def _remove_review(folder: Path) -> None:
    for name in (REVIEWED, REVIEWED_PREFERENCE):
        shards.remove_shards(folder / name)
    (folder / REVIEW).unlink(missing_ok=True)


def _review_section(folder: Path) -> dict[str, str]:
    """Return the card's section on what people found, {} if nobody looked."""
    path = folder / REVIEW
    if not path.is_file():
        return {}
    return {TITLE: review_section(shards.read_json(path, "take the verdicts again"))}


def check_folder(folder: Path, sign: str = "run.json", whose: str = "a run") -> None:
    """Check that a folder is new, empty or an earlier output, and can be written.

    Args:
        folder: The folder.
        sign: The file that every output has.
        whose: What wrote it, for the error.

    Raises:
        FileExistsError: If it holds something else, or it or a folder around it is a link that
            leads nowhere.
        PermissionError: If it cannot be written.
    """
    check_links(folder)
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


def check_links(folder: Path) -> None:
    """Check that neither a folder nor one around it is a link to nothing or to itself.

    Raises:
        FileExistsError: If one is; no folder can be made there.
    """
    for path in (folder, *folder.absolute().parents):
        if path.is_symlink() and not path.exists():
            raise FileExistsError(
                f"{path} is a link that leads nowhere; remove it or choose another folder"
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
        "models": [asdict(model) for model in record.models],
        "pre_query_template": record.template,
        "bare_pre_query_template": record.bare_template,
        "system_prompts": {
            key: {"weight": weight, "text": text}
            for key, (weight, text) in record.system_prompts.items()
        },
        "remarks": list(record.remarks),
        "license": record.license,
        "command": record.command,
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
        **({"shards": [dict(shard) for shard in record.shards]} if record.shards else {}),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def arrow_schema(names: Iterable[str] = columns.NAMES) -> Any:
    """Return the columns as a `pyarrow.Schema`, in their order in `magpie_steps.columns`."""
    wanted = frozenset(names)
    return shards.arrow_schema({c.name: c.type for c in columns.COLUMNS if c.name in wanted})
