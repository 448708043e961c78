"""Are an earlier review's verdicts still about rows that are there, when rows are written anew?"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from magpie_steps.exports import REVIEWED
from magpie_steps.review.records import shown
from magpie_steps.shards import shard_files

Row = Mapping[str, Any]


class EarlierReview:
    """The rows that people judged, while the rows of their folder are replaced.

    Args:
        folder: The dataset repository.
    """

    def __init__(self, folder: Path) -> None:
        self._missing = _judged(folder)

    @property
    def outdated(self) -> bool:
        """Whether a judged row has not come, or with other texts than people saw."""
        return bool(self._missing)

    def noting(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield rows, and note which of them people have judged."""
        for row in rows:
            uuid = row.get("uuid")
            if uuid in self._missing and self._missing[uuid] == _texts(row):
                del self._missing[uuid]
            yield row


def _judged(folder: Path) -> dict[object, str]:
    """Return a digest of what reviewers saw of each judged row, by its uuid."""
    paths = shard_files(folder / REVIEWED)
    if not paths:
        return {}
    from magpie_steps.filtering.files import batches  # pyarrow, and only for this

    return {row["uuid"]: _texts(row) for batch in batches(paths) for row in batch.to_pylist()}


def _texts(row: Row) -> str:
    seen = shown(row)
    return seen if isinstance(seen, str) else seen.key
