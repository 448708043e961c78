"""Which rows does one part of a run write, when several machines share its rows?

A shard is a range of row numbers. What a row holds follows from its number alone, so the shards'
rows, one after the other, are the rows of the run that was never divided.
"""

import re
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the parts that a run's rows are divided into, in order.

    Attributes:
        number: Which part it is, from 0.
        count: How many parts there are, at least 1.
        all_rows: Rows of all parts together, at least `count`.
    """

    number: int
    count: int
    all_rows: int

    @classmethod
    def parsed(cls, text: str, all_rows: int) -> Self:
        """Return the shard that a text such as "0/4" names, the first of four.

        Args:
            text: The shard's number, from 0, and how many there are.
            all_rows: Rows of all shards together.

        Raises:
            ValueError: If the text names no shard, or there are more shards than rows.
        """
        found = _FORM.fullmatch(text.strip())
        number, count = map(int, found.groups()) if found else (0, 0)
        if number >= count:
            raise ValueError(
                f"--shard is {text!r}, which is no number from 0 and how many there are; give"
                " 0/4, 1/4, 2/4 or 3/4 for one of four"
            )
        if count > all_rows:
            raise ValueError(
                f"--shard is {text}, but {all_rows} rows make at most {all_rows} shards; give"
                " fewer shards or more rows"
            )
        return cls(number, count, all_rows)

    @property
    def rows(self) -> range:
        """The numbers of its rows; shards differ by one row at most."""
        bounds = (self.all_rows * n // self.count for n in (self.number, self.number + 1))
        return range(*bounds)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
