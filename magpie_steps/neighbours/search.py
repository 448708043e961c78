"""How are some rows compared with a group of rows, exactly?"""

from dataclasses import replace

import numpy as np
import torch

from magpie_steps.neighbours.twins import Twins
from magpie_steps.neighbours.vectors import Floats, Indices, UnitVectors, blocks
from magpie_steps.neighbours.verdicts import NONE, Neighbours

PAIRS_AT_ONCE = 2**18
"""Bounds the memory of a comparison: 2 MiB of float64, ten times that if every pair is near."""

DOUBT = 1e-12
"""More than a float64 dot product of vectors of length 1 is off (dim * 1.1e-16, up to 9,000)."""

CLOSE = 1 - 1e-4
"""The dot product above which a distance, of 2e-4 and less, is not taken from it."""


class Search:
    """Compares rows in float64 and keeps what it finds.

    Each pair must come twice, once from each side; then what it finds is exact.

    Attributes:
        vectors: The rows.
        found: What was found.
        twins: Equal rows; of those only the first is compared, and counts for all.
        threshold: Squared distance below which two rows are near, > 0.
        device: Where products are computed, "cpu" or "cuda".
    """

    def __init__(
        self,
        vectors: UnitVectors,
        twins: Twins,
        found: Neighbours,
        threshold: float,
        device: str,
    ) -> None:
        self.vectors = vectors
        self.twins = twins
        self.found = found
        self.threshold = threshold
        self.device = device
        self.best = np.where(np.isnan(found.distance), -np.inf, 1 - found.distance / 2)

    @property
    def cut(self) -> float:
        """The dot product above which two rows are near: |u - v|^2 = 2 - 2 u.v."""
        return 1 - self.threshold / 2

    def compare(self, rows: Indices, members: Indices) -> None:
        """Compare rows with the members of a group, each with each, but no row with itself.

        Args:
            rows: Indices of rows, each once, of those that the twins leave to compare.
            members: The same, ascending.
        """
        if not len(members):
            return
        group = self._tensor(members)
        for part in blocks(rows, max(PAIRS_AT_ONCE // len(members), 1)):
            dots = self._tensor(part) @ group.T
            _leave_out_itself(dots, part, members)
            best, places = (found.cpu().numpy() for found in dots.max(dim=1))
            self._keep_nearest(part, best, members[places])
            if best.max() >= self.cut - DOUBT:
                self._keep_near(part, members, dots)

    def finish(self) -> Neighbours:
        """Return what was found, with distances for all rows that found another one."""
        found = self.found
        new = (found.nearest != NONE) & np.isnan(found.distance)
        found.distance[new] = 2 - 2 * self.best[new]
        # Summed over differences where the dot product's last digits would matter: of equal rows
        # the distance is exactly 0.
        close = np.flatnonzero(new & (self.best > CLOSE))
        found.distance[close] = self.vectors.squared_distances(close, found.nearest[close])
        self.twins.spread(found)
        return replace(found, unusable=len(found) - len(self.vectors.usable))

    def _tensor(self, rows: Indices) -> torch.Tensor:
        return torch.from_numpy(self.vectors.take(rows)).to(self.device)

    def _keep_nearest(self, rows: Indices, best: Floats, nearest: Indices) -> None:
        better = best > self.best[rows]
        rows = rows[better]
        self.best[rows] = best[better]
        self.found.nearest[rows] = nearest[better]
        self.found.distance[rows] = np.nan  # until `finish`

    def _keep_near(self, rows: Indices, members: Indices, dots: torch.Tensor) -> None:
        left, right = torch.nonzero(dots > self.cut - DOUBT, as_tuple=True)
        doubtful = (dots[left, right] <= self.cut + DOUBT).cpu().numpy()
        near = np.ones(len(doubtful), dtype=bool)
        of, to = rows[left.cpu().numpy()], members[right.cpu().numpy()]
        distance = self.vectors.squared_distances(of[doubtful], to[doubtful])
        near[doubtful] = distance < self.threshold
        of, to = of[near], to[near]
        np.add.at(self.found.count, of, self.twins.weights[to])
        np.minimum.at(self.found.earliest, of, to)
        self.found.join(of, to)


def _leave_out_itself(dots: torch.Tensor, rows: Indices, members: Indices) -> None:
    places = np.searchsorted(members, rows).clip(max=len(members) - 1)
    inside = np.flatnonzero(members[places] == rows)
    dots[torch.from_numpy(inside), torch.from_numpy(places[inside])] = -torch.inf
