"""Where are a histogram's bars?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from magpie_steps.report.tallies import Floats

BARS = 30
"""About so many bars make a histogram, where nothing says otherwise."""

FIXED: Mapping[str, tuple[float, ...]] = {
    "turns": tuple(n + 0.5 for n in range(11)),
    "repeat_count": (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500),
    # Squared distances of vectors of length 1 are up to 4, those to a nearest one hardly above 1;
    # the paper's threshold for repeats is 0.05.
    "min_neighbor_distance": tuple(round(0.05 * n, 2) for n in range(25)),
}
"""Edges that do not depend on the values."""

_COUNTED_FROM_ZERO = frozenset(
    f"{text}_{unit}"
    for text in ("instruction", "response", "responses", "turn")
    for unit in ("characters", "tokens")
)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values lie between edges.

    Attributes:
        edges: The edges, ascending, one more than counts. Values on an edge are above it.
        counts: The values between each two; what is beyond the ends is in the first and the last.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def edges_for(name: str, values: Floats) -> tuple[float, ...]:
    """Return the edges of a histogram.

    Lengths go from 0 to the length that 99 % of the values do not exceed, other numbers over the
    middle 99 %, so that a few extreme values do not squeeze the others into one bar.

    Args:
        name: What the values are, a name in `NUMBERS` or `SEVERAL` of
            `magpie_steps.report.readings`.
        values: The values, finite ones only.
    """
    if name in FIXED:
        return FIXED[name]
    if not len(values):
        return (0.0, 1.0)
    whole = name in _COUNTED_FROM_ZERO
    low, high = map(float, np.quantile(values, (0.005, 0.99 if whole else 0.995)))
    low = 0.0 if whole else low
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        around = max(0.5, 1e-3 * abs(low))
        return (low - around, low + around)
    step = _round_step((high - low) / BARS, least=1.0 if whole else 0.0)
    first, last = int(np.floor(low / step)), int(np.floor(high / step))
    return tuple(float(f"{n * step:.12g}") for n in range(first, last + 2))


def histogram(values: Floats, edges: tuple[float, ...]) -> Histogram:
    """Count values between edges."""
    inside = np.clip(values, edges[0], edges[-1])
    places = np.clip(np.searchsorted(edges, inside, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(places, minlength=len(edges) - 1)
    return Histogram(edges, tuple(map(int, counts)))


def _round_step(step: float, least: float) -> float:
    """Return the next number that is 1, 2, 2.5 or 5 times a power of ten, and at least `least`."""
    power = float(10.0 ** np.floor(np.log10(step)))
    return max(least, next((n * power for n in (1, 2, 2.5, 5) if n * power >= step), 10 * power))
