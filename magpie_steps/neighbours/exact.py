"""Which neighbours does each row have, exactly?"""

from typing import Any

import torch
from numpy.typing import NDArray

from magpie_steps.neighbours.coarse import Tell, copy_of, fastest_type, open_groups
from magpie_steps.neighbours.search import Search
from magpie_steps.neighbours.twins import Twins
from magpie_steps.neighbours.vectors import UnitVectors
from magpie_steps.neighbours.verdicts import Neighbours, nothing_known


def find_neighbours(
    rows: NDArray[Any],
    threshold: float,
    *,
    known: Neighbours | None = None,
    tell: Tell = lambda done, total: None,
) -> Neighbours:
    """Return each row's neighbours.

    All pairs are compared once in a cheap number type, and those that this cannot decide in
    float64: what is near and how often is the same as if all had been compared in float64.

    Args:
        rows: The vectors, (n, dim), float16, float32 or float64, of any length. One of zeros, or
            with NaN or infinity in it, has no neighbours and is none.
        threshold: Squared distance of vectors of length 1 below which two rows are near, > 0.
        known: What was found before for the first of these rows with the same threshold; these are
            not compared with each other again.
        tell: Told how many blocks of the comparison are done, of how many.

    Raises:
        ValueError: The rows are no table of floats, or the threshold is not above 0.
    """
    check_threshold(threshold)
    vectors = UnitVectors(rows)
    found = nothing_known(len(rows)) if known is None else known.grown(len(rows))
    twins = Twins(vectors, old_rows=0 if known is None else len(known))
    search = Search(vectors, twins, found, threshold, device())
    compared = twins.compared
    if twins.first_new < len(compared):
        copy = copy_of(vectors, compared, fastest_type(search.device), search.device)
        best = search.best[compared]
        for group, places in open_groups(copy, best, twins.first_new, search.cut, tell):
            search.compare(compared[places], compared[group])
    return search.finish()


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that no two rows can be below."""
    if not threshold > 0:
        raise ValueError(
            f"threshold is {threshold}; give a squared distance above 0, such as the paper's 0.05"
        )


def device() -> str:
    """Return where products are computed: the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
