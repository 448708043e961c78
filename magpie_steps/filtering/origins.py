"""How are our columns computed from a dataset's own, as Arrow arrays?"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.conversation import ASSISTANT
from magpie_steps.row_schemas import How, Origin
from magpie_steps.rules import WHITE_SPACE

REPEAT_DISTANCE = 0.05
"""Rows that are nearer repeat each other (Magpie repository, exp/gen_dis.py)."""

TEXTS = ("instruction", "response")
"""Our columns without whose texts nothing can be said of a row."""


def computed(origins: Mapping[str, Origin], batch: Any, first_row: int) -> dict[str, Any]:
    """Return our columns of a record batch.

    Args:
        origins: Where they come from, by name.
        batch: The batch, a `pyarrow.RecordBatch` that has the origins' columns.
        first_row: The number of its first row in the dataset.

    Raises:
        ValueError: If the instructions or responses are no texts.
    """
    for name in TEXTS:
        if name in origins:
            _check_texts(origins[name], batch.schema)
    return {
        name: _HOW[origin.how]([batch.column(each) for each in origin.columns], batch, first_row)
        for name, origin in origins.items()
    }


def _check_texts(origin: Origin, schema: Any) -> None:
    """Refuse what is no text: every row would count as one without a text."""
    for field in map(schema.field, origin.columns):
        if not (holds_texts(field.type) or pa.types.is_null(field.type)):
            raise ValueError(
                f"the column {field.name} holds {field.type}, not texts; give a dataset with texts"
                " there"
            )


def as_texts(array: Any) -> Any:
    """Return an array of texts; what is no text is null."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.string()) if holds_texts(array.type) else pa.nulls(len(array), pa.string())


def holds_texts(kind: Any) -> bool:
    """Return whether an Arrow type is one of texts."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(plain) for is_kind in kinds)


def is_numeric(kind: Any) -> bool:
    """Return whether an Arrow type is one of numbers."""
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def as_numbers(array: Any) -> Any:
    """Return an array of numbers for NumPy; what is no number is NaN."""
    if is_numeric(array.type):
        return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.full(len(array), np.nan)


def as_flags(array: Any) -> Any:
    """Return an array of flags for NumPy; what is no flag is false."""
    if not pa.types.is_boolean(array.type):
        return np.zeros(len(array), bool)
    return array.fill_null(False).to_numpy(zero_copy_only=False)


def _copy(read: list[Any], batch: Any, first_row: int) -> Any:
    return read[0]


def _characters(read: list[Any], batch: Any, first_row: int) -> Any:
    return pc.utf8_length(as_texts(read[0])).fill_null(0)


def _answer_characters(read: list[Any], batch: Any, first_row: int) -> Any:
    parents, messages = _flat(read[0])
    if not pa.types.is_struct(messages.type):
        return pa.array(np.zeros(len(batch), np.int64))
    roles, said = (as_texts(messages.field(name)) for name in ("role", "content"))
    counts = pc.utf8_length(said).fill_null(0).to_numpy(zero_copy_only=False)
    answers = as_flags(pc.equal(roles, ASSISTANT))
    return pa.array(np.bincount(parents, counts * answers, len(batch)).astype(np.int64))


def _says_safe(read: list[Any], batch: Any, first_row: int) -> Any:
    return pc.equal(pc.utf8_trim(as_texts(read[0]), WHITE_SPACE), "safe")


def _distance(read: list[Any], batch: Any, first_row: int) -> Any:
    parents, cosines = _flat(read[0])
    rows, places = np.unique(parents, return_index=True)
    distances = np.full(len(batch), np.nan)
    distances[rows] = 2 - 2 * as_numbers(cosines)[places]
    return pa.array(distances)


def _row_number(read: list[Any], batch: Any, first_row: int) -> Any:
    return pa.array(np.arange(first_row, first_row + len(batch))).cast(pa.string())


def _earliest_near(read: list[Any], batch: Any, first_row: int) -> Any:
    parents, cosines = _flat(read[0])
    others, rows = _flat(read[1])
    if not np.array_equal(parents, others):
        raise ValueError(
            "nn_scores and nn_indices are not equally long, so they tell of no repeats"
        )
    near = 2 - 2 * as_numbers(cosines) < REPEAT_DISTANCE
    earliest = np.arange(first_row, first_row + len(batch))
    np.minimum.at(earliest, parents[near], as_numbers(rows)[near].astype(np.int64))
    repeats = np.zeros(len(batch), bool)
    repeats[parents[near]] = True
    return pc.if_else(pa.array(repeats), pa.array(earliest).cast(pa.string()), "")


def _flat(lists: Any) -> tuple[Any, Any]:
    """Return for each item of an array of lists which list it is in, then the items."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(lists.type) for is_kind in kinds):
        lists = pa.nulls(len(lists), pa.list_(pa.null()))
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return parents, pc.list_flatten(lists)


_HOW: Mapping[How, Callable[[list[Any], Any, int], Any]] = {
    "copy": _copy,
    "characters": _characters,
    "answer_characters": _answer_characters,
    "says_safe": _says_safe,
    "distance": _distance,
    "row_number": _row_number,
    "earliest_near": _earliest_near,
}
