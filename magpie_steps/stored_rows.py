"""How are a run's rows read again without having them all in memory?"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import datasets  # slow, and not needed to read one that is there

ROWS_AT_ONCE = 1000

Row = dict[str, Any]


class StoredRows(Sequence[Row]):
    """The rows of a dataset on disk, as dictionaries; read in parts whenever they are gone through.

    Args:
        dataset: The dataset; `datasets` maps its files into memory.
    """

    def __init__(self, dataset: "datasets.Dataset") -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Row]:
        for table in self._dataset.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
            yield from table.to_pylist()

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, int):
            row: Row = self._dataset[index]
            return row
        return [self[i] for i in range(*index.indices(len(self)))]
