"""How does work stay on one event loop, while callers come and go with loops of their own?"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

JOIN_SECONDS = 30.0


class LoopThread:
    """An event loop in a thread of its own.

    A step's rows run on a loop that ends with their batch; what lives as long as the engine, such
    as vLLM's client or its connections, needs one that stays.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result; not from a coroutine."""
        return self._submit(work).result()

    def run_function(self, function: Callable[[], T]) -> T:
        """Call a function on the loop's thread, while the loop runs, and wait for its result."""

        async def call() -> T:
            return function()

        return self.run(call())

    def is_here(self) -> bool:
        """Whether the caller runs on this loop; from a coroutine."""
        return asyncio.get_running_loop() is self._loop

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and await its result on the caller's; cancelling ends it."""
        return await asyncio.wrap_future(self._submit(work))

    def stop(self) -> None:
        """Cancel what is running and end the thread; never raises."""
        with self._lock:
            self._stopped = True
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        # What comes after the stop would wait for a loop that looks at it no more.
        with self._lock:
            if not self._stopped:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError(f"the thread {self._thread.name} has been stopped")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
