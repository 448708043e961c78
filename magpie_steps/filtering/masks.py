"""Which rows of whole columns fulfil a rule?

The same decisions as `Rule.fails`, row by row, for a record batch at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.filtering.origins import as_flags, as_numbers, as_texts
from magpie_steps.rules import (
    WHITE_SPACE,
    FewerNewlines,
    IsTrue,
    LevelAtLeast,
    NotEndingWith,
    NotRepeated,
    NumberAbove,
    NumberAtLeast,
    OneOf,
    Rule,
)

Arrays = Mapping[str, Any]
"""Our columns as Arrow arrays, by name."""


def fulfilled(rule: Rule, arrays: Arrays) -> Any:
    """Return a NumPy array of flags: which rows fulfil a rule."""
    return _MASKS[type(rule)](rule, arrays)


def _level_at_least(rule: LevelAtLeast, arrays: Arrays) -> Any:
    return _is_in(arrays[rule.column], rule.accepted)


def _number_above(rule: NumberAbove, arrays: Arrays) -> Any:
    return as_numbers(arrays[rule.column]) > rule.bound


def _number_at_least(rule: NumberAtLeast, arrays: Arrays) -> Any:
    return as_numbers(arrays[rule.column]) >= rule.bound


def _not_repeated(rule: NotRepeated, arrays: Arrays) -> Any:
    similar, own = as_texts(arrays["min_similar_uuid"]), as_texts(arrays["uuid"])
    none = as_flags(pc.is_null(arrays["min_similar_uuid"]))
    return none | as_flags(pc.equal(similar, "")) | as_flags(pc.equal(similar, own))


def _not_ending_with(rule: NotEndingWith, arrays: Arrays) -> Any:
    text = pc.utf8_rtrim(as_texts(arrays["instruction"]), WHITE_SPACE)
    return as_flags(pc.invert(pc.ends_with(text, rule.ending)))


def _fewer_newlines(rule: FewerNewlines, arrays: Arrays) -> Any:
    text = as_texts(arrays["instruction"])
    few = as_flags(pc.less(pc.count_substring(text, "\n"), rule.below))
    if not rule.except_category:
        return few
    excepted = _is_in(arrays["task_category"], (rule.except_category,))
    return few | (excepted & as_flags(pc.is_valid(text)))


def _one_of(rule: OneOf, arrays: Arrays) -> Any:
    return _is_in(arrays[rule.column], rule.values)


def _is_true(rule: IsTrue, arrays: Arrays) -> Any:
    return as_flags(arrays[rule.column])


def _is_in(array: Any, values: tuple[str, ...]) -> Any:
    return as_flags(pc.is_in(as_texts(array), pa.array(values, pa.string())))


_MASKS: Mapping[type[Rule], Callable[[Any, Arrays], Any]] = {
    LevelAtLeast: _level_at_least,
    NumberAbove: _number_above,
    NumberAtLeast: _number_at_least,
    NotRepeated: _not_repeated,
    NotEndingWith: _not_ending_with,
    FewerNewlines: _fewer_newlines,
    OneOf: _one_of,
    IsTrue: _is_true,
}
