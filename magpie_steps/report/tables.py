"""What is a table of the report?"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table; what is in it is text, not markup.

    Attributes:
        title: What it shows.
        header: The columns' titles.
        lines: The cells of each line, as many as there are titles; the first names the line.
        note: What to know about it, "" for nothing.
        texts: The titles of columns of text, which stands to the left; other columns are numbers.
    """

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""
    texts: Sequence[str] = ()


def filled(*tables: Table) -> list[Table]:
    """Return those tables that have lines."""
    return [table for table in tables if table.lines]


def number_text(value: float) -> str:
    """Return a number with about three digits, such as "0.25", "13.6" or "1,991"."""
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
