"""Which neighbours does each row have, as far as a search among a part of the rows can tell?"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magpie_steps.neighbours.coarse import Tell
from magpie_steps.neighbours.exact import check_threshold, device
from magpie_steps.neighbours.search import Search
from magpie_steps.neighbours.twins import Twins
from magpie_steps.neighbours.vectors import BLOCK_ROWS, Indices, UnitVectors, blocks
from magpie_steps.neighbours.verdicts import Neighbours, Recall, nothing_known

INSTALL_FAISS = 'pip install "magpie-steps[faiss]"'

CELLS_PER_ROOT = 4
"""Cells per square root of the rows: faiss's guidelines for an inverted file give 4 to 16."""

PROBES = 16
"""Cells that a row looks into. Near rows are nearly always in its own cell or the next few."""

TRAINING_ROWS_PER_CELL = 64
TRAINING_ROUNDS = 10
SAMPLE_ROWS = 1000
SEED = 0


def has_faiss() -> bool:
    """Return whether faiss is installed, without importing it."""
    return find_spec("faiss") is not None


def find_approximately(
    rows: NDArray[Any],
    threshold: float,
    *,
    probes: int = PROBES,
    tell: Tell = lambda done, total: None,
) -> Neighbours:
    """Return each row's neighbours among the rows of its nearest cells, with the recall.

    The index is an inverted file: rows are divided into cells around centres that faiss finds, and
    a row is compared with those in its nearest cells. It needs less memory than a graph (HNSW keeps
    its links and the vectors as float32), has no limit on the number of near rows, and what it
    finds near is near, as the comparison itself is exact. Only rows beyond the cells are missed.
    How many are is measured on a sample of rows.

    Args:
        rows: The vectors, as for `magpie_steps.neighbours.exact.find_neighbours`.
        threshold: Squared distance of vectors of length 1 below which two rows are near, > 0.
        probes: Cells that a row looks into, >= 1; with all of them the search is exact.
        tell: Told how many cells are done, of how many.

    Raises:
        ImportError: faiss is not installed.
        ValueError: The rows are no table of floats, or the threshold is not above 0.
    """
    check_threshold(threshold)
    if not has_faiss():
        raise ImportError(f"an approximate search needs faiss; install it with {INSTALL_FAISS}")
    vectors = UnitVectors(rows)
    twins = Twins(vectors)
    search = Search(vectors, twins, nothing_known(len(rows)), threshold, device())
    compared = twins.compared
    if len(compared):
        nearest = _nearest_cells(vectors, compared, probes)
        members, visitors = _grouped(nearest[:, 0]), _grouped(nearest.ravel())
        for done, (cell, places) in enumerate(visitors.items()):
            own = members.get(cell, np.empty(0, dtype=np.int64))
            search.compare(compared[places // nearest.shape[1]], compared[own])
            tell(done + 1, len(visitors))
    found = search.finish()
    return replace(found, recall=_recall(search))


def _nearest_cells(vectors: UnitVectors, rows: Indices, probes: int) -> NDArray[np.int32]:
    """Return each row's nearest cells, nearest first, (rows, probes)."""
    import faiss

    cells = max(min(int(CELLS_PER_ROOT * len(rows) ** 0.5), len(rows) // 2), 1)
    sample = _drawn(rows, cells * TRAINING_ROWS_PER_CELL)
    training = np.concatenate(list(_as_float32(vectors, sample)))
    settings = {"niter": TRAINING_ROUNDS, "seed": SEED, "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(training.shape[1], cells, **settings)
    kmeans.train(training)
    found = [
        kmeans.index.search(part, min(probes, cells))[1].astype(np.int32)
        for part in _as_float32(vectors, rows)
    ]
    return np.concatenate(found)


def _as_float32(vectors: UnitVectors, rows: Indices) -> Iterator[NDArray[np.float32]]:
    """Return rows as float32 in parts, as faiss takes them."""
    return (vectors.take(part).astype(np.float32) for part in blocks(rows, BLOCK_ROWS))


def _grouped(cells: NDArray[np.int32]) -> dict[int, Indices]:
    """Return the places of each cell's number, ascending."""
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    return dict(zip(cells[order][starts].tolist(), np.split(order, starts[1:]), strict=True))


def _drawn(rows: Indices, most: int) -> Indices:
    """Return some of the rows, ascending."""
    drawn = np.random.default_rng(SEED).choice(len(rows), min(len(rows), most), replace=False)
    return rows[np.sort(drawn)]


def _recall(search: Search) -> Recall:
    """Compare what was found for a sample of rows with what an exact search finds for them."""
    compared, found = search.twins.compared, search.found
    sample = _drawn(compared, SAMPLE_ROWS)
    truth = Search(
        search.vectors, search.twins, nothing_known(len(found)), search.threshold, search.device
    )
    for group in blocks(compared, BLOCK_ROWS):
        truth.compare(sample, group)
    true = truth.finish()
    # As near as the nearest, to what rounding leaves open; NaN beside NaN: there is no other row.
    same = np.isclose(found.distance[sample], true.distance[sample], atol=1e-9, equal_nan=True)
    near = int(true.count[sample].sum())
    return Recall(
        rows=len(sample),
        nearest=float(same.mean()) if len(sample) else 1.0,
        near=float(found.count[sample].sum()) / near if near else 1.0,
    )
