"""How does any text stand in Markdown without becoming part of it?"""

import json
import re


def fenced(text: str, language: str = "text") -> str:
    """Return a Markdown code block that no text inside can end."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def code(value: object) -> str:
    """Return a value as inline code, on one line and with no backtick of its own."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{' '.join(text.replace('`', chr(39)).split()) or ' '}`"


def plain(text: str) -> str:
    """Return a text whose characters mean nothing in Markdown or HTML, on one line."""
    one_line = " ".join(text.replace("`", "'").split())
    return re.sub(r"([\\*_{}\[\]<>#~&])", r"\\\1", one_line)
