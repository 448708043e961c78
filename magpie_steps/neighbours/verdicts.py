"""What is known of each row's neighbours, and which row stands for it?"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from magpie_steps.neighbours.vectors import Floats, Indices

Mode = Literal["earliest", "cluster"]

NONE = -1
"""In place of a row's index: there is no such row."""


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of the truth an approximate search found, on a sample of rows.

    Attributes:
        rows: Rows in the sample.
        nearest: Share of them whose nearest row was found, 0 to 1.
        near: Share of their near pairs that was found, 0 to 1; 1 if there are none.
    """

    rows: int
    nearest: float
    near: float


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Each row's neighbours; two rows are near when they are less than the threshold apart.

    Attributes:
        distance: Squared distance to the nearest other row, (n,), 0 to 4, NaN if there is none.
        nearest: That row's index, (n,), -1 if there is none.
        count: Other rows that are near, (n,).
        earliest: The first of the row itself and the rows near it, (n,).
        parent: A row of the same cluster that comes no later, (n,); the cluster's first is its own.
        unusable: Rows that were not compared, as they are zeros or hold NaN or infinity.
        recall: How far the search can be trusted, None if it was exact.
    """

    distance: Floats
    nearest: Indices
    count: Indices
    earliest: Indices
    parent: Indices
    unusable: int = 0
    recall: Recall | None = None

    def __len__(self) -> int:
        return len(self.count)

    def grown(self, rows: int) -> "Neighbours":
        """Return the same with new rows at the end, up to `rows` in all; they know no other row."""
        new = nothing_known(rows)
        for name in ARRAYS:
            getattr(new, name)[: len(self)] = getattr(self, name)
        return new

    def join(self, left: Indices, right: Indices) -> None:
        """Put each row of `left` into the cluster of its partner in `right`."""
        while len(left):
            left, right = self.roots(left), self.roots(right)
            apart = left != right
            left, right = left[apart], right[apart]
            # Of several new parents of a root the first stays; the others' turn comes again.
            np.minimum.at(self.parent, np.maximum(left, right), np.minimum(left, right))

    def roots(self, rows: Indices) -> Indices:
        """Return the first row of each row's cluster."""
        found = self.parent[rows]
        while len(moved := np.flatnonzero(self.parent[found] != found)):
            found[moved] = self.parent[found[moved]]
        self.parent[rows] = found  # a shorter way for the next time
        return found

    def representative(self, mode: Mode) -> Indices:
        """Return the row that stands for each row, (n,), -1 for rows with no other near.

        Args:
            mode: "earliest" is the rule of the paper's script (`exp/gen_dis.py`): the first of the
                row and the rows near it, so that of a chain a-b-c, a not near c, only a stands for
                itself. "cluster" is ours: the first row of all that are linked by near pairs, so
                that exactly one row of each cluster stands for itself.

        Raises:
            ValueError: There is no such mode.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"mode is {mode!r}; give one of {', '.join(get_args(Mode))}")
        chosen = self.roots(np.arange(len(self))) if mode == "cluster" else self.earliest
        return np.where(self.count > 0, chosen, NONE)


ARRAYS = ("distance", "nearest", "count", "earliest", "parent")
"""The attributes with one value per row."""


def nothing_known(rows: int) -> Neighbours:
    """Return the neighbours of rows that have not been compared."""
    return Neighbours(
        distance=np.full(rows, np.nan),
        nearest=np.full(rows, NONE, dtype=np.int64),
        count=np.zeros(rows, dtype=np.int64),
        earliest=np.arange(rows),
        parent=np.arange(rows),
    )
