"""How is a prompt shown so that all of it can be seen?

Control tokens stand out, a line end is ``↵``, a space at an end is ``·``. The text is a stranger's:
what a terminal would obey is written as an escape.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from magpie_steps.markup import visible

LONGEST = 2_000
"""Characters of a text that are shown; of a longer one, its beginning and its end."""

_OUR_SIGNS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "↵·⟦⟧"}
"""What stands for something else here, where a text holds it itself."""


@dataclass(frozen=True, slots=True)
class Style:
    """What a control token stands between.

    Attributes:
        opening: What stands before it.
        closing: What stands after it.
    """

    opening: str
    closing: str


BRACKETS = Style("⟦", "⟧")
REVERSED = Style("\x1b[7m", "\x1b[27m")
"""On a terminal: with the colours of writing and ground exchanged."""


class Marker:
    """Shows texts of one template.

    Args:
        tokens: The texts that are control tokens.
        style: How they stand out.
    """

    def __init__(self, tokens: Collection[str], style: Style) -> None:
        longest_first = sorted(filter(None, tokens), key=lambda token: (-len(token), token))
        self._token = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._style = style

    def shown(self, text: str) -> str:
        """Return a text for people; it may have several lines."""
        if len(text) <= LONGEST:
            return self._marked(text)
        half = LONGEST // 2
        left_out = f"\n[{len(text) - 2 * half:,} characters are left out here]\n"
        return self._marked(text[:half]) + left_out + self._marked(text[-half:])

    def in_a_line(self, text: str) -> str:
        """Return a text for people on one line, without quotes around it."""
        return self.shown(text).replace("\n", "")

    def _marked(self, text: str) -> str:
        # A split at a group has what the group matched at the odd places.
        pieces = self._token.split(text)
        return "".join(
            self._as_token(piece) if index % 2 else _seen(piece)
            for index, piece in enumerate(pieces)
        )

    def _as_token(self, token: str) -> str:
        return f"{self._style.opening}{_seen(token)}{self._style.closing}"


def _seen(text: str) -> str:
    """Return a text whose white space at the ends, and whatever else hides, is written out."""
    named = visible(text.translate(_OUR_SIGNS))
    dotted = re.sub(r"\A +| +(?=\n|\Z)", lambda spaces: "·" * len(spaces[0]), named)
    return dotted.replace("\n", "↵\n")
