"""What does a dataset's card say?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from magpie_steps import columns
from magpie_steps.column_types import type_text
from magpie_steps.effort import Effort
from magpie_steps.exports import config, sides_with_rows, usage
from magpie_steps.markup import code, fenced, plain
from magpie_steps.provenance import versions
from magpie_steps.recipes import Recipe
from magpie_steps.summary import Summary, beyond_first_turns, judged, timed

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


@dataclass(frozen=True, slots=True)
class Filtered:
    """What chose the kept rows.

    Attributes:
        recipe: The recipe.
        fails: Rows that each of its rules alone fails, by the rule's word.
    """

    recipe: Recipe
    fails: Mapping[str, int]


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
        f"# {plain(record.title)}",
        f"Written by {code(record.model)} with {plain(record.generator)}: the model was prompted"
        f" with its own pre-query template and {_steering(summary)}, and answered what it had"
        " asked.",
        *(f"> {plain(remark)}" for remark in record.remarks),
        *([f"## How to load it\n\n{usage(configs)}"] if configs else []),
        f"## How it was generated\n\n{_settings_table(record)}",
        f"The pre-query template:\n\n{fenced(record.template)}",
        f"## Counts\n\n{_counts_table(summary)}",
        *([f"## How rows were chosen\n\n{_recipe_text(filtered)}"] if filtered else []),
        f"## What it took\n\n{_effort_table(summary, record.effort)}",
        f"## Columns\n\n{_columns_table(names)}",
    ]
    if sample is not None:
        shown = {name: sample[name] for name in names}
        parts.append(f"## A row\n\n{fenced(json.dumps(shown, indent=2), 'json')}")
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
    lines += [[plain(name), code(value)] for name, value in record.settings.items()]
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
    lines += [[plain(rule.text), n] for rule, n in zip(recipe.rules, counts, strict=True)]
    lines += [[plain(demand), ""] for demand in recipe.demands()[len(counts) :]]
    about = " ".join(filter(None, (recipe.source, recipe.description)))
    return f"By the recipe {code(recipe.name)}: {plain(about)}\n\n{columns.markdown(lines)}"


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
    return ", ".join(f"{plain(name)} {plain(version)}" for name, version in versions.items())
