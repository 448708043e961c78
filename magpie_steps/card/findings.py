"""How does a card show what the rows are like?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from magpie_steps.card.record import Figure
from magpie_steps.effort import Effort
from magpie_steps.markup import fenced, plain, table
from magpie_steps.summary import Summary, beyond_first_turns, judged, timed

PICTURES = "What the rows are like"
"""The title of the section with the figures."""

SHOWN_CHARACTERS = 1000
"""Longer texts of the row that a card shows are cut."""


def counts(summary: Summary) -> str:
    """Return generated = kept + removed, by reason, and what else was counted."""
    lines = [
        ["attempts at a user turn", f"{sum(summary.rejected.values()) + summary.generated:,}"],
        *([f"attempts rejected: {plain(r)}", f"{n:,}"] for r, n in summary.rejected.items()),
        ["rows generated", f"{summary.generated:,}"],
        *([f"rows removed: {plain(r)}", f"{n:,}"] for r, n in summary.dropped.items()),
        ["rows kept", f"{summary.kept:,}"],
        ["distinct instructions among the kept", f"{summary.distinct_share:.1%}"],
        *([plain(name.strip()), value] for name, value in judged(summary)),
        *([plain(name.strip()), value] for name, value in beyond_first_turns(summary)),
        ["instruction tokens", f"{summary.instruction_tokens:,}"],
        ["response tokens", f"{summary.response_tokens:,}"],
    ]
    return table(["", "count"], lines, numbers=True)


def effort_of_run(summary: Summary, effort: Effort) -> str:
    """Return the last run's work; what an earlier run had generated cost it nothing."""
    lines = [[plain(name), value] for name, value in timed(summary, effort)]
    return table(["", "the run that finished it"], lines, numbers=True)


def pictures(figures: Sequence[Figure]) -> str:
    """Return the figures, each with its caption as what is read where it is not seen."""
    return "\n\n".join(f"![{plain(each.caption)}]({each.file})" for each in figures)


def example(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return a row as JSON, with long texts cut."""
    shown = {name: _short(row[name]) for name in names}
    return fenced(json.dumps(shown, indent=2, ensure_ascii=False), "json")


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{value[:SHOWN_CHARACTERS]} … ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return value
