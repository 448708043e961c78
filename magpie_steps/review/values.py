"""Is a value of a row what it should be, when rows come from anywhere?"""

from math import isfinite

NO_UUID = "no_uuid"
NO_TEXT = "no_text"
TOO_LONG = "too_long"
REPEATED = "repeated_uuid"
"""Why a row cannot be reviewed: it has no id, nothing to show, more messages than Argilla takes, or
the id of an earlier row."""


def finite(value: object) -> float | None:
    """Return a number, None for what is none, NaN and infinities among it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def text_of(value: object) -> str:
    """Return a text that any database can hold, "" for what is none or is blank."""
    if not isinstance(value, str) or not value.strip():
        return ""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
