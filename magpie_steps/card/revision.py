"""How does a card that was written earlier say what has come since?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from magpie_steps.card.front_matter import config_fields
from magpie_steps.card.record import Config

_FENCE = re.compile(r"`{3,}")
_HEADING = re.compile(r"## (.*)")


def with_configs(card: str, configs: Sequence[Config]) -> str:
    """Return a card whose front matter lists these configurations, and no others."""
    _, front, body = re.split(r"^---\n", card, maxsplit=2, flags=re.MULTILINE)
    fields: Mapping[str, Any] = {**yaml.safe_load(front), **config_fields(configs)}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n{body}"


def with_section(card: str, title: str, text: str, before: str) -> str:
    """Return a card with a section, in place of an earlier one of this title.

    Args:
        card: The card.
        title: The section's title.
        text: What it says, in Markdown; "" for no such section.
        before: The title of the section that it comes before; without that one it comes last.
    """
    lines = card.rstrip("\n").split("\n")
    lines = [*lines[: _start(lines, title)], *lines[_end(lines, title) :]]
    place = _start(lines, before)
    section = [f"## {title}", "", *text.split("\n"), ""] if text else []
    gap = [""] if section and place == len(lines) else []
    return "\n".join([*lines[:place], *gap, *section, *lines[place:]]).rstrip("\n") + "\n"


def section(card: str, title: str) -> str:
    """Return what a card's section of this title says, "" if it has none."""
    lines = card.split("\n")
    return "\n".join(lines[_start(lines, title) + 1 : _end(lines, title)]).strip()


def _start(lines: Sequence[str], title: str) -> int:
    """Return the line of a section's heading, the number of lines if there is none."""
    return next((at for at, found in _headings(lines) if found == title), len(lines))


def _end(lines: Sequence[str], title: str) -> int:
    """Return the line after a section."""
    start = _start(lines, title)
    return next((at for at, _ in _headings(lines) if at > start), len(lines))


def _headings(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines of headings, but not of what only looks like one in a code block."""
    fence = ""
    for at, line in enumerate(lines):
        if fence:
            fence = "" if line == fence else fence
        elif ticks := _FENCE.match(line):
            fence = ticks[0]
        elif heading := _HEADING.fullmatch(line):
            yield at, heading[1]
