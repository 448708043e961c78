"""How does any text stand in Markdown without becoming part of it?"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's kinds of characters that show nothing or change what follows: control characters, those
that turn the writing direction, lone surrogates, the separators of lines and paragraphs."""

_BLOCK_START = re.compile(r"^(\d*)([-+=.)])(?=\s|\2|$)")
"""What begins a list, a ruler or the line under a heading where it begins a line."""

# An underscore inside a word, as in a column's name, means nothing.
_MEANS_SOMETHING = re.compile(r"([\\*{}\[\]<>#~&|]|(?<!\w)_|_(?!\w))")

_INSIDE = re.compile(
    r"(?<=:)(?=//)|(?i:(?<=www)(?=\.))|(?<=@)(?=\S)"  # addresses of pages and mail, mentions
    r"|(?<=\\)(?=[()\[\]])|(?<=\$)(?=\$)"  # formulas
)
"""Places inside what renderers look for beside Markdown's own syntax."""

_GAP = "&#8203;"
"""A space of no width, which stands at these places. Escapes are no help: most renderers look in
the finished text, where they are undone, and some in the source, where one makes a formula."""

_DOLLAR = "&#36;"


def plain(text: str) -> str:
    """Return a text whose characters mean nothing in Markdown or HTML, on one line.

    Neither do addresses and mentions in it become links, nor what is like LaTeX a formula.
    """
    parts = _INSIDE.split(visible(one_line(text.replace("`", "'"))))
    escaped = (_MEANS_SOMETHING.sub(r"\\\1", part).replace("$", _DOLLAR) for part in parts)
    return _BLOCK_START.sub(r"\1\\\2", _GAP.join(escaped))


def one_line(text: str) -> str:
    """Return a text on one line, with single spaces between its words."""
    return " ".join(text.split())


def code(value: object) -> str:
    """Return a value as inline code, on one line and with no backtick of its own."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{visible(one_line(text.replace('`', chr(39)))) or ' '}`"


def fenced(text: str, language: str = "text") -> str:
    """Return a Markdown code block that no text inside can end."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def visible(text: str) -> str:
    r"""Return a text in which what cannot be seen is written as an escape such as ``\u202e``.

    Line feeds stay. An escape is also one of JSON's, so that JSON stays JSON.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _is_unseen(c) else c for c in text)


def table(header: Sequence[str], lines: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """Return a Markdown table, without a newline at its end.

    Args:
        header: The columns' titles.
        lines: The cells of each line, Markdown already.
        numbers: Whether all columns but the first are aligned to the right.
    """
    ruler = ["---", *(["---:" if numbers else "---"] * (len(header) - 1))]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in (header, ruler, *lines))


def _cell(text: str) -> str:
    """Return a text that does not end its table cell."""
    # One that stands after an odd number of backslashes is escaped already.
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", text)


def _is_unseen(character: str) -> bool:
    return character != "\n" and unicodedata.category(character) in _UNSEEN


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]
