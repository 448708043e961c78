"""Which prompt texts does the package ship?

Every prompt is a text file beside this module, in our own words. The file name of a category's
system prompt, without its ending, is its key, which the column ``system_prompt_key`` holds.
"""

from functools import cache
from importlib.resources import files

CATEGORIES: tuple[str, ...] = (
    "information_seeking",
    "reasoning",
    "planning",
    "editing",
    "coding_debugging",
    "math",
    "role_playing",
    "data_analysis",
    "creative_writing",
    "advice_seeking",
    "brainstorming",
    "others",
)
"""Keys of the twelve task categories, in the order of the Magpie paper's tagger."""


def category_prompts() -> dict[str, str]:
    """Return the system prompt of every category, by key and in the order of `CATEGORIES`.

    The text is one or two ASCII sentences that say what the assistant is for, then what a user
    of it asks. The dict is fresh on every call, so a caller may change its copy.
    """
    return {key: _read(f"category/{key}.txt") for key in CATEGORIES}


def multi_turn_prompt() -> str:
    """Return the system prompt under which a user goes on after the first answer.

    It says what the paper's (figure 14) says, in our words: first a question, then related ones.
    """
    return _read("multi_turn.txt")


def tagging_prompt() -> str:
    """Return what a model is told that labels an instruction; the instruction follows it.

    It shows what an answer looks like before anything else, with real values in every place.
    """
    return _read("tagging.txt")


def few_shot_prompt() -> str:
    """Return a preamble and worked questions and answers, for a model that knows no chat.

    Each question follows a line ``[Question]`` and each answer a line ``[Answer]``, as the question
    that is put behind them must.
    """
    return _read("base/few_shot.txt")


@cache
def _read(name: str) -> str:
    """Return a prompt file's text without the newline at its end."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8").strip()
