"""How far do reviewers agree with each other and with the machine?"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any


@dataclass(frozen=True, slots=True)
class Confusion:
    """A machine's labels against those of people.

    Attributes:
        labels: The labels that occur, in their own order.
        counts: Rows by the machine's label, then by people's.
        kappa: Cohen's kappa, linearly weighted for levels; None if it is not defined.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    kappa: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the table with its number of rows and the share of equal labels, for JSON."""
        rows = sum(map(sum, self.counts))
        equal = sum(self.counts[place][place] for place in range(len(self.labels)))
        return {
            "labels": list(self.labels),
            "counts": [list(line) for line in self.counts],
            "rows": rows,
            "equal": round(equal / rows, 6) if rows else None,
            "kappa": self.kappa,
        }


def alpha(table: Iterable[Mapping[str, str]], levels: Sequence[str] = ()) -> float | None:
    """Return Krippendorff's alpha, None if it is not defined.

    It is not if nobody shares a row with anybody, or if all said the same.

    Args:
        table: For each row, the label by reviewer; a reviewer may be missing.
        levels: The labels of an ordered scale, lowest first; without, labels differ or not.
    """
    rows = [row for row in table if len(row) > 1]
    values = sorted({label for row in rows for label in row.values()})
    if len(values) < 2:
        return None
    import krippendorff

    code = {label: number for number, label in enumerate(levels or values)}
    reviewers = sorted({reviewer for row in rows for reviewer in row})
    codes = [[code[row[r]] if r in row else nan for row in rows] for r in reviewers]
    found = krippendorff.alpha(
        reliability_data=codes, level_of_measurement="ordinal" if levels else "nominal"
    )
    return round(float(found), 6)


def confusion(
    pairs: Iterable[tuple[str, str]], labels: Sequence[str], *, ordered: bool = False
) -> Confusion:
    """Count pairs of a machine's and people's label.

    Args:
        pairs: The pairs; one with "" does not count.
        labels: All labels, in their own order.
        ordered: Whether they are levels.
    """
    counted = Counter(pair for pair in pairs if all(pair))
    there = tuple(label for label in labels if any(label in pair for pair in counted))
    counts = tuple(tuple(counted[machine, human] for human in there) for machine in there)
    return Confusion(there, counts, _kappa(counted, there, "linear" if ordered else None))


def _kappa(
    counted: Mapping[tuple[str, str], int], labels: Sequence[str], weights: str | None
) -> float | None:
    if len(labels) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    machine, human = zip(*counted, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not defined: NaN says so
        found = float(
            cohen_kappa_score(
                machine,
                human,
                labels=list(labels),
                weights=weights,
                sample_weight=list(counted.values()),
            )
        )
    return round(found, 6) if isfinite(found) else None
