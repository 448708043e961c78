"""How does a dataset with published columns become a dataset repository on disk?

The folder holds ``data/`` (parquet files), ``README.md`` (the card) and ``export.json``: what was
exported and the counts, and the sign that a later run may replace the folder.
"""

import json
from dataclasses import asdict
from pathlib import Path

from magpie_steps.card.derived import derived_card
from magpie_steps.card.source import SourceCard, read_card
from magpie_steps.export_schemas.files import Counts, export_files
from magpie_steps.export_schemas.published import SCHEMAS, PublishedSchema
from magpie_steps.exports import config
from magpie_steps.markup import code, plain
from magpie_steps.repository import check_folder
from magpie_steps.shards import write_text
from magpie_steps.sources import beside, check_outside, located, parquet_files, shown

SIGN = "export.json"


def export_dataset(dataset: str, schema: str, folder: Path, kept_only: bool = True) -> Counts:
    """Write a dataset of ours with the columns of a published one to a folder.

    Args:
        dataset: A parquet file, a folder of them, or a dataset's id on the Hub.
        schema: The published columns: "magpie-align" or "magpie-ultra".
        folder: Where to write; new, empty or an earlier run's.
        kept_only: Whether to leave out the rows that are not kept.

    Raises:
        FileExistsError: If the folder holds something else.
        FileNotFoundError: If there is no such dataset.
        OSError: If a file cannot be read or written.
        ValueError: If there is no such schema, or the dataset has not our columns.
    """
    published = published_schema(schema)
    check_folder(folder, SIGN, "an export")
    place = located(dataset)
    paths = parquet_files(place)
    check_outside(paths, folder)
    source, name = read_card(place), shown(dataset)
    counts = export_files(paths, published, folder / "data", kept_only=kept_only)
    record = {
        "dataset": name,
        "schema": schema,
        "kept_only": kept_only,
        "counts": asdict(counts),
    }
    write_text(folder / SIGN, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", card(name, schema, source, counts))
    return counts


def published_schema(name: str) -> PublishedSchema:
    """Return a published schema by its name.

    Raises:
        ValueError: If there is none.
    """
    if name not in SCHEMAS:
        raise ValueError(f"there is no schema {name!r}; there are {', '.join(SCHEMAS)}")
    return SCHEMAS[name]


def default_folder(dataset: str, schema: str) -> Path:
    """Return where an export goes: beside the dataset, or here if that is on the Hub."""
    return beside(dataset, schema)


def card(dataset: str, schema: str, source: SourceCard, counts: Counts) -> str:
    """Return the card: front matter, where the rows and the columns are from, the counts.

    Args:
        dataset: The dataset that was exported.
        schema: The published columns' name.
        source: That dataset's card.
        counts: What was exported.
    """
    published = SCHEMAS[schema]
    about = (
        f"Rows of {code(dataset)}, exported by magpie-steps with the columns and types of"
        f" {plain(published.used_by)}. What the source does not have is null. {published.remark}"
    )
    return derived_card(
        f"{Path(dataset).name} in the columns of {schema}",
        [about],
        source,
        rows=counts.written,
        configs=[config("default", "data")] if counts.written else [],
        counts=counts.lines(),
    )
