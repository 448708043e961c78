"""Which groups of rows can hold a row's nearest neighbour, or a near one?

A product of all rows with all rows in a cheap number type tells, for each row and each group, the
largest dot product to within a proven margin. Groups that the margin cannot rule out are looked
into exactly by `magpie_steps.neighbours.search`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from magpie_steps.neighbours.vectors import Floats, Indices, UnitVectors, blocks

BLOCK_ROWS = 4096
"""Rows of a block of the product, which is 32 MiB in bfloat16."""

GROUP_ROWS = 256
"""Least rows of a group: smaller ones cost more to keep than they save later."""

TABLE_BYTES = 2**28
"""Memory for the groups' largest dot products, 256 MiB: groups are as large as it needs.

Above 700,000 rows a group is a whole block, and the memory grows: 0.5 GiB for a million rows."""

UNSEEN = -3.0
"""In place of a dot product: the two were not compared. It is below all that are possible."""

Tell = Callable[[int, int], None]
"""Takes how many parts of the work are done, of how many."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Rows in a cheap number type.

    Attributes:
        rows: The vectors, (rows, dim).
        margin: Most that an exact dot product and the products' sum differ.
        rounding: Most that the product's own rounding is off, relative to it.
    """

    rows: torch.Tensor
    margin: float
    rounding: float

    def lower(self, dots: torch.Tensor) -> torch.Tensor:
        """Return what the exact dot products are at least."""
        dots = dots.float()
        return dots - self.margin - self.rounding * dots.abs()

    def upper(self, dots: torch.Tensor) -> torch.Tensor:
        """Return what the exact dot products are at most."""
        dots = dots.float()
        return dots + self.margin + self.rounding * dots.abs()


def copy_of(vectors: UnitVectors, compared: Indices, dtype: torch.dtype, device: str) -> Copy:
    """Return a copy of rows that are usable, and how far off its dot products are.

    With u = u' + e, v = v' + f, |u| = |v| = 1 and |e|, |f| <= E, the product u'.v' differs from u.v
    by at most |e||v| + |u'||f| <= E + (1 + E)E (Cauchy-Schwarz). E is measured. To that comes the
    sum of dim products in float32, each step of which rounds by at most 2^-24; counted twice, as
    the order of the sum is the library's.
    """
    dim = vectors.rows.shape[1]
    rows = torch.empty((len(compared), dim), dtype=dtype, device=device)
    error = 0.0
    for part in blocks(np.arange(len(compared)), BLOCK_ROWS):
        exact = torch.from_numpy(vectors.take(compared[part]))
        cheap = exact.to(dtype)
        error = max(error, float((exact - cheap.double()).norm(dim=1).max()))
        rows[part[0] : part[-1] + 1] = cheap.to(device)
    margin = 2 * error + error**2 + 2 * dim * 2.0**-24 * (1 + error) ** 2
    # The comparisons below are in float32 themselves, hence not the half of eps for it.
    return Copy(rows, margin + 1e-6, max(torch.finfo(dtype).eps / 2, 1e-6))


def fastest_type(device: str) -> torch.dtype:
    """Return the type that multiplies fastest: bfloat16 where the hardware has it, else float32."""
    if device != "cpu":
        return torch.bfloat16
    sample = torch.ones((1024, 512))
    seconds = {
        dtype: min(_seconds(sample.to(dtype)) for _ in range(3))
        for dtype in (torch.bfloat16, torch.float32)
    }
    return min(seconds, key=lambda dtype: seconds[dtype])


def open_groups(
    copy: Copy, known: Floats, first_new: int, cut: float, tell: Tell
) -> Iterator[tuple[slice, Indices]]:
    """Compare rows coarsely, then yield each group with the rows that have to look into it.

    Rows before `first_new` are not compared with each other.

    Args:
        copy: The rows.
        known: Each row's largest dot product so far, (rows,), -inf if there is none.
        first_new: The first row that is new.
        cut: The dot product above which rows are near.
        tell: Told after each block.

    Yields:
        The group's rows and the places of those that look into it.
    """
    total = len(copy.rows)
    layout = _Layout(total, first_new, copy.rows.element_size())
    shape = (len(layout.groups), total)
    table = torch.full(shape, UNSEEN, dtype=copy.rows.dtype, device=copy.rows.device)
    _fill(table, copy.rows, layout, tell)
    floor = copy.lower(table.amax(dim=0))
    # A hair less, as float32 rounds what float64 has found.
    before = torch.from_numpy(known - 1e-6).to(floor)
    # No lower than what is possible: that leaves out groups that the row was not compared with.
    floor = torch.maximum(floor, before).clamp(min=-2, max=max(cut - 1e-6, -2))
    for group, largest in zip(layout.groups, table, strict=True):
        yield group, torch.nonzero(copy.upper(largest) >= floor)[:, 0].cpu().numpy()


def _fill(table: torch.Tensor, rows: torch.Tensor, layout: "_Layout", tell: Tell) -> None:
    """Write each row's largest dot product with each group, from the upper triangle alone."""
    buffer = torch.empty(BLOCK_ROWS**2, dtype=rows.dtype, device=rows.device)
    pairs = layout.pairs()
    with _sums_in_float32():
        for done, (left, right) in enumerate(pairs):
            product = _product(rows[left.rows], rows[right.rows], layout.width, buffer)
            if left == right:
                product.fill_diagonal_(UNSEEN)
            else:
                by_group = product.view(len(left.groups), layout.width, -1).amax(dim=1)
                table[left.numbers, right.rows] = by_group[:, : right.size]
            by_group = product.view(-1, len(right.groups), layout.width).amax(dim=2)
            table[right.numbers, left.rows] = by_group[: left.size].T
            tell(done + 1, len(pairs))


def _product(
    left: torch.Tensor, right: torch.Tensor, width: int, buffer: torch.Tensor
) -> torch.Tensor:
    """Return the dot products, filled up to whole groups; groups of views are reduced fastest."""
    shape = [-(-len(side) // width) * width for side in (left, right)]
    product = buffer[: shape[0] * shape[1]].view(shape)
    if shape == [len(left), len(right)]:
        return torch.mm(left, right.T, out=product)
    product.fill_(UNSEEN)
    product[: len(left), : len(right)] = torch.mm(left, right.T)
    return product


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Keep a GPU from adding parts of a sum in bfloat16, which the margin does not allow for."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


@dataclass(frozen=True, slots=True)
class _Block:
    """Successive rows, and the groups that they are divided into.

    Attributes:
        rows: The rows.
        groups: The groups' rows.
        numbers: The groups' numbers among those of all blocks.
    """

    rows: slice
    groups: tuple[slice, ...]
    numbers: slice

    @property
    def size(self) -> int:
        """How many rows there are."""
        return int(self.rows.stop - self.rows.start)


class _Layout:
    """All rows as blocks, old rows and new ones in different ones.

    Attributes:
        width: Rows of a group, those at the ends apart; it divides `BLOCK_ROWS`.
        groups: All groups' rows.
        blocks: The blocks.
    """

    def __init__(self, total: int, first_new: int, bytes_each: int) -> None:
        self.width = GROUP_ROWS
        while self.width < BLOCK_ROWS and total**2 * bytes_each // self.width > TABLE_BYTES:
            self.width *= 2
        self.groups: list[slice] = []
        self.blocks: list[_Block] = []
        self._first_new = first_new
        for start, stop in ((0, first_new), (first_new, total)):
            for rows in _spans(start, stop, BLOCK_ROWS):
                groups = tuple(_spans(rows.start, rows.stop, self.width))
                numbers = slice(len(self.groups), len(self.groups) + len(groups))
                self.groups += groups
                self.blocks.append(_Block(rows, groups, numbers))

    def pairs(self) -> list[tuple[_Block, _Block]]:
        """Return each pair of blocks once, but those of two blocks with old rows."""
        return [
            (left, right)
            for place, right in enumerate(self.blocks)
            for left in self.blocks[: place + 1]
            if right.rows.start >= self._first_new
        ]


def _spans(start: int, stop: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]


def _seconds(rows: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(rows, rows.T)
    return time.perf_counter() - start
