"""How do rows become a Hub dataset repository on disk?

The folder holds what would be uploaded and nothing else: ``README.md`` (the card), ``data/``
(parquet files), ``run.json`` and a folder of parquet files per export.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from magpie_steps import columns, shards
from magpie_steps.column_types import type_text
from magpie_steps.conversation import count_turns, turn_columns
from magpie_steps.effort import Effort
from magpie_steps.exports import (
    SIDES,
    check_exports,
    config,
    sides_with_rows,
    usage,
    write_exports,
)
from magpie_steps.provenance import versions
from magpie_steps.recipes import Recipe
from magpie_steps.selection import rule_counts
from magpie_steps.summary import Summary, beyond_first_turns, judged, replayed, timed

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
"""The Hub's size categories, each with the number of rows it ends before."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What ``run.json`` and the card say about a run.

    Attributes:
        title: The dataset's name.
        model: The model that wrote the rows.
        settings: What was asked for; the same settings give the same rows.
        template: The pre-query template's text.
        effort: What this run took.
        engines: What each of its engines reported.
        completions_of_all_runs: Model calls of all runs with this run's journal.
        remarks: What a reader of the card has to know first.
        versions: Versions by package name, by default those that are installed.
        license: The dataset's licence as a Hub identifier, None to leave it open.
        generator: What wrote the folder, for the card.
    """

    title: str
    model: str
    settings: Mapping[str, Any]
    template: str
    effort: Effort
    engines: Sequence[Mapping[str, Any]] = ()
    completions_of_all_runs: int = 0
    remarks: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=versions)
    license: str | None = None
    generator: str = "magpie-steps"


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
    sides = _sides(summary) if recipe else []
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


@dataclass(frozen=True, slots=True)
class Filtered:
    """What chose the kept rows.

    Attributes:
        recipe: The recipe.
        fails: Rows that each of its rules alone fails, by the rule's word.
    """

    recipe: Recipe
    fails: Mapping[str, int]


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


def card(
    summary: Summary,
    record: RunRecord,
    names: Sequence[str],
    sample: Mapping[str, Any] | None = None,
    exports: Sequence[str] = (),
    filtered: Filtered | None = None,
) -> str:
    """Return the dataset card: YAML front matter, then what the data are and how they came about.

    Args:
        summary: The rows' counts.
        record: What to say about the run.
        names: The columns that the files have.
        sample: A row to show, None for none.
        exports: The trainers' configurations beside the default one.
        filtered: What chose the kept rows, None if no recipe did.
    """
    configs = [*(_sides(summary) if filtered else ()), *exports]
    parts = [
        f"---\n{_front_matter(summary, record, configs)}---",
        f"# {_plain(record.title)}",
        f"Written by {_code(record.model)} with {_plain(record.generator)}: the model was prompted"
        f" with its own pre-query template and {_steering(summary)}, and answered what it had"
        " asked.",
        *(f"> {_plain(remark)}" for remark in record.remarks),
        *([f"## How to load it\n\n{usage(configs)}"] if configs else []),
        f"## How it was generated\n\n{_settings_table(record)}",
        f"The pre-query template:\n\n{_fenced(record.template)}",
        f"## Counts\n\n{_counts_table(summary)}",
        *([f"## How rows were chosen\n\n{_recipe_text(filtered)}"] if filtered else []),
        f"## What it took\n\n{_effort_table(summary, record.effort)}",
        f"## Columns\n\n{_columns_table(names)}",
    ]
    if sample is not None:
        shown = {name: sample[name] for name in names}
        parts.append(f"## A row\n\n{_fenced(json.dumps(shown, indent=2), 'json')}")
    parts.append(f"## Versions\n\n{_versions(record.versions)}")
    return "\n\n".join(parts) + "\n"


def _sides(summary: Summary) -> list[str]:
    return sides_with_rows(summary.kept, summary.generated - summary.kept)


def _steering(summary: Summary) -> str:
    """Return what stood before the pre-query template, in words."""
    return "a system prompt that names a topic" if any(summary.system_prompts) else "nothing else"


def size_category(rows: int) -> str:
    """Return the Hub's size category for a number of rows."""
    return next((name for end, name in _SIZES if rows < end), "100M<n<1B")


def arrow_schema(names: Iterable[str] = columns.NAMES) -> Any:
    """Return the columns as a `pyarrow.Schema`, in their order in `magpie_steps.columns`."""
    wanted = frozenset(names)
    return shards.arrow_schema({c.name: c.type for c in columns.COLUMNS if c.name in wanted})


def _front_matter(summary: Summary, record: RunRecord, configs: Sequence[str]) -> str:
    fields: dict[str, Any] = {
        "license": record.license,
        "pretty_name": record.title,
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "magpie", "distilabel", "magpie-steps"],
        "size_categories": [size_category(summary.generated)],
        "configs": [config("default", "data"), *(config(name, name) for name in configs)],
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _settings_table(record: RunRecord) -> str:
    lines = [["setting", "value"], ["---", "---"]]
    lines += [[_plain(name), _code(value)] for name, value in record.settings.items()]
    return columns.markdown(lines)


def _counts_table(summary: Summary) -> str:
    """Return generated = kept + removed, by reason, and what else was counted."""
    lines = [["", "count"], ["---", "---:"]]
    lines += [["rows generated", str(summary.generated)], ["rows kept", str(summary.kept)]]
    lines += [[f"rows removed: {reason}", str(n)] for reason, n in summary.dropped.items()]
    lines += [[f"attempts rejected: {reason}", str(n)] for reason, n in summary.rejected.items()]
    lines += [
        ["distinct instructions among the kept", f"{summary.distinct_share:.1%}"],
        *([name.strip(), value] for name, value in judged(summary)),
        *([name.strip(), value] for name, value in beyond_first_turns(summary)),
        ["instruction tokens", str(summary.instruction_tokens)],
        ["response tokens", str(summary.response_tokens)],
    ]
    return columns.markdown(lines)


def _recipe_text(filtered: Filtered) -> str:
    """Return a recipe's rules with the rows that each alone fails, and where it comes from."""
    recipe = filtered.recipe
    counts = [str(filtered.fails[rule.name]) for rule in recipe.rules]
    lines = [["a row is kept if", "rows that fail this alone"], ["---", "---:"]]
    lines += [[_plain(rule.text), n] for rule, n in zip(recipe.rules, counts, strict=True)]
    lines += [[_plain(demand), ""] for demand in recipe.demands()[len(counts) :]]
    about = " ".join(filter(None, (recipe.source, recipe.description)))
    return f"By the recipe {_code(recipe.name)}: {_plain(about)}\n\n{columns.markdown(lines)}"


def _effort_table(summary: Summary, effort: Effort) -> str:
    """Return the last run's work; what an earlier run had generated cost it nothing."""
    lines = [["", "the run that finished it"], ["---", "---:"]]
    lines += [[name, value] for name, value in timed(summary, effort)]
    return columns.markdown(lines)


def _columns_table(names: Sequence[str]) -> str:
    lines = [["column", "type", "what it holds"], ["---", "---", "---"]]
    lines += [
        [f"`{c.name}`", f"`{type_text(c.type)}`", c.description]
        for c in map(columns.described, names)
    ]
    return columns.markdown(lines)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in versions.items())


def _fenced(text: str, language: str = "text") -> str:
    """Return a code block that no text inside can end."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _code(value: object) -> str:
    """Return a value as inline code, on one line and with no backtick of its own."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{' '.join(text.replace('`', chr(39)).split()) or ' '}`"


def _plain(text: str) -> str:
    """Return a text whose characters mean nothing in Markdown or HTML, on one line."""
    one_line = " ".join(text.replace("`", "'").split())
    return re.sub(r"([\\*_{}\[\]<>#~&])", r"\\\1", one_line)
