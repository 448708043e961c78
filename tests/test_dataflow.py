"""Rows travel at their own pace and come out in order."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_steps.dataflow import RUN_AHEAD, flow


def as_text(row: int, error: Exception) -> str:
    return f"{row}: {type(error).__name__}"


async def shout(row: int) -> str:
    return f"{row}!"


def flow_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "magpie-steps-flow"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert flow_threads() == []


class Watch:
    """Counts the rows in flight."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        self.now -= 1


@settings(max_examples=60, deadline=None)
@given(
    naps=st.lists(st.integers(0, 3), max_size=40),
    window=st.integers(1, 50),
    failing=st.sets(st.integers(0, 39)),
)
def test_order_is_kept_and_failures_stay_with_their_row(
    naps: list[int], window: int, failing: set[int]
) -> None:
    watch = Watch()

    async def work(row: int) -> str:
        with watch:
            for _ in range(naps[row]):
                await asyncio.sleep(0)
            if row in failing:
                raise KeyError(row)
            return f"{row}!"

    results = list(flow(range(len(naps)), work, window=window, on_error=as_text))

    assert results == [
        f"{row}: KeyError" if row in failing else f"{row}!" for row in range(len(naps))
    ]
    assert watch.most <= window


def test_all_slots_are_used() -> None:
    watch = Watch()

    async def work(row: int) -> int:
        with watch:
            await asyncio.sleep(0.01)
            return row

    assert list(flow(range(20), work, window=7, on_error=lambda row, _: row)) == [*range(20)]
    assert watch.most == 7


def test_a_slow_row_holds_up_nobody_but_only_so_far_ahead() -> None:
    """Behind a first row that never ends by itself, all rows up to the bound start, and no more."""
    started: list[int] = []
    gate = threading.Event()

    async def work(row: int) -> int:
        started.append(row)
        while row == 0 and not gate.is_set():
            await asyncio.sleep(0.001)
        return row

    results = flow(range(1_000), work, window=2, on_error=lambda row, _: row)
    first: list[int] = []
    consumer = threading.Thread(target=lambda: first.append(next(results)))
    consumer.start()
    deadline = time.monotonic() + 5
    while len(started) < 2 * RUN_AHEAD and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert sorted(started) == [*range(2 * RUN_AHEAD)]
    gate.set()
    consumer.join()
    assert first + list(results) == [*range(1_000)]


def test_rows_go_on_while_the_consumer_is_busy() -> None:
    finished: list[int] = []

    async def work(row: int) -> int:
        await asyncio.sleep(0.001)
        finished.append(row)
        return row

    results = flow(range(30), work, window=5, on_error=lambda row, _: row)
    next(results)
    deadline = time.monotonic() + 5
    while len(finished) < 30 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(finished) == 30
    assert list(results) == [*range(1, 30)]


def test_closing_early_cancels_the_rows_in_flight() -> None:
    cancelled: list[int] = []

    async def work(row: int) -> int:
        if row == 0:
            return row
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(row)
            raise
        return row

    results = flow(iter(range(100)), work, window=4, on_error=lambda row, _: row)
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while not flow_threads() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    results.close()  # type: ignore[attr-defined]
    assert cancelled
    assert flow_threads() == []


def test_an_iterator_that_was_never_started_leaves_no_thread() -> None:
    flow(range(5), shout, window=2, on_error=as_text)


def test_dropping_the_iterator_ends_the_thread() -> None:
    for result in flow(range(1_000), shout, window=3, on_error=as_text):
        assert result == "0!"
        break


def test_an_error_of_the_source_comes_after_the_rows_before_it() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is gone")

    async def work(row: int) -> str:
        await asyncio.sleep(0.002 * (5 - row))
        return f"{row}!"

    seen: list[str] = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(flow(source(), work, window=3, on_error=as_text))
    results = flow(source(), work, window=3, on_error=as_text)
    assert [next(results) for _ in range(5)] == ["0!", "1!", "2!", "3!", "4!"]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


def test_an_error_of_on_error_ends_the_run() -> None:
    async def work(row: int) -> str:
        raise ValueError(row)

    def fail(row: int, error: Exception) -> str:
        raise RuntimeError("cannot make a row of it") from error

    with pytest.raises(RuntimeError, match="cannot make a row of it"):
        list(flow(range(10), work, window=3, on_error=fail))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_base_exceptions_propagate(error: type[BaseException]) -> None:
    async def work(row: int) -> str:
        if row == 3:
            raise error
        await asyncio.sleep(0.001)
        return f"{row}!"

    with pytest.raises(error):
        list(flow(range(10), work, window=2, on_error=as_text))


def test_a_cancellation_inside_a_row_is_that_rows_error() -> None:
    async def work(row: int) -> str:
        if row == 2:
            raise asyncio.CancelledError
        return f"{row}!"

    results = list(flow(range(5), work, window=2, on_error=as_text))
    assert results == ["0!", "1!", "2: RuntimeError", "3!", "4!"]


def test_the_source_is_read_lazily() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for row in range(100_000):
            read.append(row)
            yield row

    results = flow(source(), shout, window=1, on_error=as_text)
    next(results)
    time.sleep(0.05)
    assert len(read) <= 3 * RUN_AHEAD
    results.close()  # type: ignore[attr-defined]


def test_no_rows() -> None:
    assert list(flow([], shout, window=3, on_error=as_text)) == []


@pytest.mark.parametrize("window", [0, -1])
def test_window_below_one_is_refused_at_once(window: int) -> None:
    with pytest.raises(ValueError, match="window must be at least 1"):
        flow(range(3), shout, window=window, on_error=as_text)


def test_instant_rows_cost_little() -> None:
    """Measured at 3 microseconds of CPU a row; three tries, since the machine may be busy."""
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        count = sum(1 for _ in flow(range(30_000), shout, window=64, on_error=as_text))
        best = max(best, count / (time.process_time() - start))
    assert best > 20_000


DRAINING = """
import asyncio, sys, threading, time
from magpie_steps.dataflow import drain, draining, flow

ended, told = [], int(sys.argv[1])

async def work(row):
    await asyncio.sleep(0.5)
    if draining() and row == told:
        raise asyncio.CancelledError("begin nothing new")
    ended.append(row)
    return row

rows = flow(range(1000), work, window=4, on_error=lambda row, error: print("failed", row, error))
next(rows)
time.sleep(0.2)  # rows 4 to 7 are in flight
drain()
rows.close()
print(ended, threading.active_count())
"""
"""A process can be drained only once."""


@pytest.mark.parametrize(("told", "ended"), [(-1, range(8)), (5, [0, 1, 2, 3, 4, 6, 7])])
def test_a_drained_process_ends_the_rows_that_it_has_begun_and_no_other(
    told: int, ended: Iterable[int]
) -> None:
    """A row that begins nothing new when it is told is cancelled, and no failure."""
    command = [sys.executable, "-c", DRAINING, str(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{[*ended]} 1\n", done.stderr


INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
timer.start()
try:
    rows.close()
except KeyboardInterrupt:
    timer.join()  # it is a thread, too
    print("stopped")
"""


def test_an_interrupted_wait_for_a_drained_flow_cancels_it() -> None:
    code = DRAINING.replace("0.5", "0.5 if row < 4 else 600").replace("rows.close()", INTERRUPTED)
    command = [sys.executable, "-c", code, "-1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "stopped\n[0, 1, 2, 3] 1\n", done.stderr


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


async def threshold(row: int) -> int:
    await asyncio.sleep(0)
    return gc.get_threshold()[0]


@pytest.mark.parametrize(("before", "within"), [(700, 100_000), (200_000, 200_000), (0, 0)])
def test_garbage_is_looked_for_seldom_only_while_rows_flow(
    collector: None, before: int, within: int
) -> None:
    gc.set_threshold(before, 10, 10)
    assert set(flow(range(20), threshold, window=4, on_error=no_error)) == {within}
    assert gc.get_threshold() == (before, 10, 10)


def test_the_last_of_several_flows_at_once_lets_garbage_be_looked_for_as_before(
    collector: None,
) -> None:
    gc.set_threshold(700, 10, 10)
    outer = flow(iter(int, 1), threshold, window=2, on_error=no_error)
    assert next(outer) == 100_000
    assert set(flow(range(20), threshold, window=4, on_error=no_error)) == {100_000}
    assert gc.get_threshold()[0] == 100_000
    outer.close()
    assert gc.get_threshold() == (700, 10, 10)


def no_error(row: int, error: Exception) -> int:
    raise error
