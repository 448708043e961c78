"""How long would an event loop's work take on a processor of its own, waiting skipped?

The loop's clock is the processor time that this process has used, and whenever the loop has nothing
to do until a timer, that wait is added at once instead of being waited for. So what runs on the
loop is charged for its real work, however many others share the machine, and hours of waiting for
simulated engines pass in no time. Work of the process's other threads is charged too, as they share
Python's lock. Waiting for the disk is not.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on processor time that does not wait for its timers."""

    def __init__(self) -> None:
        selector = _Skipping()
        super().__init__(selector)
        self._skipping = selector

    def time(self) -> float:
        """Return the processor time so far and the waits that were skipped, in seconds."""
        return time.process_time() + self._skipping.skipped


class _Skipping(selectors.BaseSelector):
    """Looks for events without waiting for them, unless nothing else will ever come.

    Attributes:
        skipped: How long it would have waited, in seconds.
    """

    def __init__(self) -> None:
        self.skipped = 0.0
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what has happened."""
        events = self._real.select(None if timeout is None else 0)
        if not events and timeout:
            self.skipped += max(timeout, 0.0)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch a file no more."""
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file for something else."""
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is watched."""
        return self._real.get_map()

    def close(self) -> None:
        """Watch nothing any more."""
        self._real.close()


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a `VirtualTimeLoop`."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
