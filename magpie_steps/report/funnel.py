"""How many rows are left after each stage of a run?"""

from collections import Counter
from dataclasses import dataclass

from magpie_steps.report.statistics import Statistics

_STAGES = (
    ("with instruction", ("instruction_", "no_instruction")),
    ("with conversation", ("follow_up_", "messages_", "bad_messages")),
    ("with response", ("response_", "responses_")),
    ("with base response", ("base_response_",)),
    ("with rewards", ("reward_",)),
    ("not contaminated", ("contaminated",)),
    ("in training form", ("preference_", "sft_")),
    ("chosen by recipe", ("recipe_",)),
    ("kept in review", ("dropped_in_review",)),
)
"""The stages in the order in which rows go through them, and how their drop reasons begin."""

_OTHER = "without faults"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: What the rows that are left are.
        left: Their number.
    """

    name: str
    left: int


def stages(statistics: Statistics) -> list[Stage]:
    """Return the stages that removed rows, between all rows and the kept ones."""
    lost: Counter[str] = Counter()
    for reason, rows in statistics.dropped.items():
        lost[_stage(reason)] += rows
    found, left = [Stage("generated", statistics.rows)], statistics.rows
    for name in (_OTHER, *(name for name, _ in _STAGES)):
        if lost[name]:
            left -= lost[name]
            found.append(Stage(name, left))
    kept = statistics.final.rows
    return [*found, Stage("kept", kept)]


def _stage(reason: str) -> str:
    return next((name for name, starts in _STAGES if reason.startswith(starts)), _OTHER)
