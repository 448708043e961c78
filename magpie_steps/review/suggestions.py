"""What does the machine say about a row, as suggestions that a reviewer accepts or corrects?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite
from typing import Any

from magpie_steps.review.settings import (
    ANSWER_NAMES,
    DROP,
    HUMAN_CATEGORY,
    HUMAN_DIFFICULTY,
    HUMAN_ISSUES,
    HUMAN_KEEP,
    HUMAN_QUALITY,
    ISSUES,
    KEEP,
    Question,
    ranking,
)

FILTER = "filter"
"""Who suggests whether to keep a row."""

_NO_AGENT = re.compile(r"[^\w:./ -]", re.ASCII)
"""What the server refuses in an agent's name."""

_AGENT_LENGTH = 200

_TAGGERS = (
    (HUMAN_QUALITY, "quality_generator"),
    (HUMAN_DIFFICULTY, "difficulty_generator"),
    (HUMAN_CATEGORY, "task_category_generator"),
)

_REASONS: Mapping[str, str] = {
    "template_tokens": "template_leak",
    "control_tokens": "template_leak",
    "answer_attached": "answer_in_question",
    "truncated": "truncated",
    "language": "off_language",
    "repeated": "near_duplicate",
    "incomplete": "truncated",
    "recipe_safe": "unsafe",
}
"""The issue behind a drop reason, by the words that it ends with."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A machine's answer to a question.

    Attributes:
        question: The question's name.
        value: A label; several labels; or names of answers, best first.
        agent: Who says so: a model, "rules" or "filter".
        score: How sure it is, 0 to 1, one number per value; None if it does not say.
    """

    question: str
    value: str | tuple[str, ...]
    agent: str
    score: tuple[float, ...] | None = None


def suggestions(
    row: Mapping[str, Any], rewards: Sequence[float | None], answers: int
) -> list[Suggestion]:
    """Return what the machine says about a row.

    Args:
        row: The row; columns may be missing.
        rewards: The rewards of its compared answers in the order that reviewers see, None for none.
        answers: How many answers can be ranked.
    """
    return [
        *_decision(row),
        *_labels(row),
        *_issues(row, rewards),
        *_ranking(row, rewards, answers),
    ]


def machine_label(row: Mapping[str, Any], question: Question) -> str:
    """Return the machine's answer to a question of labels, "" for none."""
    value = row.get(question.machine)
    if isinstance(value, bool):
        return KEEP if value else DROP
    return value if isinstance(value, str) and value in question.labels else ""


def agent_name(text: object) -> str:
    """Return a name that the server takes; a folder is named by its last part."""
    name = _NO_AGENT.sub("_", str(text or ""))[-_AGENT_LENGTH:].strip()
    return name if re.search("[A-Za-z0-9]", name) else "unknown"


def _decision(row: Mapping[str, Any]) -> list[Suggestion]:
    label = machine_label(row, HUMAN_KEEP)
    return [Suggestion(HUMAN_KEEP.name, label, FILTER)] if label else []


def _labels(row: Mapping[str, Any]) -> list[Suggestion]:
    return [
        Suggestion(question.name, label, agent_name(row.get(generator)))
        for question, generator in _TAGGERS
        if (label := machine_label(row, question))
    ]


def _issues(row: Mapping[str, Any], rewards: Sequence[float | None]) -> list[Suggestion]:
    """Return what is wrong by flags and by the drop reason.

    Not that the response is truncated where answers are compared: that would tell which one it is.
    """
    reason = row.get("drop_reason") or ""
    found = {issue for word, issue in _REASONS.items() if reason.endswith(word)}
    found |= {"unsafe"} if row.get("guard_generator") and row.get("safe") is False else set()
    found |= {"truncated"} if row.get("response_finish_reason") == "length" else set()
    if rewards:
        found -= {"truncated"}
    labels = tuple(issue for issue in ISSUES if issue in found)
    return [Suggestion(HUMAN_ISSUES.name, labels, FILTER)] if labels else []


def _ranking(
    row: Mapping[str, Any], rewards: Sequence[float | None], answers: int
) -> list[Suggestion]:
    """Return the order by reward, each with its chance to be the best one (Bradley-Terry).

    Names without an answer come last, as the server wants all names ranked.
    """
    known = [reward for reward in rewards if reward is not None and isfinite(reward)]
    if not rewards or len(known) < len(rewards):
        return []
    weights = [exp(reward - max(known)) for reward in known]
    weights += [0.0] * (answers - len(weights))
    best_first = sorted(range(answers), key=lambda place: -weights[place])
    return [
        Suggestion(
            ranking(answers).name,
            tuple(ANSWER_NAMES[place] for place in best_first),
            agent_name(row.get("reward_model")),
            tuple(round(weights[place] / sum(weights), 4) for place in best_first),
        )
    ]
