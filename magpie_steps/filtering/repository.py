"""How does a filtered dataset become a dataset repository on disk?

The folder holds ``filtered/`` and ``removed/`` (parquet files), ``README.md`` (the card) and
``filter.json``: the recipe and the counts, and the sign that a later run may replace the folder.
"""

import json
from pathlib import Path
from typing import Any

from magpie_steps.card.derived import derived_card
from magpie_steps.card.source import SourceCard, read_card
from magpie_steps.exports import SIDES, config, sides_with_rows
from magpie_steps.filtering import filter_files
from magpie_steps.markup import code, plain
from magpie_steps.recipes import Recipe
from magpie_steps.repository import check_folder
from magpie_steps.selection import Counts
from magpie_steps.shards import write_text
from magpie_steps.sources import beside, check_outside, located, parquet_files, shown

SIGN = "filter.json"


def filter_dataset(dataset: str, recipe: Recipe, folder: Path) -> Counts:
    """Filter a dataset and write what is kept and what is removed to a folder.

    Args:
        dataset: A parquet file, a folder of them, or a dataset's id on the Hub.
        recipe: The recipe.
        folder: Where to write; new, empty or an earlier run's.

    Raises:
        FileExistsError: If the folder holds something else.
        FileNotFoundError: If there is no such dataset.
        OSError: If a file cannot be read or written.
        ValueError: If the dataset has not the columns that the recipe needs.
    """
    check_folder(folder, SIGN, "a filter")
    place = located(dataset)
    paths = parquet_files(place)
    check_outside(paths, folder)
    source, name = read_card(place), shown(dataset)
    counts = filter_files(paths, recipe, folder)
    record = {"dataset": name, "recipe": recipe.as_dict(), "counts": counts.as_dict()}
    write_text(folder / SIGN, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", card(name, recipe, counts, source))
    return counts


def default_folder(dataset: str, recipe: Recipe) -> Path:
    """Return where a filtered dataset goes: beside the dataset, or here if that is on the Hub."""
    return beside(dataset, recipe.name)


def card(dataset: str, recipe: Recipe, counts: Counts, source: SourceCard) -> str:
    """Return the dataset card: front matter, the recipe, what it kept and removed.

    Args:
        dataset: The dataset that was filtered, as it is called.
        recipe: The recipe.
        counts: What it did.
        source: That dataset's card.
    """
    published = f"Source: {plain(recipe.source)}." if recipe.source else ""
    parts = [
        f"The rows of {code(dataset)} that the recipe {code(recipe.name)} of magpie-steps keeps,"
        " and in the configuration `removed` all others, each with its `drop_reason`.",
        " ".join(filter(None, (plain(recipe.description), published))),
        f"## Recipe\n\n{_numbered(recipe.demands())}",
    ]
    sides = sides_with_rows(counts.kept, counts.read - counts.kept)
    return derived_card(
        f"{dataset} filtered by {recipe.name}",
        parts,
        source,
        rows=counts.read,
        configs=[_config(side) for side in sides],
        counts=counts.lines(),
    )


def _config(side: str) -> dict[str, Any]:
    """Return a side's configuration; what is kept opens without a name."""
    return {**config(side, side), **({"default": True} if SIDES[side] else {})}


def _numbered(lines: list[str]) -> str:
    return "\n".join(f"{number}. {plain(line)}" for number, line in enumerate(lines, 1))
