"""What does the card of a dataset say that was made of another one?"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from magpie_steps.card.front_matter import size_category
from magpie_steps.card.source import LICENCE, SourceCard
from magpie_steps.markup import one_line, plain, table, visible

FROM_SOURCE = ("license", "license_name", "license_link", "language")
"""The fields of the source's front matter that hold for a part of its rows as well."""

TAGS = ("synthetic", "magpie", "magpie-steps")

_QUOTE = re.compile(r"^> ?", re.MULTILINE)


def derived_card(
    title: str,
    parts: Sequence[str],
    source: SourceCard,
    *,
    rows: int,
    configs: Sequence[Mapping[str, Any]],
    counts: Sequence[tuple[str, str]],
) -> str:
    """Return the card: front matter, what was done to the source, the counts, its licence.

    Args:
        title: The dataset's name.
        parts: What it is, paragraphs and sections in Markdown.
        source: The card of the dataset that it was made of.
        rows: How many rows it has.
        configs: Its configurations, as the front matter lists them.
        counts: Names and values.
    """
    front = {
        **{name: source.fields[name] for name in FROM_SOURCE if name in source.fields},
        "pretty_name": visible(one_line(title)),
        "size_categories": [size_category(rows)],
        "task_categories": ["text-generation"],
        "tags": list(TAGS),
        "configs": list(configs),
    }
    lines = [[plain(name.strip()), plain(value)] for name, value in counts]
    whole = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {plain(title)}",
        *filter(None, parts),
        f"## Counts\n\n{table(['', 'rows'], lines, numbers=True)}",
        f"## {LICENCE}\n\n{_licence(source)}",
    ]
    return "\n\n".join(whole) + "\n"


def _licence(source: SourceCard) -> str:
    """Return what the source says about its licence, as a quotation that nothing in it can end."""
    if said := _QUOTE.sub("", source.licence):  # it may be a quotation itself
        return "\n".join(f"> {line}".rstrip() for line in visible(said).split("\n"))
    if "license" in source.fields:
        return "The licence is that of the source."
    return "The source names no licence: look up that of the models that wrote it."
