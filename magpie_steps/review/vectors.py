"""Which embedding has a row, for finding similar ones?"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.exports import EMBEDDINGS
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.review.settings import MINILM_DIMENSIONS
from magpie_steps.review.values import finite

_COLUMNS = ("uuid", "embedding")


class Vectors:
    """Embeddings of a dataset's instructions.

    They are those that the dataset brings, all of the length that most have; without any,
    instructions are embedded with the package's own model when they are asked for.

    Args:
        folder: The dataset repository.
        uuids: The rows that will be asked for.

    Attributes:
        without: How many of these rows have no embedding of theirs that the server takes: none, one
            of another length or of zeros, or one with something that is no finite number.

    Raises:
        ValueError: If the dataset's embeddings lack a column.
    """

    def __init__(self, folder: Path, uuids: Collection[str]) -> None:
        self._paths = sorted((folder / EMBEDDINGS).glob("*.parquet"))
        self._stored = _of_one_length(_stored(self._paths, uuids)) if self._paths else {}
        self._embedder: Any = None
        self.without = len(uuids) - len(self._stored) if self._paths else 0

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
    names = schema_of_files(paths).names
    if missing := [name for name in _COLUMNS if name not in names]:
        raise ValueError(
            f"the embeddings in {paths[0].parent} have no column {' or '.join(missing)} but"
            f" {', '.join(names)}; let the run write them again, or remove that folder"
        )
    wanted = pa.array(sorted(uuids), pa.string())
    found: dict[str, list[float]] = {}
    for batch in batches(paths, _COLUMNS):
        mask = pc.is_in(pc.cast(batch.column("uuid"), pa.string()), value_set=wanted)
        for row in batch.filter(mask).to_pylist():
            if numbers := _numbers(row["embedding"]):
                found[row["uuid"]] = numbers
    return found


def _numbers(value: object) -> list[float]:
    """Return an embedding's numbers, [] if it is none that a direction can be told of."""
    numbers = [finite(each) for each in value] if isinstance(value, list) else []
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) and any(known) else []


def _of_one_length(stored: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Return the embeddings of the length that most have, the greater of two."""
    lengths = Counter(map(len, stored.values()))
    most = max(lengths, key=lambda length: (lengths[length], length), default=0)
    return {uuid: numbers for uuid, numbers in stored.items() if len(numbers) == most}
