"""How is a model that knows no chat asked in plain text, and where does its answer end?

A base model continues a document. So the document is made to look like one in which an answer comes
next, and what comes after the answer, as a rule the next question, is cut off.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from magpie_steps.prompts import few_shot_prompt

PromptStyle = Literal["raw", "few_shot", "template"]
"""How a base model is asked; `text_styles` has those in plain text, the chat template the other."""


@dataclass(frozen=True, slots=True)
class TextStyle:
    """A document around an instruction.

    Attributes:
        before: What stands before the instruction.
        after: What stands between it and the answer.
        stop_strings: Texts that begin a further question, for the engine to stop at.
        run_on: Finds where a further question begins, also in a form that no stop string has.
    """

    before: str
    after: str
    stop_strings: tuple[str, ...]
    run_on: re.Pattern[str]

    def prompt(self, instruction: str) -> str:
        """Return the document up to where the answer begins."""
        return f"{self.before}{instruction.strip()}{self.after}"

    def cut(self, text: str) -> str:
        """Return an answer without what follows it."""
        found = self.run_on.search(text)
        return text[: found.start()] if found else text


@cache
def text_styles() -> Mapping[str, TextStyle]:
    """Return the styles in plain text by name, as they are in `PromptStyle`.

    `raw` is the instruction and a blank line. `few_shot` has worked examples in front, the manner
    of URIAL (Lin et al. 2023, arXiv 2312.01552), with marks that few answers hold themselves.
    """
    return {
        "raw": TextStyle(
            before="",
            after="\n\n",
            stop_strings=(
                "\nQuestion:",
                "\nQ:",
                "\nUser:",
                "\nHuman:",
                "\nInstruction:",
                "\n### Instruction",
            ),
            run_on=_line_starting_with(
                r"(?:question|q|user|human|instruction)(?: \d+)?\W{0,2}:|#+ *instruction\b"
            ),
        ),
        "few_shot": TextStyle(
            before=f"{few_shot_prompt()}\n\n[Question]\n",
            after="\n\n[Answer]\n",
            stop_strings=("[Question]", "[Answer]"),
            run_on=_line_starting_with(r"\[ *(?:question|answer)(?: *\d+)? *\]"),
        ),
    }


def _line_starting_with(mark: str) -> re.Pattern[str]:
    """Return what finds a line that begins with a mark, in any case, perhaps in bold or quoted."""
    return re.compile(rf"^[ \t*_>-]*(?:{mark})", re.IGNORECASE | re.MULTILINE)
