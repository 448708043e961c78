"""How is a secret kept out of what is said?"""

import os
import re
from itertools import takewhile

SHORTEST = 8
"""A shorter value is no key, and such a text may stand anywhere."""

BEGINNING = 12
"""A server may quote the beginning of a key; this many characters of one tell too much already."""

_NAME = re.compile(r"(?i:token|key|secret|password|passwd|credentials?)\Z")
"""How the names of environment variables end that hold a secret."""

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
"""A user's name and password in an address."""

_SENT = re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}")
"""What an Authorization header sends."""

HIDDEN = "***"
"""What stands for a secret."""


def redacted(text: str, *secrets: str) -> str:
    """Return a text in which no secret is left, nor a long beginning of one.

    Secrets are those given, the values of environment variables such as HF_TOKEN, OPENAI_API_KEY
    and ARGILLA_API_KEY, users and passwords in addresses, and what Authorization headers send.

    Args:
        text: What is going to be said.
        secrets: Keys that are not in the environment; "" is none.
    """
    for secret in sorted({*filter(None, secrets), *_of_environment()}, key=len, reverse=True):
        text = _without_beginnings(text.replace(secret, HIDDEN), secret)
    return _SENT.sub(rf"\g<1>{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def _without_beginnings(text: str, secret: str) -> str:
    """Return a text with every beginning of a secret hidden, up to where the two part."""
    if len(secret) < BEGINNING:
        return text
    before, *after = text.split(secret[:BEGINNING])
    return HIDDEN.join([before, *(_apart(each, secret[BEGINNING:]) for each in after)])


def _apart(text: str, other: str) -> str:
    """Return a text without what it begins with as another one does."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    return text[sum(1 for _ in same) :]


def _of_environment() -> set[str]:
    values = (value.strip() for name, value in os.environ.items() if _NAME.search(name))
    return {value for value in values if len(value) >= SHORTEST}
