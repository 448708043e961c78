"""How far is a step?"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from magpie_steps.summary import duration


def _tell_nobody(line: str) -> None:
    """Drop a line."""


def _no_work(seconds: float) -> list[str]:
    """Return that nothing is known of the work behind the rows."""
    return []


@dataclass(slots=True)
class Progress:
    """Counts a step's rows and tells every few seconds how far it is.

    Attributes:
        total: Rows that the step will write, 0 if unknown.
        tell: Takes a line of text.
        work: Takes the seconds since the start and returns what to say of the model's work.
        every_seconds: Least time between two lines.
        clock: Returns seconds; only differences count.
        rows: Rows that are finished.
        kept: Those of them that are kept.
        rejected: Rejected attempts, by reason.
    """

    total: int = 0
    tell: Callable[[str], None] = _tell_nobody
    work: Callable[[float], Sequence[str]] = _no_work
    every_seconds: float = 5.0
    clock: Callable[[], float] = time.monotonic
    rows: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    _started: float = 0.0
    _told: float = 0.0

    def __post_init__(self) -> None:
        self._started = self._told = self.clock()

    def count(self, row: Mapping[str, Any], rejections: Sequence[str] = ()) -> None:
        """Count a finished row.

        Args:
            row: The row.
            rejections: Why this step rejected attempts at it, not those of a step before.
        """
        self.rows += 1
        if row["keep"]:
            self.kept += 1
        elif not rejections:
            self.rejected[row["drop_reason"]] += 1
        self.rejected.update(rejections)
        now = self.clock()
        if now - self._told >= self.every_seconds:
            self._told = now
            self.tell(self.line())

    def line(self) -> str:
        """Return how far the step is: rows, kept, rejected attempts by reason, speed, time left."""
        seconds = max(self.clock() - self._started, 1e-9)
        rejected = ", ".join(f"{reason} {n}" for reason, n in self.rejected.most_common())
        of = f"/{self.total}" if self.total else ""
        parts = [
            f"{self.rows}{of} rows",
            f"kept {self.kept}",
            f"rejected attempts {self.rejected.total()}" + (f" ({rejected})" if rejected else ""),
            *self.work(seconds),
        ]
        if self.total and self.rows:
            left = (self.total - self.rows) * seconds / self.rows
            parts.append(f"ETA {duration(left)}")
        return ", ".join(parts)
