"""What is a column, and what can it hold?"""

from dataclasses import dataclass
from typing import Any

ColumnType = str | list["ColumnType"] | dict[str, "ColumnType"]
"""A scalar by its Arrow name, a one-item list for a list, a dict for a struct."""

SCALARS: dict[str, Any] = {"string": "", "int64": 0, "float64": float("nan"), "bool": False}
"""The scalar types and their empty values."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a row.

    Attributes:
        name: The column's name, the same everywhere.
        type: The type, see `ColumnType`.
        unit: What a number counts, "" for none.
        values: Which values are possible, in words.
        producer: The components that write it, separated by commas.
        description: What it holds.
    """

    name: str
    type: ColumnType
    unit: str
    values: str
    producer: str
    description: str


def empty_value(kind: ColumnType) -> Any:
    """Return the empty value of a type: "", 0, NaN, False, [] or a struct of empty values."""
    if isinstance(kind, str):
        return SCALARS[kind]
    if isinstance(kind, list):
        return []
    return {name: empty_value(inner) for name, inner in kind.items()}


def type_text(kind: ColumnType) -> str:
    """Return a type in Arrow's notation, for example ``list<struct<role: string>>``."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return f"list<{type_text(kind[0])}>"
    return f"struct<{', '.join(f'{name}: {type_text(t)}' for name, t in kind.items())}>"


def short_type(kind: ColumnType) -> str:
    """Return a type without a struct's fields, for example ``list<struct>``."""
    if isinstance(kind, list):
        return f"list<{short_type(kind[0])}>"
    return kind if isinstance(kind, str) else "struct"
