"""How are rows counted as they pass by, without being kept?"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_LABELS = 1000
"""So many different labels are counted apart; labels that turn up later are counted together."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the values of a column come to, exactly.

    Attributes:
        given: Rows that have a finite value.
        not_given: Rows that have none.
        mean: The mean of the values; 0 without any.
        deviation: Their standard deviation, that of a whole population; 0 without any.
        least: The least; 0 without any.
        most: The greatest; 0 without any.
    """

    given: int
    not_given: int
    mean: float
    deviation: float
    least: float
    most: float

    @property
    def total(self) -> float:
        """The sum of the values."""
        return self.mean * self.given


@dataclass(slots=True)
class NumberTally:
    """Adds up a column's values, a part at a time."""

    given: int = 0
    not_given: int = 0
    mean: float = 0.0
    squares: float = 0.0  # the sum of squared differences from the mean
    least: float = np.inf
    most: float = -np.inf

    def add(self, values: Floats) -> None:
        """Add values, with NaN for rows without one."""
        finite = values[np.isfinite(values)]
        self.not_given += len(values) - len(finite)
        if not len(finite):
            return
        # Parts are joined by their means (Chan et al. 1979): sums of squares of large values would
        # lose the small differences between them.
        mean = float(finite.mean())
        total, gap = self.given + len(finite), mean - self.mean
        self.squares += float(((finite - mean) ** 2).sum())
        self.squares += gap * gap * (self.given * len(finite) / total)
        self.mean += gap * (len(finite) / total)
        self.given = total
        self.least = min(self.least, float(finite.min()))
        self.most = max(self.most, float(finite.max()))

    def end(self) -> Numbers:
        """Return what the values come to."""
        if not self.given:
            return Numbers(0, self.not_given, 0.0, 0.0, 0.0, 0.0)
        deviation = float(np.sqrt(self.squares / self.given))
        return Numbers(self.given, self.not_given, self.mean, deviation, self.least, self.most)


@dataclass(frozen=True, slots=True)
class Labels:
    """How often each label of a column occurs.

    Attributes:
        counts: Rows by label: in the order of the labels' scale, or the most frequent first.
        unknown: Rows with a text that is none of the labels.
        not_given: Rows without a label.
    """

    counts: Mapping[str, int]
    unknown: int = 0
    not_given: int = 0

    @property
    def given(self) -> int:
        """Rows with one of the labels."""
        return sum(self.counts.values())

    def share(self, label: str) -> float:
        """Return a label's share of the rows with one of the labels, 0 to 1."""
        return self.counts.get(label, 0) / max(self.given, 1)


@dataclass(slots=True)
class LabelTally:
    """Counts a column's labels, a part at a time.

    Attributes:
        known: The labels in their order, None if every text is one.
    """

    known: Sequence[str] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    not_given: int = 0

    def add(self, labels: Iterable[tuple[str | None, int]]) -> None:
        """Add labels with the number of their rows; None is no label."""
        for label, number in labels:
            if label is None:
                self.not_given += number
            elif self._accepts(label):
                self.counts[label] += number
            else:
                self.unknown += number

    def end(self) -> Labels:
        """Return the counts."""
        names = [name for name, _ in self.counts.most_common()] if self.known is None else None
        order = names if names is not None else self.known or ()
        counts = {str(name): self.counts[name] for name in order}
        return Labels(counts, self.unknown, self.not_given)

    def _accepts(self, label: str) -> bool:
        if self.known is not None:
            return label in self.known
        return label in self.counts or len(self.counts) < MOST_LABELS


@dataclass(slots=True)
class Sample:
    """A random sample of the rows that pass by: each has a random key, the least keys stay.

    Which rows stay does not depend on the parts in which they come.

    Attributes:
        size: The most rows that stay.
    """

    size: int
    _keys: Floats = field(default_factory=lambda: np.empty(0))
    _rows: Any = None

    def places(self, keys: Floats) -> NDArray[np.intp]:
        """Return the places of those of the next rows that may stay, by their keys."""
        if not self.size:
            return np.empty(0, np.intp)
        full = len(self._keys) == self.size
        return np.flatnonzero(keys < self._keys.max()) if full else np.arange(len(keys))

    def add(self, keys: Floats, rows: NDArray[Any]) -> None:
        """Add rows, one line of an array each, with their keys."""
        keys = np.concatenate([self._keys, keys])
        rows = rows if self._rows is None else np.concatenate([self._rows, rows])
        if len(keys) > self.size:
            stay = np.argpartition(keys, self.size)[: self.size]
            keys, rows = keys[stay], rows[stay]
        self._keys, self._rows = keys, rows

    def end(self, columns: int) -> NDArray[Any]:
        """Return the sample, in an order by chance; `columns` is the width of one without rows."""
        if self._rows is None:
            return np.empty((0, columns))
        rows: NDArray[Any] = self._rows[np.argsort(self._keys, kind="stable")]
        return rows
