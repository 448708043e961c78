"""How does a filtered dataset become a dataset repository on disk?

The folder holds ``filtered/`` and ``removed/`` (parquet files), ``README.md`` (the card) and
``filter.json``: the recipe and the counts, and the sign that a later run may replace the folder.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from magpie_steps.columns import markdown
from magpie_steps.exports import SIDES, config, sides_with_rows
from magpie_steps.filtering import filter_files
from magpie_steps.recipes import Recipe
from magpie_steps.repository import check_folder
from magpie_steps.selection import Counts
from magpie_steps.shards import write_text
from magpie_steps.sources import located, parquet_files

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
    paths = parquet_files(located(dataset))
    inside = [path for path in paths if path.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise ValueError(f"{inside[0]} is in {folder}, the output folder; choose another folder")
    counts = filter_files(paths, recipe, folder)
    record = {"dataset": dataset, "recipe": recipe.as_dict(), "counts": counts.as_dict()}
    write_text(folder / SIGN, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", card(dataset, recipe, counts))
    return counts


def default_folder(dataset: str, recipe: Recipe) -> Path:
    """Return where a filtered dataset goes: beside the dataset, or here if that is on the Hub."""
    path = Path(dataset)
    if not path.exists():
        return Path(f"{path.name}-{recipe.name}")
    place = path.resolve()
    return place.with_name(f"{place.stem if place.is_file() else place.name}-{recipe.name}")


def card(dataset: str, recipe: Recipe, counts: Counts) -> str:
    """Return the dataset card: front matter, the recipe, what it kept and removed."""
    sides = sides_with_rows(counts.kept, counts.read - counts.kept)
    front = {
        "pretty_name": f"{Path(dataset).name} filtered by {recipe.name}",
        "tags": ["magpie", "magpie-steps"],
        "configs": [_config(side) for side in sides],
    }
    about = [recipe.description, f"Source: {recipe.source}." if recipe.source else ""]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {front['pretty_name']}",
        f"The rows of `{dataset}` that the recipe `{recipe.name}` of magpie-steps keeps, and in the"
        " configuration `removed` all others, each with its `drop_reason`.",
        " ".join(text for text in about if text),
        f"## Recipe\n\n{_numbered(recipe.demands())}",
        f"## Counts\n\n{markdown([['', 'rows'], ['---', '---:'], *counts.lines()])}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _config(side: str) -> dict[str, Any]:
    return {**config(side, side), **({"default": True} if SIDES[side] else {})}


def _numbered(lines: list[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
