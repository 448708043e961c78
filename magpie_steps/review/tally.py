"""What do all verdicts of a review add up to?"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from magpie_steps.review.agreement import alpha, confusion
from magpie_steps.review.settings import DROP, HUMAN_ISSUES, HUMAN_KEEP, ISSUES, KEEP, RANKING
from magpie_steps.review.suggestions import machine_label
from magpie_steps.review.verdicts import CHOICES, Verdict, ranking_text


class Tally:
    """Counts over reviewed rows; what is in memory is the reviewers' answers."""

    def __init__(self) -> None:
        self._verdicts: list[Verdict] = []
        self._pairs: dict[str, list[tuple[str, str]]] = {q.name: [] for q in CHOICES}
        self._preferred: Counter[str] = Counter()

    def add(self, row: Mapping[str, Any], verdict: Verdict) -> None:
        """Count a reviewed row."""
        self._verdicts.append(verdict)
        for question in CHOICES:
            pair = machine_label(row, question), verdict.label(question.name)
            self._pairs[question.name].append(pair)
        if means := verdict.mean_ranks:
            self._preferred[ranking_text(means)] += 1

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return len(self._verdicts)

    def as_dict(self) -> dict[str, Any]:
        """Return everything that was counted, ready for JSON."""
        return {
            "rows": self.rows,
            "compared": sum(verdict.compared for verdict in self._verdicts),
            "verdicts": sum(len(verdict.annotators) for verdict in self._verdicts),
            "annotators": len({who for v in self._verdicts for who in v.annotators}),
            "filter": self._filter(),
            "agreement": self._agreement(),
            "machine_against_people": {
                question.machine: confusion(
                    self._pairs[question.name], list(question.labels), ordered=question.ordered
                ).as_dict()
                for question in CHOICES
            },
            "issues": self._issues(),
            "rankings": dict(self._preferred.most_common()),
        }

    def _filter(self) -> dict[str, Any]:
        """Return how often people confirm what the filter kept and what it removed."""
        counts = Counter(self._pairs[HUMAN_KEEP.name])
        kept = counts[KEEP, KEEP] + counts[KEEP, DROP]
        removed = counts[DROP, DROP] + counts[DROP, KEEP]
        return {
            "kept": kept,
            "kept_confirmed": counts[KEEP, KEEP],
            "removed": removed,
            "removed_confirmed": counts[DROP, DROP],
            "undecided": counts[KEEP, ""] + counts[DROP, ""],
            "precision": _share(counts[KEEP, KEEP], kept),
            "removed_rightly": _share(counts[DROP, DROP], removed),
        }

    def _agreement(self) -> dict[str, Any]:
        """Return Krippendorff's alpha of each question, with the rows that two or more answered."""
        found: dict[str, Any] = {}
        for question in CHOICES:
            table = [verdict.choices[question.name] for verdict in self._verdicts]
            levels = list(question.labels) if question.ordered else []
            found[question.name] = _agreed(table, levels)
        found[HUMAN_ISSUES.name] = _agreed(
            [
                {who: str(issue in issues) for who, issues in verdict.issues.items()}
                for verdict in self._verdicts
                for issue in ISSUES
            ],
            units_of_a_row=len(ISSUES),
        )
        found[RANKING] = _agreed(
            [{who: ranking_text(r) for who, r in v.ranks.items()} for v in self._verdicts]
        )
        return found

    def _issues(self) -> dict[str, int]:
        seen = Counter(issue for verdict in self._verdicts for issue in verdict.agreed_issues)
        return dict(seen.most_common())


def _agreed(
    table: list[Mapping[str, str]] | list[dict[str, str]],
    levels: list[str] | None = None,
    units_of_a_row: int = 1,
) -> dict[str, Any]:
    """Return alpha over the units of a table, which may be several of each row, and shared rows."""
    shared = sum(len(unit) > 1 for unit in table)
    return {
        "shared": shared // units_of_a_row,
        "alpha": alpha(table, levels or ()),
        "scale": "ordinal" if levels else "nominal",
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
