"""How do embeddings and what was found among them outlast a run?

A folder holds the embeddings as float16 in one file that is mapped into memory, each row's key and
checksum in a second one, both only ever added to, and the results in a third one. That is replaced
as a whole, as are the small ones that say of what model the embeddings are and how the rows were
searched. Whatever a kill leaves behind is recognised and made again.
"""

import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magpie_steps.neighbours.verdicts import ARRAYS, Neighbours

Halves = NDArray[np.float16]

VECTORS = "vectors.f16"
KEYS = "keys.bin"
ABOUT = "about.json"
RESULTS = "results.npz"
SEARCH = "search.json"

SEARCH_REMARK = "Neighbours were searched with an index"
"""How `search_remark` begins."""

KEY_BYTES = 32
KEY = np.dtype([("key", f"V{KEY_BYTES}"), ("crc", "<u4")])
FORMAT = 1

_logger = logging.getLogger(__name__)


def search_remark(folder: Path) -> str:
    """Return what has to be known about a store's last search, "" if it was exact or none is there.

    Args:
        folder: The store's folder.
    """
    try:
        recall = json.loads((folder / SEARCH).read_text(encoding="utf-8"))["recall"]
    except (OSError, ValueError, KeyError):
        return ""
    if recall is None:
        return ""
    return (
        f"{SEARCH_REMARK}: of a sample of {recall['rows']:,} rows it found"
        f" the nearest other row of {recall['nearest']:.1%} and {recall['near']:.1%} of the near"
        " ones."
    )


@dataclass(frozen=True, slots=True)
class VectorStore:
    """Embeddings in a folder, in the order of their rows.

    Attributes:
        folder: The folder; it is made if it is not there.
        fingerprint: What decides an embedding besides its text.
        dim: Numbers of an embedding.
    """

    folder: Path
    fingerprint: str
    dim: int

    def key(self, text: str) -> bytes:
        """Return a text's key, 32 bytes."""
        return sha256(f"{self.fingerprint}\0{text}".encode("utf-8", "surrogatepass")).digest()

    def open(self, keys: Sequence[bytes]) -> int:
        """Make the folder ready for rows, and return how many of their embeddings are in it.

        That is the rows at the beginning that are as they were; whatever follows is cut off.

        Args:
            keys: The rows' keys.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"format": FORMAT, "fingerprint": self.fingerprint, "dim": self.dim}
        if self._about() != about:
            self._start_again(about)
        stored = self._stored()
        intact = _equal_at_start(stored["key"].tolist(), keys)
        kept = _intact_at_start(self._map(len(stored))[:intact], stored["crc"][:intact])
        if kept < intact:
            _logger.warning(f"{self.folder}: embedding {kept} is damaged; going on from there")
        elif kept < len(stored):
            _logger.info(f"{self.folder}: rows differ from row {kept} on; going on from there")
        self._cut(kept)
        return kept

    def append(self, keys: Sequence[bytes], vectors: Halves) -> None:
        """Add rows at the end.

        Args:
            keys: Their keys.
            vectors: Their embeddings, (rows, dim).
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float16)
        records = np.empty(len(keys), dtype=KEY)
        records["key"] = np.frombuffer(b"".join(keys), dtype=KEY["key"])
        records["crc"] = [zlib.crc32(row) for row in vectors]
        # The keys come last: a row without one is not there.
        for name, content in ((VECTORS, vectors), (KEYS, records)):
            with (self.folder / name).open("ab") as file:
                file.write(content.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def vectors(self) -> Halves:
        """Return all embeddings, mapped into memory, (rows, dim)."""
        return self._map(len(self._stored()))

    def results(self, keys: Sequence[bytes], threshold: float) -> Neighbours | None:
        """Return what was found for the first of these rows, None if nothing that holds for them.

        Args:
            keys: The rows' keys.
            threshold: The threshold that the results have to be for.
        """
        path = self.folder / RESULTS
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                found = Neighbours(**{name: content[name] for name in ARRAYS})
                about = bytes(content["about"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            _logger.warning(f"{path} is damaged ({error}); all rows are compared again")
            return None
        return found if about == _about_results(keys[: len(found)], threshold) else None

    def save_results(self, keys: Sequence[bytes], threshold: float, found: Neighbours) -> None:
        """Keep what was found for all rows, in place of what was there before."""
        about = np.frombuffer(_about_results(keys, threshold), dtype=np.uint8)
        scratch = self.folder / f"{RESULTS}.new"
        with scratch.open("wb") as file:
            np.savez(file, about=about, **{name: getattr(found, name) for name in ARRAYS})
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, self.folder / RESULTS)

    def save_search(self, threshold: float, found: Neighbours) -> None:
        """Write down how the rows were searched, for a card; exactly if the recall is null.

        Args:
            threshold: The threshold that was searched with.
            found: What was found.
        """
        about = {
            "rows": len(found),
            "threshold": threshold,
            "unusable_rows": found.unusable,
            "recall": None if found.recall is None else asdict(found.recall),
        }
        self._replace(SEARCH, json.dumps(about))

    def _replace(self, name: str, text: str) -> None:
        scratch = self.folder / f"{name}.new"
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, self.folder / name)

    def _about(self) -> Any:
        try:
            return json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _start_again(self, about: dict[str, Any]) -> None:
        path = self.folder / ABOUT
        if path.exists():
            _logger.info(f"{self.folder} is of another model or damaged; starting again")
        # First the description, so that nothing is ever taken for the new model's.
        for name in (ABOUT, RESULTS, KEYS, VECTORS):
            (self.folder / name).unlink(missing_ok=True)
        self._replace(ABOUT, json.dumps(about))

    def _stored(self) -> NDArray[Any]:
        """Return keys and checksums of the rows that are there with key and embedding."""
        path = self.folder / KEYS
        content = path.read_bytes() if path.exists() else b""
        records = np.frombuffer(content, dtype=KEY, count=len(content) // KEY.itemsize)
        return records[: self._size(VECTORS) // (2 * self.dim)]

    def _map(self, rows: int) -> Halves:
        if not rows:
            return np.empty((0, self.dim), dtype=np.float16)
        return np.memmap(self.folder / VECTORS, np.float16, "r", shape=(rows, self.dim))

    def _cut(self, rows: int) -> None:
        for name, row_bytes in ((KEYS, KEY.itemsize), (VECTORS, 2 * self.dim)):
            if self._size(name) > rows * row_bytes:
                os.truncate(self.folder / name, rows * row_bytes)

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0


def embed_into(
    store: VectorStore,
    texts: Sequence[str],
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
    batch_rows: int,
    tell: Callable[[int, int], None],
) -> list[bytes]:
    """Put the embeddings of texts into a store, and return their keys.

    Only texts are embedded that are not in the store; one that comes twice is embedded once.

    Args:
        store: The store.
        texts: The texts, in order.
        embed: Embeds texts, (texts, dim).
        batch_rows: Rows between two writes, >= 1; what was written survives a kill.
        tell: Told how many texts are in the store, of how many.
    """
    keys = [store.key(text) for text in texts]
    start = store.open(keys)
    first: dict[bytes, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    for at in range(start, len(texts), batch_rows):
        places = range(at, min(at + batch_rows, len(texts)))
        new = [place for place in places if first[keys[place]] == place]
        vectors = np.empty((len(places), store.dim), dtype=np.float16)
        if new:
            vectors[np.array(new) - at] = embed([texts[place] for place in new])
        stored = store.vectors()
        for place in places:
            origin = first[keys[place]]
            if origin != place:
                vectors[place - at] = stored[origin] if origin < at else vectors[origin - at]
        store.append([keys[place] for place in places], vectors)
        tell(places.stop, len(texts))
    return keys


def _about_results(keys: Sequence[bytes], threshold: float) -> bytes:
    return sha256(b"".join((*keys, f"{FORMAT} {threshold!r}".encode()))).digest()


def _equal_at_start(stored: Sequence[bytes], keys: Sequence[bytes]) -> int:
    pairs = zip(stored, keys, strict=False)
    return next(
        (i for i, (old, new) in enumerate(pairs) if old != new), min(len(stored), len(keys))
    )


def _intact_at_start(vectors: Halves, checksums: NDArray[np.uint32]) -> int:
    pairs = zip(np.asarray(vectors), checksums.tolist(), strict=True)
    return next((i for i, (row, crc) in enumerate(pairs) if zlib.crc32(row) != crc), len(vectors))
