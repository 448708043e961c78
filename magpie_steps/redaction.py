"""How is a secret kept out of what is said?"""

import os
import re

SHORTEST = 8
"""A shorter value is no key, and such a text may stand anywhere."""

_NAME = re.compile(r"(?i:token|key|secret|password|passwd|credentials?)\Z")
"""How the names of environment variables end that hold a secret."""

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
"""A user's name and password in an address."""

_SENT = re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}")
"""What an Authorization header sends."""

HIDDEN = "***"
"""What stands for a secret."""


def redacted(text: str, *secrets: str) -> str:
    """Return a text in which no secret is left.

    Secrets are those given, the values of environment variables such as HF_TOKEN, OPENAI_API_KEY
    and ARGILLA_API_KEY, users and passwords in addresses, and what Authorization headers send.

    Args:
        text: What is going to be said.
        secrets: Keys that are not in the environment; "" is none.
    """
    for secret in sorted({*filter(None, secrets), *_of_environment()}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _SENT.sub(rf"\g<1>{HIDDEN}", _USER.sub(f"{HIDDEN}@", text))


def _of_environment() -> set[str]:
    values = (value.strip() for name, value in os.environ.items() if _NAME.search(name))
    return {value for value in values if len(value) >= SHORTEST}
