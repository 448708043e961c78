"""What does a guard model's answer say?

Llama-Guard-style models write "safe", or "unsafe" and the codes of the categories. The codes mean
other things from release to release, so their names are read from the prompt, which lists them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CATEGORY = re.compile(r"^\s*([A-Z]{1,2}\d{1,2}): (.+?)\.?\s*$", re.MULTILINE)
_CODE = re.compile(r"\b[A-Z]{1,2}\d{1,2}\b")
_VERDICT = re.compile(r"\W*(safe|unsafe)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A guard model's verdict.

    Attributes:
        safe: Whether the conversation is safe; False without a verdict.
        categories: What it falls into if it is not, each once.
        reason: Why there is no verdict, "" if there is one.
    """

    safe: bool
    categories: tuple[str, ...] = ()
    reason: str = ""


def categories_in(prompt: str) -> dict[str, str]:
    """Return the categories that a guard model's prompt lists, as names by code.

    "S1: Violent Crimes." is the category violent_crimes with the code S1.
    """
    return {code: _name(title) for code, title in _CATEGORY.findall(prompt)}


def read_verdict(text: str, names: Mapping[str, str]) -> Verdict:
    """Read a guard model's answer.

    Args:
        text: The answer.
        names: The categories' names by code; a code without a name stands for itself.
    """
    if not text.strip():
        return Verdict(False, reason="empty")
    found = _VERDICT.match(text)
    if found is None:
        return Verdict(False, reason="unknown_label")
    if found[1].casefold() == "safe":
        return Verdict(True)
    codes = dict.fromkeys(_CODE.findall(text[found.end() :]))
    return Verdict(False, tuple(names.get(code, code) for code in codes))


def _name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.casefold()).strip("_")
