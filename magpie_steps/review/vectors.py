"""Which embedding has a row, for finding similar ones?"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.exports import EMBEDDINGS
from magpie_steps.filtering.files import batches, schema_of_files

MINILM_DIMENSIONS = 384
"""Numbers of an embedding of all-MiniLM-L6-v2, the package's own model."""


class Vectors:
    """Embeddings of a dataset's instructions.

    They are those that the dataset brings; without any, instructions are embedded with the
    package's own model when they are asked for.

    Args:
        folder: The dataset repository.
        uuids: The rows that will be asked for.
    """

    def __init__(self, folder: Path, uuids: Collection[str]) -> None:
        self._paths = sorted((folder / EMBEDDINGS).glob("*.parquet"))
        self._stored = _stored(self._paths, uuids) if self._paths else {}
        self._embedder: Any = None

    @property
    def dimensions(self) -> int:
        """How many numbers an embedding has, 0 if there are none."""
        if not self._paths:
            return MINILM_DIMENSIONS
        return max(map(len, self._stored.values()), default=0)

    def of(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """Return the rows' embeddings, [] for a row without."""
        if self._paths:
            return [self._stored.get(row["uuid"], []) for row in rows]
        if self._embedder is None:
            from magpie_steps.engines.embedder import Embedder

            self._embedder = Embedder()
            self._embedder.load()
        found = self._embedder.embed([row.get("instruction") or "" for row in rows])
        return [vector.tolist() if vector.any() else [] for vector in found]


def _stored(paths: Sequence[Path], uuids: Collection[str]) -> dict[str, list[float]]:
    """Return embeddings from files with the columns uuid and embedding."""
    schema_of_files(paths)
    wanted = pa.array(sorted(uuids), pa.string())
    found: dict[str, list[float]] = {}
    for batch in batches(paths, ("uuid", "embedding")):
        part = batch.filter(pc.is_in(batch.column("uuid"), value_set=wanted))
        for row in part.to_pylist():
            found[row["uuid"]] = [float(number) for number in row["embedding"]]
    return found
