"""What is in columns of which each row holds a list?

For preference pairs a row has several responses, with their tokens and their rewards.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from magpie_steps.filtering.origins import as_flags, as_numbers, as_texts
from magpie_steps.report.talks import flat
from magpie_steps.report.tallies import Floats


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers of which a row can have several.

    Attributes:
        rows: The place of each number's row in the batch.
        values: The numbers, NaN for one that is not given.
    """

    rows: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, lists: Any) -> "Values":
        """Return what an Arrow array of lists of numbers holds."""
        rows, items = flat(lists)
        return cls(rows, as_numbers(items))

    def inside(self, mask: NDArray[np.bool_]) -> Floats:
        """Return the numbers of those rows that a mask has."""
        return self.values[mask[self.rows]]


@dataclass(frozen=True, slots=True)
class Answers:
    """Responses of which a row can have several; empty ones are left out.

    Attributes:
        size: The number of rows.
        rows: The place of each response's row in the batch.
        texts: The responses, an Arrow array of texts.
    """

    size: int
    rows: NDArray[np.int64]
    texts: Any

    @classmethod
    def of(cls, lists: Any) -> "Answers":
        """Return what an Arrow array of lists of texts holds; what is no list has none."""
        rows, items = flat(lists)
        texts = as_texts(items)
        given = as_flags(pc.greater(pc.binary_length(texts), 0))
        return cls(len(lists), rows[given], texts.filter(pa.array(given)))

    def counts(self) -> Floats:
        """Return how many each row has."""
        return np.bincount(self.rows, minlength=self.size).astype(float)

    def first(self) -> Any:
        """Return each row's first, null without one."""
        rows, places = np.unique(self.rows, return_index=True)
        taken = np.full(self.size, -1, np.int64)
        taken[rows] = places
        return self.texts.take(pa.array(taken, mask=taken < 0))
