"""How many different texts are there among more than fit into memory?

A text is counted by 64 bits of its hash. Hashes wait in buckets, by their last byte; a bucket that
is full goes to a file, and in the end each bucket is counted by itself. Memory stays within some
megabytes for a hundred million texts; the file takes 8 bytes for each. Two different texts are
taken for one with a chance of 2**-64: among a hundred million that happens at all once in some
thousand times, and then the count is one too low.
"""

from array import array
from hashlib import blake2b
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

BUCKETS = 256
"""As many as a byte has values."""

ROWS_PER_BLOCK = 1024
"""Hashes of a bucket that are written at once; so many of each are in memory."""

HASH_BYTES = 8


class DistinctTexts:
    """Counts different texts that come one by one; use it in a `with` block.

    Fewer than `ROWS_PER_BLOCK` texts make no file.

    Raises:
        OSError: If the temporary folder has no room.
    """

    def __init__(self) -> None:
        self._waiting = [array("Q") for _ in range(BUCKETS)]
        self._blocks: list[list[int]] = [[] for _ in range(BUCKETS)]
        self._file: IO[bytes] | None = None
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, text: str) -> None:
        """Count a text; half a surrogate pair is as good as any character."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()
        number = int.from_bytes(digest, "little")
        waiting = self._waiting[number % BUCKETS]
        waiting.append(number)
        if len(waiting) == ROWS_PER_BLOCK:
            self._write(number % BUCKETS)

    def count(self) -> int:
        """Return how many different texts have come."""
        return sum(self._count_bucket(bucket) for bucket in range(BUCKETS))

    def _write(self, bucket: int) -> None:
        """Write the waiting hashes of a bucket as the next block."""
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115 - closed when the `with` block ends
        self._file.seek(self._written * ROWS_PER_BLOCK * HASH_BYTES)
        self._waiting[bucket].tofile(self._file)
        self._blocks[bucket].append(self._written)
        self._written += 1
        self._waiting[bucket] = array("Q")

    def _count_bucket(self, bucket: int) -> int:
        found = set(self._waiting[bucket])
        for block in self._blocks[bucket]:
            assert self._file is not None
            self._file.seek(block * ROWS_PER_BLOCK * HASH_BYTES)
            hashes = array("Q")
            hashes.fromfile(self._file, ROWS_PER_BLOCK)
            found.update(hashes)
        return len(found)
