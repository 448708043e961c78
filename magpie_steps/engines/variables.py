"""Can these be a chat template's variables?"""

from collections.abc import Mapping
from math import isfinite
from typing import Any


def check_variables(name: str, given: Mapping[str, Any]) -> None:
    """Check that the values of variables can be written down, hashed and read again.

    They are JSON's, but that distilabel hashes no list of lists, or of several kinds.

    Args:
        name: What the variables were given as.
        given: Them, by their names.

    Raises:
        ValueError: One of them cannot.
    """
    for variable, value in given.items():
        if not (_is_text(variable) and _is_plain(value)):
            raise ValueError(
                f"{name} has {variable!r:.40} = {value!r:.80}; give texts, finite numbers, true,"
                " false, null and objects of them, and lists of one of these kinds but null"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_text(name) and _is_plain(inner) for name, inner in value.items())
    if isinstance(value, list):
        kinds = {isinstance(inner, dict) for inner in value}
        nested = any(inner is None or isinstance(inner, list) for inner in value)
        return len(kinds) <= 1 and not nested and all(map(_is_plain, value))
    if isinstance(value, float):
        return isfinite(value)
    return value is None or isinstance(value, int) or _is_text(value)


def _is_text(value: Any) -> bool:
    """Return whether a value is a text that can be written: half a character cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
