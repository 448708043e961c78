"""What do the reviewers of a row say together?"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import nan
from statistics import fmean
from typing import Any

from magpie_steps.column_types import ColumnType
from magpie_steps.reasons import DROPPED_IN_REVIEW
from magpie_steps.review.answers import unblinded
from magpie_steps.review.records import shown_key
from magpie_steps.review.settings import (
    ANSWER_ORDER,
    ANSWERS,
    CONVERSATION,
    HUMAN_CATEGORY,
    HUMAN_DIFFICULTY,
    HUMAN_ISSUES,
    HUMAN_KEEP,
    HUMAN_QUALITY,
    HUMAN_REWRITE,
    ISSUES,
    KEEP,
    RANKING,
)

CHOICES = (HUMAN_KEEP, HUMAN_QUALITY, HUMAN_DIFFICULTY, HUMAN_CATEGORY)
"""The questions with one label each."""

VERDICT_TYPES: Mapping[str, ColumnType] = {
    **{question.name: "string" for question in CHOICES},
    HUMAN_ISSUES.name: ["string"],
    HUMAN_REWRITE.name: ["string"],
    RANKING: ["string"],
    "annotators": "int64",
    "agreement": "float64",
    "machine_keep": "bool",
    "machine_drop_reason": "string",
    "verdicts": [{"annotator": "string", "question": "string", "value": "string"}],
}
"""The columns that reviews add to a row.

The labels are those that most reviewers chose, "" where none leads; issues those that more than
half see; rewritten responses all of them; the ranking where answers stand, best first by mean rank.
Where answers were compared, a row is kept if its question is good and any of them right; an issue
is one of the question or of all of them.
`agreement` is the share of pairs of reviewers that agree whether to keep the row, NaN for one.
`verdicts` has every answer of everyone, without names.
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """A record as reviewers answered it.

    Attributes:
        uuid: The row.
        key: A digest of what they saw, see `records.Shown.key`.
        order: Where the compared answers stand, in the order shown.
        answers: Values of the submitted answers by reviewer and question, as the server has them.
        discarded: How many reviewers discarded it.
    """

    uuid: str
    key: str
    order: str
    answers: Mapping[str, Mapping[str, Any]]
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the reviewers of a row say.

    Attributes:
        choices: Each reviewer's label, by question and reviewer.
        issues: Each reviewer's issues, of those who answered anything.
        ranks: Each reviewer's ranks, 1 is best, by where the answers stand in the row.
        rewrites: Rewritten responses.
        annotators: The reviewers.
        compared: Whether they saw several answers side by side, without knowing the row's own.
    """

    choices: Mapping[str, Mapping[str, str]]
    issues: Mapping[str, tuple[str, ...]]
    ranks: Mapping[str, Mapping[str, int]]
    rewrites: tuple[str, ...]
    annotators: tuple[str, ...]
    compared: bool = False

    def label(self, question: str) -> str:
        """Return the label that most chose, "" if none leads."""
        return leading(self.choices[question].values())

    @property
    def mean_ranks(self) -> dict[str, float]:
        """Where answers stand, each with its mean rank, best first; {} if nobody ranked them."""
        given = list(self.ranks.values())
        places = given[0] if given else {}
        means = {place: fmean(ranks[place] for ranks in given) for place in places}
        return dict(sorted(means.items(), key=lambda item: item[1]))

    @property
    def agreed_issues(self) -> list[str]:
        """The issues that more than half of the reviewers see."""
        seen = Counter(issue for issues in self.issues.values() for issue in issues)
        return [issue for issue in ISSUES if seen[issue] * 2 > len(self.issues)]

    def columns(self, row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        """Return what reviews add to a row and change of it.

        Args:
            row: The row.
            names: What each reviewer is called.
        """
        kept = row.get("keep") is not False
        decision = self.label(HUMAN_KEEP.name)
        keep = decision == KEEP if decision else kept
        reason = row.get("drop_reason") or ""
        return {
            **{question.name: self.label(question.name) for question in CHOICES},
            HUMAN_ISSUES.name: self.agreed_issues,
            HUMAN_REWRITE.name: list(self.rewrites),
            RANKING: list(self.mean_ranks),
            "annotators": len(self.annotators),
            "agreement": pairwise_agreement(self.choices[HUMAN_KEEP.name].values()),
            "machine_keep": kept,
            "machine_drop_reason": reason,
            "keep": keep,
            "drop_reason": "" if keep else reason or DROPPED_IN_REVIEW,
            "verdicts": [
                {"annotator": names[reviewer], "question": question, "value": value}
                for reviewer in self.annotators
                for question, value in self._said_by(reviewer)
            ],
        }

    def _said_by(self, reviewer: str) -> list[tuple[str, str]]:
        """Return the answers of a reviewer as texts."""
        found = [(q, labels[reviewer]) for q, labels in self.choices.items() if reviewer in labels]
        found += [(HUMAN_ISSUES.name, issue) for issue in self.issues[reviewer]]
        if reviewer in self.ranks:
            found.append((RANKING, ranking_text(self.ranks[reviewer])))
        return found


def answered(item: Mapping[str, Any]) -> Answered:
    """Return a record of the server with its submitted answers; drafts do not count."""
    fields, metadata = item["fields"], item.get("metadata") or {}
    responses = item.get("responses") or []
    return Answered(
        uuid=item.get("external_id") or "",
        key=shown_key(fields.get(CONVERSATION.name) or [], fields.get(ANSWERS.name) or ""),
        order=metadata.get(ANSWER_ORDER.name) or "",
        answers={
            response["user_id"]: {
                name: value["value"] for name, value in (response["values"] or {}).items()
            }
            for response in responses
            if response["status"] == "submitted"
        },
        discarded=sum(response["status"] == "discarded" for response in responses),
    )


def verdict_of(record: Answered) -> Verdict:
    """Return what reviewers say about a row, with the blinding undone."""
    places = unblinded(record.order)
    given = sorted(record.answers.items())
    return Verdict(
        choices={
            question.name: {
                reviewer: values[question.name]
                for reviewer, values in given
                if values.get(question.name)
            }
            for question in CHOICES
        },
        issues={r: tuple(values.get(HUMAN_ISSUES.name) or ()) for r, values in given},
        ranks={
            reviewer: {
                places[each["value"]]: each["rank"]
                for each in values[RANKING]
                if each["value"] in places
            }
            for reviewer, values in given
            if places and values.get(RANKING)
        },
        rewrites=tuple(
            text for _, values in given if (text := values.get(HUMAN_REWRITE.name) or "").strip()
        ),
        annotators=tuple(reviewer for reviewer, _ in given),
        compared=bool(places),
    )


def leading(labels: Iterable[str]) -> str:
    """Return the most frequent label, "" for none or several."""
    counts = Counter(labels).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return ""
    return counts[0][0]


def pairwise_agreement(labels: Iterable[str]) -> float:
    """Return the share of pairs of labels that are equal, NaN for fewer than two."""
    counts = Counter(labels)
    n = counts.total()
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)) if n > 1 else nan


def ranking_text(ranks: Mapping[str, float]) -> str:
    """Return a ranking as a text, best first: "response > base_response", "=" between equals."""
    ordered: Sequence[tuple[str, float]] = sorted(
        ranks.items(), key=lambda item: (item[1], item[0])
    )
    groups = groupby(ordered, key=lambda item: item[1])
    return " > ".join(" = ".join(place for place, _ in group) for _, group in groups)
