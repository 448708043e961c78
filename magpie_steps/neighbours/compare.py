"""How are a store's rows compared: from the start or only what is new, exactly or approximately?"""

import logging
from collections.abc import Callable, Sequence

from magpie_steps.neighbours.approximate import INSTALL_FAISS, find_approximately, has_faiss
from magpie_steps.neighbours.exact import find_neighbours
from magpie_steps.neighbours.pace import Pace
from magpie_steps.neighbours.store import VectorStore
from magpie_steps.neighbours.verdicts import Neighbours

_logger = logging.getLogger(__name__)


def compare(
    store: VectorStore,
    keys: Sequence[bytes],
    threshold: float,
    approximate_above: int,
    say: Callable[[str], None],
) -> Neighbours:
    """Return the neighbours of a store's rows, and keep exact ones in the store.

    Args:
        store: The store, with the rows' embeddings.
        keys: The rows' keys.
        threshold: Squared distance below which two rows are near, > 0.
        approximate_above: Rows above which the search is approximate if faiss is installed, >= 1.
        say: Takes lines that tell how far it is.
    """
    vectors = store.vectors()
    if len(vectors) > approximate_above and has_faiss():
        found = find_approximately(vectors, threshold, tell=Pace("cells searched", say))
        _say_recall(found, say)
    else:
        if len(vectors) > approximate_above:
            say(
                f"comparing all {len(vectors):,} rows, which takes long; faiss is not installed,"
                f" for an approximate search {INSTALL_FAISS}"
            )
        known = store.results(keys, threshold)
        tell = Pace("blocks compared", say)
        found = find_neighbours(vectors, threshold, known=known, tell=tell)
        store.save_results(keys, threshold, found)
    store.save_search(threshold, found)
    if found.unusable:
        _logger.warning(f"{found.unusable} rows have no embedding and were not compared")
    return found


def _say_recall(found: Neighbours, say: Callable[[str], None]) -> None:
    if found.recall is not None:
        say(
            f"approximate search: of {found.recall.rows} rows it found the nearest of"
            f" {found.recall.nearest:.1%} and {found.recall.near:.1%} of the near ones"
        )
