"""How do a run's embeddings become a configuration of its dataset?"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from magpie_steps.neighbours.store import ABOUT, KEY, KEY_BYTES, KEYS, Halves, VectorStore
from magpie_steps.shards import ShardWriter

ROWS_AT_ONCE = 1024

Row = Mapping[str, Any]


def write_embeddings(folder: Path, rows: Iterable[Row], store: Path) -> int:
    """Write the embeddings of rows' instructions to parquet files: ``uuid`` and ``embedding``.

    An embedding is a list of float16, as the store holds it. No row's other columns are written.

    Args:
        folder: Where to write; what an earlier run wrote there is replaced.
        rows: The rows, gone through once.
        store: The folder in which the step `NeighbourDistance` keeps embeddings, its ``store_dir``.

    Returns:
        How many rows are left out since their instruction has no intact embedding in the store.

    Raises:
        FileNotFoundError: If the folder is no store.
        ValueError: If it says nothing usable of its embeddings.
    """
    stored = _Stored.open(store)
    embedding = pa.list_(pa.float16(), stored.store.dim)
    schema = pa.schema([("uuid", pa.string()), ("embedding", embedding)])
    left_out = 0
    with ShardWriter(folder, schema) as writer:
        for part in _parts(rows):
            places = stored.places([row.get("instruction") for row in part])
            found = [place for place in places if place is not None]
            uuids = [
                row.get("uuid", "")
                for row, place in zip(part, places, strict=True)
                if place is not None
            ]
            numbers = pa.array(stored.vectors[found].ravel(), pa.float16())
            vectors = pa.FixedSizeListArray.from_arrays(numbers, type=embedding)
            batch = [pa.array(uuids, pa.string()), vectors]
            writer.write_batch(pa.RecordBatch.from_arrays(batch, schema=schema))
            left_out += len(part) - len(found)
    return left_out


@dataclass(frozen=True, slots=True)
class _Stored:
    """A store's embeddings, to be found by their texts.

    A text is looked up by the beginning of its key: that takes 16 bytes of memory per embedding.

    Attributes:
        store: The store.
        vectors: The embeddings, mapped into memory, (rows, dim).
        records: Their keys and checksums, mapped into memory too.
        starts: The first 8 bytes of the keys as numbers, ascending.
        order: Which embedding each of these belongs to.
    """

    store: VectorStore
    vectors: Halves
    records: NDArray[Any]
    starts: NDArray[np.uint64]
    order: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store for reading."""
        about = _about(folder)
        store = VectorStore(folder, about["fingerprint"], about["dim"])
        vectors = store.vectors()
        # A file without content cannot be mapped.
        shape = (len(vectors),)
        records: NDArray[Any] = np.empty(shape, KEY)
        if len(vectors):
            records = np.memmap(folder / KEYS, KEY, "r", shape=shape)
        starts = _starts(np.ascontiguousarray(records["key"]))
        order = np.argsort(starts)
        return cls(store, np.asarray(vectors), records, starts[order], order)

    def places(self, texts: Sequence[object]) -> list[int | None]:
        """Return which embedding each text has, None for none that is intact."""
        keys = [self.store.key(text) if isinstance(text, str) else bytes(32) for text in texts]
        near = np.searchsorted(self.starts, _starts(np.array(keys, KEY["key"])))
        return [self._checked(int(at), key) for at, key in zip(near, keys, strict=True)]

    def _checked(self, at: int, key: bytes) -> int | None:
        if at == len(self.order):
            return None
        place = int(self.order[at])
        vector = self.vectors[place]
        own = self.records[place]
        intact = own["key"].tobytes() == key and zlib.crc32(vector) == own["crc"]
        return place if intact and np.isfinite(vector).all() else None


def _starts(keys: NDArray[Any]) -> NDArray[np.uint64]:
    return keys.view("<u8").reshape(len(keys), KEY_BYTES // 8)[:, 0]


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while part := list(islice(source, ROWS_AT_ONCE)):
        yield part


def _about(folder: Path) -> dict[str, Any]:
    """Return what a store says of its embeddings."""
    path = folder / ABOUT
    remedy = "give the store_dir of the step NeighbourDistance"
    if not path.is_file():
        raise FileNotFoundError(f"there are no embeddings in {folder}, it has no {ABOUT}; {remedy}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {"fingerprint": str(about["fingerprint"]), "dim": int(about["dim"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} says nothing of embeddings ({error!r}); {remedy}") from None
