"""How near are the instructions of all shards to each other?

They are embedded and compared again as one, in the order in which the run that was never divided
does it: an embedding's last digit depends on the texts that share its batch, so only then are the
distances the same to the last digit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from distilabel.errors import DistilabelUserError
from numpy.typing import NDArray

from magpie_steps import reasons
from magpie_steps.engines.embedder import Embedder
from magpie_steps.filtering.files import batches
from magpie_steps.filtering.origins import as_flags, as_texts
from magpie_steps.neighbours.compare import compare
from magpie_steps.neighbours.pace import Pace
from magpie_steps.neighbours.store import VectorStore, embed_into
from magpie_steps.neighbours.verdicts import NONE, Mode, Neighbours
from magpie_steps.rules import WHITE_SPACE
from magpie_steps.steps.neighbour_distance import FARTHEST, ROWS_PER_WRITE

NAMES = ("min_neighbor_distance", "repeat_count", "min_similar_uuid")
"""The columns that are found here."""

EMBEDDINGS = "embeddings"
"""The folder of the embeddings in the one that is given."""

_TEXT = pa.schema([("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Comparison:
    """How instructions are compared, as the fields of the step `NeighbourDistance` say it.

    Attributes:
        embedder: The embedding model.
        threshold: Squared distance below which two instructions are near, above 0.
        mode: Which row stands for others.
        approximate_above: Rows above which the comparison is approximate, at least 1.
    """

    embedder: Embedder
    threshold: float
    mode: Mode
    approximate_above: int


@dataclass(frozen=True, slots=True)
class Nearness:
    """What is known of every row's neighbours; a row that was not compared has none.

    Attributes:
        distance: Squared distance to the nearest other row, (n,), NaN if there is none.
        count: Other rows that are near, (n,).
        stands_for: The row that stands for each row, (n,), -1 for none.
        uuids: The ids of the rows that stand for others, by row.
    """

    distance: NDArray[np.float64]
    count: NDArray[np.int64]
    stands_for: NDArray[np.int64]
    uuids: dict[int, str]

    def columns(self, rows: slice) -> dict[str, Any]:
        """Return the columns `NAMES` of some rows, as Arrow arrays."""
        similar = [self.uuids.get(place, "") for place in self.stands_for[rows].tolist()]
        return {
            "min_neighbor_distance": pa.array(self.distance[rows]),
            "repeat_count": pa.array(self.count[rows]),
            "min_similar_uuid": pa.array(similar, pa.string()),
        }


def nearness(
    files: Sequence[Path], comparison: Comparison, folder: Path, say: Callable[[str], None]
) -> Nearness:
    """Compare the instructions of all rows.

    Args:
        files: The parquet files of all shards, in the rows' order.
        comparison: How instructions are embedded and compared.
        folder: Where texts and embeddings are kept; a second call goes on with the embeddings that
            are there.
        say: Told how far it is.

    Raises:
        ValueError: If the embedding model cannot be used.
    """
    path = folder / "texts.arrow"
    rows, compared = _write_texts(files, path)
    with pa.memory_map(str(path.absolute())) as mapped:
        found = _neighbours(_Texts(mapped), comparison, folder / EMBEDDINGS, say)
    chosen = found.representative(comparison.mode)
    distance, count = np.full(rows, np.nan), np.zeros(rows, np.int64)
    stands_for = np.full(rows, NONE)
    alone = len(compared) == 1 and not found.unusable
    distance[compared] = FARTHEST if alone else found.distance
    count[compared] = found.count
    stands_for[compared] = np.where(chosen == NONE, NONE, compared[chosen])
    return Nearness(distance, count, stands_for, _uuids(files, stands_for))


def _neighbours(
    texts: Sequence[str], comparison: Comparison, folder: Path, say: Callable[[str], None]
) -> Neighbours:
    embedder = comparison.embedder
    try:
        embedder.load()
    except DistilabelUserError as error:
        raise ValueError(f"{error}; or name its folder with --embedding-model") from None
    try:
        store = VectorStore(folder, embedder.fingerprint, embedder.dim)
        pace = Pace("texts embedded", say)
        keys = embed_into(store, texts, embedder.embed, ROWS_PER_WRITE, pace)
    finally:
        embedder.unload()
    return compare(store, keys, comparison.threshold, comparison.approximate_above, say)


class _Texts(Sequence[str]):
    """The texts of a file that is mapped into memory."""

    def __init__(self, mapped: Any) -> None:
        self._texts = pa.ipc.open_file(mapped).read_all().column("text")

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            found: list[str] = self._texts.take(pa.array(range(len(self))[index])).to_pylist()
            return found
        text: str = self._texts[index].as_py()
        return text


def _write_texts(files: Sequence[Path], path: Path) -> tuple[int, NDArray[np.int64]]:
    """Write the instructions that are compared; return how many rows there are, and which these."""
    compared, rows = [np.empty(0, np.int64)], 0
    with pa.OSFile(str(path.absolute()), "wb") as sink, pa.ipc.new_file(sink, _TEXT) as writer:
        for batch in batches(files, ["instruction", "keep", "drop_reason"]):
            is_compared = _compared(batch)
            texts = as_texts(batch.column("instruction")).filter(pa.array(is_compared))
            writer.write_batch(pa.RecordBatch.from_arrays([texts], schema=_TEXT))
            compared.append(rows + np.flatnonzero(is_compared))
            rows += len(batch)
    return rows, np.concatenate(compared)


def _compared(batch: Any) -> NDArray[np.bool_]:
    """Return which rows have a text and were not dropped before they were compared."""
    reason = as_texts(batch.column("drop_reason"))
    later = pc.or_(
        pc.starts_with(reason, reasons.recipe_reason("")), pc.equal(reason, reasons.CONTAMINATED)
    )
    text = pc.utf8_trim(as_texts(batch.column("instruction")), WHITE_SPACE)
    passed = as_flags(batch.column("keep")) | as_flags(later)
    found: NDArray[np.bool_] = passed & as_flags(pc.not_equal(text, ""))
    return found


def _uuids(files: Sequence[Path], stands_for: NDArray[np.int64]) -> dict[int, str]:
    """Return the ids of the rows that stand for others, by row."""
    wanted = np.unique(stands_for[stands_for != NONE])
    found: dict[int, str] = {}
    first = 0
    for batch in batches(files, ["uuid"]):
        start, end = np.searchsorted(wanted, [first, first + len(batch)])
        places = wanted[start:end]
        taken = batch.column("uuid").take(pa.array(places - first)).to_pylist()
        found.update(zip(places.tolist(), taken, strict=True))
        first += len(batch)
    return found
