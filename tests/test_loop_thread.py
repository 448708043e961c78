"""Work stays on one loop, whoever asks for it, and nothing of it is left when that ends."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from magpie_steps.engines.loop_thread import LoopThread

NAME = "magpie-steps-test-loop"


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread(NAME)
    yield made
    made.stop()
    assert not running()


def running() -> bool:
    return any(each.name == NAME for each in threading.enumerate())


async def where() -> tuple[str, asyncio.AbstractEventLoop]:
    await asyncio.sleep(0)
    return threading.current_thread().name, asyncio.get_running_loop()


async def fail() -> None:
    await asyncio.sleep(0)
    raise OSError("the disk is full")


class Sleeper:
    """Sleeps until it is cancelled, and then until it may get up."""

    def __init__(self, *, may_get_up: bool = True) -> None:
        self.asleep, self.called, self.cancelled = (threading.Event() for _ in range(3))
        self.may_get_up = threading.Event()
        if may_get_up:
            self.may_get_up.set()

    async def sleep(self) -> None:
        self.asleep.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.called.set()
            while not self.may_get_up.is_set():
                await asyncio.sleep(0.01)
            self.cancelled.set()
            raise


def test_what_is_run_runs_on_the_threads_own_loop(thread: LoopThread) -> None:
    name, loop = thread.run(where())
    assert name == NAME
    assert thread.run(where()) == (name, loop)


def test_a_function_is_called_while_the_loop_runs(thread: LoopThread) -> None:
    _, loop = thread.run(where())
    assert thread.run_function(asyncio.get_running_loop) is loop
    assert thread.run_function(lambda: threading.current_thread().name) == NAME


def test_loops_that_come_and_go_share_it(thread: LoopThread) -> None:
    """As the batches of a step do, each with a loop of its own."""

    async def ask() -> tuple[list[str], bool]:
        found = await asyncio.gather(*(thread.call(where()) for _ in range(20)))
        mine = asyncio.get_running_loop()
        return [name for name, _ in found], any(loop is mine for _, loop in found)

    for _ in range(3):
        assert asyncio.run(ask()) == ([NAME] * 20, False)


def test_a_caller_that_waits_does_not_hold_up_its_own_loop(thread: LoopThread) -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def wait() -> None:
            await thread.call(asyncio.sleep(0.1))
            order.append("waited")

        async def go_on() -> None:
            order.append("went on")

        await asyncio.gather(wait(), go_on())
        return order

    assert asyncio.run(main()) == ["went on", "waited"]


def test_exceptions_come_back_to_whoever_asked(thread: LoopThread) -> None:
    with pytest.raises(OSError, match="the disk is full"):
        thread.run(fail())
    with pytest.raises(ZeroDivisionError):
        thread.run_function(lambda: 1 / 0)

    async def main() -> list[object]:
        return await asyncio.gather(
            thread.call(fail()), thread.call(where()), return_exceptions=True
        )

    error, other = asyncio.run(main())
    assert isinstance(error, OSError)
    assert isinstance(other, tuple)
    assert other[0] == NAME


def test_cancelling_a_call_ends_its_work_and_no_other(thread: LoopThread) -> None:
    """As vLLM's request is aborted when its row is cancelled."""
    sleeper, other = Sleeper(), Sleeper()

    async def main() -> bool:
        kept = asyncio.create_task(thread.call(other.sleep()))
        call = asyncio.create_task(thread.call(sleeper.sleep()))
        await asyncio.to_thread(sleeper.asleep.wait, 10)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        ended = await asyncio.to_thread(sleeper.cancelled.wait, 10)
        assert not kept.done()
        kept.cancel()
        return ended

    assert asyncio.run(main())
    assert other.cancelled.wait(10)
    assert thread.run(where())[0] == NAME


def test_stopping_ends_what_is_pending_and_whoever_waits_for_it() -> None:
    thread, sleeper = LoopThread(NAME), Sleeper()
    outcomes: list[BaseException] = []

    def wait() -> None:
        try:
            thread.run(sleeper.sleep())
        except BaseException as error:  # noqa: BLE001 - a cancelled future's error is none
            outcomes.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert sleeper.asleep.wait(10)
    thread.stop()
    assert sleeper.cancelled.is_set()
    waiting.join(10)
    assert [type(error).__name__ for error in outcomes] == ["CancelledError"]
    assert not running()


def test_stopping_finishes_generators_that_nobody_reads_to_their_end() -> None:
    """An answer of vLLM comes out of an asynchronous generator."""
    finished = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            finished.set()

    kept = numbers()

    async def read_one() -> int:
        return await anext(kept)

    thread = LoopThread(NAME)
    assert thread.run(read_one()) == 1
    thread.stop()
    assert finished.is_set()


def test_stopping_twice_or_from_within_is_fine(thread: LoopThread) -> None:
    thread.stop()
    thread.stop()
    assert not running()
    other = LoopThread(NAME)
    with contextlib.suppress(BaseException):
        other.run_function(other.stop)
    other.stop()
    assert not running()


def test_work_for_a_stopped_thread_is_refused(thread: LoopThread) -> None:
    """Its coroutine is closed: one that nobody ever awaits is a warning, here an error."""
    thread.stop()
    with pytest.raises(RuntimeError, match=f"{NAME} has been stopped"):
        thread.run(where())
    with pytest.raises(RuntimeError, match="has been stopped"):
        asyncio.run(thread.call(where()))


def test_work_that_comes_while_the_thread_is_stopping_does_not_wait_for_ever() -> None:
    """The loop took it, was closed before it was done, and the caller waited without an end."""
    thread, slow = LoopThread(NAME), Sleeper(may_get_up=False)
    threading.Thread(target=lambda: run_quietly(thread, slow), daemon=True).start()
    assert slow.asleep.wait(10)
    stopping = threading.Thread(target=thread.stop)
    stopping.start()
    assert slow.called.wait(10)
    with pytest.raises(RuntimeError, match="has been stopped"):
        thread.run(asyncio.sleep(600))
    assert stopping.is_alive()
    slow.may_get_up.set()
    stopping.join(10)
    assert not running()


def run_quietly(thread: LoopThread, sleeper: Sleeper) -> None:
    with contextlib.suppress(BaseException):
        thread.run(sleeper.sleep())


def test_many_threads_may_start_and_end() -> None:
    for _ in range(50):
        made = LoopThread(NAME)
        made.run_function(lambda: None)
        made.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == NAME]
