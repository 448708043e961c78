"""How does a text stand in Argilla's pages without becoming part of them?

Its pages (2.8) run the scripts of a chat without Markdown and of a plain text that looks like HTML,
and with Markdown they fetch its images. So each text goes into one block of HTML of our own, in
which nothing of it means anything, in fields with Markdown, which Argilla sanitises besides.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence

from magpie_steps.conversation import Message

BUBBLE_LENGTH = 20_000
"""Characters of a chat message that the server takes at most (its ARGILLA_MAX_MESSAGE_LENGTH)."""

MAX_BUBBLES = 500
"""Messages of a chat that the server takes at most."""

_OPEN, _CLOSE = '<div style="white-space:pre-wrap;overflow-wrap:anywhere">', "</div>"

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text that follows."""

_WHITE = {ord(character): f"&#{ord(character)};" for character in "\t\n"}
"""An empty line would end the block, and Markdown would begin."""


def inert(text: str) -> str:
    """Return HTML on one line that shows a text and does nothing else.

    Control characters are written as their codes.
    """
    lines = text.replace("\r\n", "\n").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    seen = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", lines)
    return html.escape(seen).translate(_WHITE)


def bubbles(messages: Sequence[Message]) -> list[Message]:
    """Return messages as a chat field takes them; a long one becomes several."""
    room = BUBBLE_LENGTH - len(_OPEN) - len(_CLOSE)
    return [
        {"role": message["role"], "content": f"{_OPEN}{part}{_CLOSE}"}
        for message in messages
        for part in _parts(inert(message["content"]), room)
    ]


def side_by_side(texts: Mapping[str, str]) -> str:
    """Return texts beside each other, each below its name; from three on, in several lines."""
    boxes = [
        f'<div style="flex:1 1 40%;min-width:12em"><b>{inert(name)}</b>{_OPEN}{inert(text)}{_CLOSE}'
        "</div>"
        for name, text in texts.items()
    ]
    return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em">{"".join(boxes)}</div>'


def folded(summary: str, values: Mapping[str, str]) -> str:
    """Return named values that are shown on a click."""
    lines = [
        f"<div><b>{inert(name)}</b></div>{_OPEN}{inert(v)}{_CLOSE}" for name, v in values.items()
    ]
    return f"<details><summary>{inert(summary)}</summary>{''.join(lines)}</details>"


def _parts(encoded: str, room: int) -> Iterator[str]:
    """Yield parts of HTML text, none longer than `room`, cut between characters."""
    start = 0
    while start < len(encoded):
        end = start + room
        reference = encoded.rfind("&", start, end)
        if end < len(encoded) and reference > start and ";" not in encoded[reference:end]:
            end = reference
        yield encoded[start:end]
        start = end
