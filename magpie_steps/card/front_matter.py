"""What does the Hub read at the top of a card?

The fields are those of the Hub's dataset card specification.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from magpie_steps.card.record import Config, Contents, RunRecord
from magpie_steps.exports import config
from magpie_steps.licenses import Licence, combined
from magpie_steps.markup import one_line, visible
from magpie_steps.summary import Summary

TAGS = ("synthetic", "magpie", "distilabel", "magpie-steps")

LANGUAGE_SHARE = 0.01
"""A language that fewer of the kept rows have is not named: short texts are often mistaken."""

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
"""The Hub's size categories, each with the number of rows it ends before."""


def front_matter(summary: Summary, record: RunRecord, contents: Contents) -> str:
    """Return the YAML between the card's first lines, with the lines of dashes."""
    fields: dict[str, Any] = {
        "language": languages(summary.languages),
        **_license_fields(record),
        "pretty_name": visible(one_line(record.title)),
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "size_categories": [size_category(summary.generated)],
        "task_categories": ["text-generation"],
        "tags": list(TAGS),
        **config_fields(contents.configs),
    }
    known = {name: value for name, value in fields.items() if value not in ("", [])}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def config_fields(configs: Sequence[Config]) -> dict[str, Any]:
    """Return the fields that list a dataset's configurations: files, columns and sizes."""
    return {
        "configs": [config(each.name, each.folder) for each in configs],
        "dataset_info": [_info(each) for each in configs],
    }


def licence_of_models(record: RunRecord) -> Licence:
    """Return the licence that the models which wrote text leave the dataset with."""
    return combined([model.name for model in record.models if model.writes] or [record.model])


def languages(counts: Mapping[str, int]) -> list[str]:
    """Return the languages that matter, the most frequent first, as the Hub writes their codes.

    Args:
        counts: Kept rows by ISO 639-1 code; "" for those whose language is not known.
    """
    known = {name: n for name, n in counts.items() if name}
    least = LANGUAGE_SHARE * sum(known.values())
    frequent = sorted((name for name in known if known[name] >= least), key=lambda n: -known[n])
    return [name.lower() for name in frequent]


def size_category(rows: int) -> str:
    """Return the Hub's size category for a number of rows."""
    return next((name for end, name in _SIZES if rows < end), "100M<n<1B")


def _license_fields(record: RunRecord) -> dict[str, str]:
    found = licence_of_models(record)
    asked = record.license or found.id
    if asked != "other" or found.id != "other":
        return {"license": asked}
    link = {"license_link": found.link} if found.link else {}
    return {"license": found.id, "license_name": found.name, **link}


def _info(config: Config) -> dict[str, Any]:
    """Return a configuration's columns and sizes, which `datasets` checks what it loads against."""
    from datasets import Features  # slow, and only for this

    return {
        "config_name": config.name,
        "features": Features.from_arrow_schema(config.schema)._to_yaml_list(),
        "splits": [{"name": "train", "num_bytes": config.data_bytes, "num_examples": config.rows}],
        "download_size": config.file_bytes,
        "dataset_size": config.data_bytes,
    }
