"""How do many rows travel at once, each at its own pace, and still come out in order?"""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

Run = Callable[[Coroutine[Any, Any, None]], None]

RUN_AHEAD = 32
"""Rows that may have started beyond the next one to hand out, in windows: one slow row holds nobody
up until the others are this far ahead of it, and memory stays bounded when the consumer is slow."""

_ROWS_PER_TURN = 32  # instant rows never suspend; give the loop's other callbacks a turn this often

_COLLECT_EVERY = 100_000
"""Objects more than before at which garbage is looked for while rows flow."""

_DRAINING = threading.Event()


def drain() -> None:
    """Let no flow of this process start a row any more, nor cancel what its rows have begun.

    From now on a flow that is closed waits for its rows. A process that is told to end calls this.
    """
    _DRAINING.set()


def draining() -> bool:
    """Whether `drain` was called; what a row has not begun by then should not be begun."""
    return _DRAINING.is_set()


def flow(
    rows: Iterable[R],
    work: Callable[[R], Awaitable[T]],
    *,
    window: int,
    on_error: Callable[[R, Exception], T],
    run: Run = asyncio.run,
) -> Iterator[T]:
    """Work on many rows at once and yield the results in the order of the rows.

    A new row starts whenever one ends: there are no batches to wait for. Everything runs on an
    event loop in a thread of its own, so rows keep moving while the consumer is busy, until they
    are `RUN_AHEAD * window` rows ahead of it. Closing the iterator early cancels the rows in flight
    and ends the thread.

    Args:
        rows: what to work on; read lazily, in the loop's thread, so reading it should be quick.
        work: the coroutine function that turns one row into its result.
        window: rows in flight at once, >= 1.
        on_error: makes the result of a row whose `work` raised an `Exception`; the other rows go
            on.
        run: runs a coroutine to its end and is called in the flow's own thread; by default on a new
            event loop. An engine that lives on a loop of its own gives that one, so that a request
            does not change threads twice.

    Yields:
        One result per row, in the order of `rows`.

    Raises:
        ValueError: `window` is below 1.
        Exception: what reading `rows` raised, after the results of all rows before it; or what
            `on_error` raised, or a `BaseException` such as `KeyboardInterrupt` out of `work`, at
            once.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 row in flight, got {window}")
    return _drain(_Flow(rows, work, window, on_error, run))


def _drain(state: "_Flow[R, T]") -> Iterator[T]:
    thread = threading.Thread(target=state.run, name="magpie-steps-flow", daemon=True)
    thread.start()
    try:
        while batch := state.take():
            yield from batch
    finally:
        state.close()
        try:
            if draining():
                state.wait(thread)
        finally:
            state.cancel()
            # An interrupted `join` of Python 3.11 takes a thread that runs for one that has ended.
            state.wait(thread)
            thread.join()


class _Flow(Generic[R, T]):
    """What the loop's thread and the consumer's thread share; `_changed` guards all of it."""

    def __init__(
        self,
        rows: Iterable[R],
        work: Callable[[R], Awaitable[T]],
        window: int,
        on_error: Callable[[R, Exception], T],
        run: Run,
    ) -> None:
        self._run = run
        self._rows = rows
        self._work = work
        self._window = window
        self._on_error = on_error
        self._bound = RUN_AHEAD * window
        self._changed = threading.Condition()
        self._done: dict[int, T] = {}
        self._head = 0  # the row that is handed out next
        self._started = 0
        self._announcing = False
        self._ended = False  # no result will be added any more
        self._closing = False
        self._source_error: Exception | None = None
        self._fatal: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[asyncio.Future[None]] = []  # workers that wait for the consumer

    def take(self) -> list[T]:
        """Wait for the next result and return it with all that follow it without a gap."""
        with self._changed:
            while self._head not in self._done and not self._ended:
                self._changed.wait()
            if self._fatal is not None:
                raise self._fatal
            batch = []
            while self._head in self._done:
                batch.append(self._done.pop(self._head))
                self._head += 1
            waiting, self._waiting = self._waiting, []
            if waiting and self._loop is not None and not self._ended:
                self._loop.call_soon_threadsafe(_release, waiting)
            if not batch and self._source_error is not None:
                raise self._source_error
            return batch

    def close(self) -> None:
        """Start no row any more."""
        with self._changed:
            self._closing = True
            if self._loop is not None and not self._ended:
                self._loop.call_soon_threadsafe(_release, self._waiting)

    def cancel(self) -> None:
        """Ask the loop's thread to drop what is in flight and end."""
        with self._changed:
            if self._loop is not None and not self._ended:
                self._loop.call_soon_threadsafe(self._cancel_workers)

    def wait(self, thread: threading.Thread) -> None:
        """Wait until the loop's thread adds no result any more; a forked process has none."""
        with self._changed:
            while not self._ended and thread.is_alive():
                self._changed.wait()

    def run(self) -> None:
        """The loop's thread."""
        try:
            with _COLLECTING_RARELY:
                self._run(self._run_workers())
        except BaseException as exc:  # noqa: BLE001 - handed over to the consumer's thread
            self._fatal = self._fatal or exc
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    async def _run_workers(self) -> None:
        source = enumerate(self._rows)
        with self._changed:
            self._loop = asyncio.get_running_loop()
            if self._closing:
                return
            self._workers = [
                asyncio.create_task(self._work_on(source)) for _ in range(self._window)
            ]
        try:
            await asyncio.wait(self._workers)
        finally:
            # The loop is closed before `_ended` is set; nobody may call it in between.
            with self._changed:
                self._loop = None
        for worker in self._workers:
            if not worker.cancelled() and (error := worker.exception()) is not None:
                self._fatal = self._fatal or error

    async def _work_on(self, source: "enumerate[R]") -> None:
        try:
            turn = 0
            while True:
                await self._room()
                found = self._next(source)
                if found is None:
                    return
                self._finish(found[0], await self._one(found[1]))
                turn += 1
                if turn % _ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - handed over to the consumer's thread
            self._fatal = self._fatal or exc
            self._cancel_workers()

    async def _room(self) -> None:
        while True:
            with self._changed:
                if self._closing or self._started - self._head < self._bound:
                    return
                waiter = asyncio.get_running_loop().create_future()
                self._waiting.append(waiter)
            await waiter

    def _next(self, source: "enumerate[R]") -> tuple[int, R] | None:
        if self._closing or draining() or self._source_error is not None:
            return None
        try:
            found = next(source, None)
        except Exception as exc:  # noqa: BLE001 - raised to the consumer in its turn
            self._source_error = exc
            return None
        if found is not None:
            self._started += 1
        return found

    async def _one(self, row: R) -> T:
        try:
            return await self._work(row)
        except Exception as exc:  # noqa: BLE001 - one row's failure is that row's result
            return self._on_error(row, exc)
        except asyncio.CancelledError as exc:
            if self._closing or draining() or self._fatal is not None:
                raise
            # Something that the row awaited was cancelled, not the row itself.
            error = RuntimeError("the row's work was cancelled from within")
            error.__cause__ = exc
            return self._on_error(row, error)

    def _finish(self, index: int, result: T) -> None:
        with self._changed:
            self._done[index] = result
            ready = index == self._head and not self._announcing
        if ready:
            # Once per turn of the loop: waking the consumer for each row costs more than a row.
            self._announcing = True
            asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        with self._changed:
            self._announcing = False
            self._changed.notify()

    def _cancel_workers(self) -> None:
        for worker in self._workers:
            worker.cancel()


class _Rarely:
    """Lets the garbage collector look seldom as long as any flow of this process runs.

    Thousands of rows in flight are millions of objects, and Python looks at the young ones among
    them every few hundred allocations, again and again: a fifth of all the time that a row takes.
    Rows hold no cycles, so they go without it; what else makes cycles is found a little later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flows = 0
        self._before = gc.get_threshold()

    def __enter__(self) -> None:
        with self._lock:
            if not self._flows:
                self._before = gc.get_threshold()
                # Somebody who wants it still more rarely, or not at all, has it so.
                often = self._before[0]
                gc.set_threshold(max(_COLLECT_EVERY, often) if often else 0, *self._before[1:])
            self._flows += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._flows -= 1
            if not self._flows:
                gc.set_threshold(*self._before)


_COLLECTING_RARELY = _Rarely()


def _release(waiting: "list[asyncio.Future[None]]") -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
