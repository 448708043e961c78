"""What are rows as vectors of length 1, and how far apart are two of them?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

BLOCK_ROWS = 4096
"""Rows that are worked on at a time: their float64 copies stay small beside the rows themselves."""


class UnitVectors:
    """Rows as float64 vectors of length 1, made when they are asked for.

    Attributes:
        rows: The vectors as they were given, (n, dim), float16, float32 or float64; a memory map
            stays on disk.
        norms: Their lengths, (n,), NaN or infinity for rows that hold one.
        usable: The indices of rows that have a direction, ascending: not of zeros, NaN or infinity.

    Raises:
        ValueError: The rows are no table of floats.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        if rows.ndim != 2 or rows.dtype.kind != "f":
            raise ValueError(
                f"vectors are {rows.dtype} of the shape {list(rows.shape)}; give a table of"
                " float16, float32 or float64 with one row per vector"
            )
        self.rows = np.asarray(rows)  # a memory map's own indexing is slow; this one maps it still
        self.norms = np.empty(len(rows))
        for part in blocks(np.arange(len(rows)), BLOCK_ROWS):
            self.norms[part] = _norms(np.asarray(rows[part[0] : part[-1] + 1], dtype=np.float64))
        self.usable = np.flatnonzero(np.isfinite(self.norms) & (self.norms > 0))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Indices) -> Floats:
        """Return usable rows as float64 vectors of length 1, (len(index), dim)."""
        taken = np.asarray(self.rows[index], dtype=np.float64)
        taken /= self.norms[index][:, None]
        return taken

    def squared_distances(self, left: Indices, right: Indices) -> Floats:
        """Return the squared distance of each row in `left` to its partner in `right`, 0 to 4.

        It is summed over differences, so that equal rows have exactly 0.
        """
        found = np.empty(len(left))
        for part in blocks(np.arange(len(left)), BLOCK_ROWS):
            difference = self.take(left[part]) - self.take(right[part])
            found[part] = np.square(difference).sum(axis=1)
        return found


def blocks(index: Indices, size: int) -> list[Indices]:
    """Return an index in parts of at most `size`, none if it is empty."""
    return [index[start : start + size] for start in range(0, len(index), size)]


def _norms(rows: Floats) -> Floats:
    """Return lengths, NaN or infinity for rows that hold one."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    # Divided by its largest part, a row's squares neither overflow nor vanish.
    scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths: Floats = np.sqrt(np.square(rows / scale[:, None]).sum(axis=1)) * scale
    return lengths
