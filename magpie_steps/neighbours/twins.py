"""Which rows are equal to the last bit, so that one of them can be compared for all?"""

from hashlib import blake2b

import numpy as np

from magpie_steps.neighbours.vectors import Indices, UnitVectors
from magpie_steps.neighbours.verdicts import Neighbours


class Twins:
    """Rows that are equal, among all rows and among the new ones.

    A text that a model writes a thousand times is then compared once, not a million times.

    Attributes:
        compared: Rows to compare, ascending: the old ones, and of equal new ones the first.
        first_new: How many of these are old.
        weights: How many new rows each row stands for, itself included, (n,); 1 for an old row.
    """

    def __init__(self, vectors: UnitVectors, old_rows: int = 0) -> None:
        self._origin = _first_equal(vectors)
        self.first_new = int(np.searchsorted(vectors.usable, old_rows))
        self._new = vectors.usable[self.first_new :]
        _, first, place = np.unique(self._origin[self._new], return_index=True, return_inverse=True)
        self._stands_for = self._new[first][place]
        self.weights = np.bincount(self._stands_for, minlength=len(vectors))
        self.weights[:old_rows] = 1
        old = vectors.usable[: self.first_new]
        self.compared = np.concatenate([old, np.unique(self._stands_for)])

    def spread(self, found: Neighbours) -> None:
        """Give equal rows what was found for the first, and distance 0 to each other."""
        new, first = self._new, self._stands_for
        found.count[new] = found.count[first] + self.weights[first] - 1
        for values in (found.distance, found.nearest, found.earliest):
            values[new] = values[first]
        found.join(new, first)
        # Old rows too: of several that float64 products cannot tell apart another may have won.
        later = np.flatnonzero(self._origin != np.arange(len(found)))
        origin = self._origin[later]
        found.nearest[origin], found.nearest[later] = later, origin
        found.distance[origin] = found.distance[later] = 0.0


def _first_equal(vectors: UnitVectors) -> Indices:
    """Return the first row that each usable row equals, for other rows themselves, (n,)."""
    origin = np.arange(len(vectors))
    usable = vectors.usable
    _, place, count = np.unique(vectors.norms[usable], return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    for row in usable[count[place] > 1].tolist():  # equal rows have equal norms
        digest = blake2b(vectors.rows[row].tobytes(), digest_size=16).digest()
        origin[row] = seen.setdefault(digest, row)
    return origin
