"""Which groups of rows can hold a row's nearest neighbour, or a near one?

A product of all rows with all rows in a cheap number type tells, for each row and each group, the
largest dot product to within a proven margin. Groups that the margin cannot rule out are looked
into exactly by `magpie_steps.neighbours.search`.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from magpie_steps.neighbours.vectors import Floats, Indices, UnitVectors, blocks

BLOCK_ROWS = 1024
"""Rows of a block of the product, which is 2 MiB in bfloat16 and so stays in a cache."""

GROUP_ROWS = 128
"""Least rows of a group: smaller ones cost more to keep than they save later."""

TABLE_BYTES = 2**28
"""Memory for the groups' largest dot products, 256 MiB: groups are as large as it needs.

Above 700,000 rows a group is a whole block, and the memory grows: 0.5 GiB for a million rows."""

UNSEEN = {torch.bfloat16: -0.0, torch.float32: -3.0}
"""In place of a dot product: the two were not compared. It never is the largest, see `_largest`."""

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
        """Return what the exact dot products are at most; 0 at least, see `_largest`."""
        dots = dots.float().clamp(min=0)
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
    dtype = copy.rows.dtype
    table = torch.full(shape, UNSEEN[dtype], dtype=dtype, device=copy.rows.device)
    _fill(table, copy.rows, layout, tell)
    floor = copy.lower(_largest(table, dim=0))
    # A hair less, as float32 rounds what float64 has found.
    before = torch.from_numpy(known - 1e-6).to(floor)
    floor = torch.maximum(floor, before).clamp(max=cut - 1e-6)
    for group, largest in zip(layout.groups, table, strict=True):
        opens = copy.upper(largest) >= floor
        if group.start < first_new:
            opens[:first_new] = False
        yield group, torch.nonzero(opens)[:, 0].cpu().numpy()


def _fill(table: torch.Tensor, rows: torch.Tensor, layout: "_Layout", tell: Tell) -> None:
    """Write each row's largest dot product with each group, from the upper triangle alone.

    On a CPU one thread a core works on pairs of blocks of its own, which costs less than all of
    them on one product, and leaves torch's pool of threads alone.
    """
    columns = [n for n, block in enumerate(layout.blocks) if block.rows.start >= layout.first_new]
    total = sum(column + 1 for column in columns)
    work = partial(_fill_column, table, rows, layout)
    done = 0
    with _sums_in_float32(), _workers(rows.device) as pool:
        for compared in pool.map(work, columns):
            done += compared
            tell(done, total)


def _fill_column(table: torch.Tensor, rows: torch.Tensor, layout: "_Layout", column: int) -> int:
    """Compare the block of this number with all before it and itself; return how many."""
    buffer = torch.empty(BLOCK_ROWS**2, dtype=rows.dtype, device=rows.device)
    *_, right = lefts = layout.blocks[: column + 1]
    for left in lefts:
        product = _product(rows[left.rows], rows[right.rows], layout.width, buffer)
        if left == right:
            product.fill_diagonal_(UNSEEN[product.dtype])
        else:
            by_group = _largest(product.view(len(left.groups), layout.width, -1), dim=1)
            table[left.numbers, right.rows] = by_group[:, : right.size]
        by_group = _largest(product.view(-1, len(right.groups), layout.width), dim=2)
        table[right.numbers, left.rows] = by_group[: left.size].T
    return len(lefts)


@contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Give threads that each compute by themselves; what they have not begun ends with an error."""
    before = torch.get_num_threads()
    count = before if device.type == "cpu" else 1
    pool = ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, 1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a thread's setting may be that of all


def _product(
    left: torch.Tensor, right: torch.Tensor, width: int, buffer: torch.Tensor
) -> torch.Tensor:
    """Return the dot products, filled up to whole groups; groups of views are reduced fastest."""
    shape = [-(-len(side) // width) * width for side in (left, right)]
    product = buffer[: shape[0] * shape[1]].view(shape)
    if shape == [len(left), len(right)]:
        return torch.mm(left, right.T, out=product)
    product.fill_(UNSEEN[product.dtype])
    product[: len(left), : len(right)] = torch.mm(left, right.T)
    return product


def _largest(dots: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the largest dot products; of negative ones alone the least, which is no less true.

    Bfloat16 is compared as the integers that its bits are, many times as fast. These have the order
    of the numbers, but that of negative ones is reversed, and -0.0 is the least of all. So a
    negative result says what the largest is at least, and that it is at most 0.
    """
    if dots.dtype is torch.bfloat16:
        return dots.view(torch.int16).amax(dim=dim).view(torch.bfloat16)
    return dots.amax(dim=dim)


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
        first_new: The first new row.
    """

    def __init__(self, total: int, first_new: int, bytes_each: int) -> None:
        self.width = GROUP_ROWS
        while self.width < BLOCK_ROWS and total**2 * bytes_each // self.width > TABLE_BYTES:
            self.width *= 2
        self.groups: list[slice] = []
        self.blocks: list[_Block] = []
        self.first_new = first_new
        for start, stop in ((0, first_new), (first_new, total)):
            for rows in _spans(start, stop, BLOCK_ROWS):
                groups = tuple(_spans(rows.start, rows.stop, self.width))
                numbers = slice(len(self.groups), len(self.groups) + len(groups))
                self.groups += groups
                self.blocks.append(_Block(rows, groups, numbers))


def _spans(start: int, stop: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]


def _seconds(rows: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(rows, rows.T)
    return time.perf_counter() - start
