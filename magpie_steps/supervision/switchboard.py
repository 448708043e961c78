"""How the main process starts, feeds, watches and ends the processes of the steps.

The thread that runs the pipeline sits in `supervise()` and hears every message; distilabel's own
loop over finished batches runs in another thread and meets it only at the queues below. Each
process has a connection of its own, so one that dies in the middle of a message spoils no other.
Where processes can be lost with their machine, one that is lost is started again, elsewhere, and
given again what it had not finished.
"""

import contextlib
import logging
import multiprocessing as mp
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.messages import (
    DONE,
    FAILED,
    LOG,
    NOTE,
    OUTPUT,
    STATUS,
    WANT,
    Failure,
    Note,
    unpickle,
)
from magpie_steps.supervision.processes import Launcher, dump
from magpie_steps.supervision.step_process import GRACE_SECONDS
from magpie_steps.supervision.stop_signs import postponed
from magpie_steps.supervision.worker import Worker

TICK_SECONDS = 0.25
DONE_SECONDS = 2.0
"""How long a process whose step is done and unloaded may take to end."""
DRAIN_SECONDS = 15.0
"""How long completions that have been begun may take to end after an interrupt. Slurm kills 30 s
after it has asked to end, and ending takes seconds of its own."""
IMPATIENCE_SECONDS = 0.5
"""How long a step that is in the middle of a batch may go on once the run has failed."""
STALLED_TICKS = 4
"""After this many ticks in which nobody can ever move again, the run is given up."""

_logger = logging.getLogger(__name__)


class InputQueue:
    """A step's input queue as distilabel's loop sees it; replicas share it."""

    def __init__(self, board: "Switchboard") -> None:
        self._board = board
        self._items: deque[bytes] = deque()
        self.waiting: deque[Worker] = deque()

    def put(self, item: object) -> None:
        """Queue an item; it leaves as soon as a replica asks for one."""
        self._items.append(dump(item))
        self.hand_out()

    def hand_out(self) -> None:
        """Send items to the replicas that wait for one."""
        while True:
            with self._board.changed:
                if not self._items or not self.waiting:
                    return
                worker, data = self.waiting.popleft(), self._items.popleft()
                worker.wants = False
                if self._board.restarts:
                    worker.held = data
            worker.send(data)

    def give_back(self, worker: "Worker") -> None:
        """Take back what a process that is lost has not finished; the next one gets it first."""
        with self._board.changed:
            held, worker.held = worker.held, None
            if held is not None:
                self._items.appendleft(held)
            if worker in self.waiting:
                self.waiting.remove(worker)

    def qsize(self) -> int:
        """Items that no replica has taken."""
        return len(self._items)


class OutputQueue:
    """The queue of finished batches as distilabel's loop sees it."""

    def __init__(self, board: "Switchboard") -> None:
        self._board = board
        self.items: deque[memoryview] = deque()

    def get(self) -> Any:
        """Wait for the next finished batch; `None` once the run is being ended."""
        self._board.wait_until(lambda: bool(self.items))
        if self._board.aborted:
            return None
        return unpickle(self.items.popleft())


class Switchboard:
    """The processes of one run and the queues between them and the main process.

    Args:
        launcher: starts the processes.
        environment: variables to set in the processes.
        idle_timeout_seconds: the run is given up after this long without any sign from any step;
            `None` waits for ever.
        on_status: called with a step's name and `"loaded"` or `"unloaded"`.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        environment: dict[str, str],
        idle_timeout_seconds: float | None,
        on_status: Callable[[str, str], None],
    ) -> None:
        self.changed = threading.Condition()
        self.aborted = False
        self.output_queue = OutputQueue(self)
        self.workers: list[Worker] = []
        self.notes: dict[str, list[Note]] = {}
        self.restarts = launcher.restarts
        self._launcher = launcher
        self._environment = environment
        self._idle_timeout = idle_timeout_seconds
        self._on_status = on_status
        self._main_waits = False
        self._heard = time.monotonic()
        self._stalled = 0
        self._ticked = time.monotonic()
        self._wake_reader, self._wake_writer = mp.Pipe(duplex=False)

    # For distilabel's loop

    def input_queue(self) -> InputQueue:
        """A new input queue for one step."""
        return InputQueue(self)

    def run_step(self, step: Any, replica: int, queue: InputQueue) -> None:
        """Give a step to an unused process, or to a new one."""
        with self.changed:
            if self.aborted:
                return
            worker = next((worker for worker in self.workers if worker.step is None), None)
            if worker is None:
                worker = self._launch(step)
                self.workers.append(worker)
            worker.step, worker.queue, worker.task = step.name, queue, (step, replica)
        self._introduce(worker)

    def _launch(self, step: Any) -> Worker:
        return Worker(self._launcher.launch(step, self._environment, self.wake))

    def _introduce(self, worker: Worker) -> None:
        """Send a process its step, once it is there."""
        with self.changed:
            connection = worker.connection
            if connection is None or worker.step is None or worker.introduced:
                return
            worker.introduced = True
        worker.introduce(self._launcher.dump(*worker.task), self._idle_timeout)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until something is so, or the run is being ended."""
        with self.changed:
            self._main_waits = True
            try:
                while not (ready() or self.aborted):
                    self.changed.wait()
            finally:
                self._main_waits = False

    # For the supervising thread

    def start(self, count: int) -> None:
        """Start the processes; call it before any other thread of the run is started."""
        for _ in range(count if self._launcher.starts_ahead else 0):
            # One that nobody knows of would never be ended, and waited for at this process's end.
            with postponed():
                self.workers.append(self._launch(None))

    def supervise(self, loop: threading.Thread) -> None:
        """Hear and watch the processes until the loop's thread and then every step has ended.

        Raises:
            PipelineRunError: a step failed or died, or nothing can or does move any more.
        """
        self._heard = time.monotonic()
        while not self.aborted and (loop.is_alive() or self._at_work()):
            ready = wait([*self._connections(), self._wake_reader], TICK_SECONDS)
            for worker in self.workers:
                if worker.connection in ready:
                    self._hear(worker)
            if self._wake_reader in ready:
                self._wake_reader.recv_bytes()
                self._introduce_all()
            if ready:
                self._stalled = 0
            if not ready or time.monotonic() - self._ticked > TICK_SECONDS:
                self._ticked = time.monotonic()
                self._tick(loop)

    def _connections(self) -> "list[Connection[Any, Any]]":
        found = (worker.connection for worker in self.workers)
        return [connection for connection in found if connection is not None]

    def _introduce_all(self) -> None:
        for worker in self.workers:
            self._introduce(worker)

    def wake(self) -> None:
        """Make `supervise()` look who has come and whether the loop's thread has ended."""
        with contextlib.suppress(OSError):  # closed: nobody is supervising any more
            self._wake_writer.send_bytes(b".")

    def abort(self) -> None:
        """Free distilabel's loop from whatever it waits for."""
        with self.changed:
            self.aborted = True
            self.changed.notify_all()

    def drain(self) -> None:
        """Let the steps finish what their engines have begun and start nothing new, for a while.

        Raises:
            KeyboardInterrupt: Somebody is in a hurry.
        """
        self.abort()
        _logger.warning(
            "stopping: what has been begun is finished and kept, for at most %.0f s;"
            " interrupt once more to stop at once",
            DRAIN_SECONDS,
        )
        for worker in self.workers:
            worker.process.tell(signal.SIGINT)
        deadline = time.monotonic() + DRAIN_SECONDS
        while (here := [w for w in self.workers if not w.gone]) and time.monotonic() < deadline:
            for worker in here:
                # What they still say would otherwise fill their pipes and hold them up.
                self._hear_out(worker)
                worker.gone = worker.gone or worker.process.has_ended()
            wait(self._connections(), TICK_SECONDS)

    def _hear_out(self, worker: Worker) -> None:
        """Take what a process that is ending says; only what it logs is of use."""
        connection = worker.connection
        try:
            while connection is not None and connection.poll():
                data = connection.recv_bytes()
                if data[:1] == LOG:
                    _log(unpickle(memoryview(data)[1:]))
        except (EOFError, OSError):
            worker.gone = True

    def close(self) -> None:
        """End every process and whatever it has started, gently at first."""
        self.abort()
        try:
            self._end_gently()
        finally:
            with postponed():
                for worker in self.workers:
                    worker.process.kill()
                self._wake_reader.close()
                self._wake_writer.close()

    def _end_gently(self) -> None:
        for worker in self.workers:
            worker.process.disconnect()
        seconds = GRACE_SECONDS if any(worker.active for worker in self.workers) else DONE_SECONDS
        if not self._join(IMPATIENCE_SECONDS if self._at_work() else seconds):
            for worker in self.workers:
                worker.process.tell(signal.SIGTERM)
            self._join(GRACE_SECONDS)

    def _join(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        return all(worker.process.has_ended() for worker in self.workers)

    def _hear(self, worker: Worker) -> None:
        connection = worker.connection
        assert connection is not None
        try:
            data = connection.recv_bytes()
        except BlockingIOError as error:
            raise PipelineRunError(
                f"step {worker.step!r}: its process stopped in the middle of a message",
                step=worker.step,
            ) from error
        except (EOFError, OSError):
            self._has_gone(worker)
            return
        self._heard = worker.since = time.monotonic()
        kind, payload = data[:1], memoryview(data)[1:]
        if kind == OUTPUT:
            self._settle(worker)
            with self.changed:
                self.output_queue.items.append(payload)
                self.changed.notify_all()
        elif kind == WANT:
            self._serve(worker)
        else:
            self._take_note(worker, kind, unpickle(payload))

    def _settle(self, worker: Worker) -> None:
        """Note that a process has finished the item that it had, and keep its remarks on it."""
        worker.held = None
        if worker.remarks:
            self.notes.setdefault(worker.step or "?", []).extend(worker.remarks)
            worker.remarks = []

    def _serve(self, worker: Worker) -> None:
        assert worker.queue is not None
        with self.changed:
            worker.wants = True
            worker.queue.waiting.append(worker)
        worker.queue.hand_out()

    def _take_note(self, worker: Worker, kind: bytes, value: Any) -> None:
        step = worker.step or "?"
        if kind == LOG:
            _log(value)
        elif kind == NOTE:
            worker.remarks.append(value)
        elif kind == STATUS:
            self._take_status(worker, value)
        elif kind == DONE:
            self._finish(worker)
        elif kind == FAILED:
            raise _step_failed(step, value)

    def _take_status(self, worker: Worker, status: str) -> None:
        if status == "loaded" and worker.loaded:
            return  # it was loaded before its process was lost, and nobody was told of that
        worker.loaded = True
        if status == "unloaded":
            self._finish(worker)
        with self.changed:
            self._on_status(worker.step or "?", status)
            self.changed.notify_all()

    def _finish(self, worker: Worker) -> None:
        """A step's work is done once it is unloaded, whatever becomes of its process."""
        worker.done = True
        self._settle(worker)

    def _has_gone(self, worker: Worker) -> None:
        worker.gone = True
        if worker.done:
            return
        if worker.starts > self.restarts:
            worker.process.join(GRACE_SECONDS)
            raise PipelineRunError(worker.death_notice(), step=worker.step)
        self._start_again(worker)

    def _start_again(self, lost: Worker) -> None:
        """Start a step in a new process, which goes on with what the lost one had not finished."""
        assert lost.queue is not None
        step, _ = lost.task
        _logger.warning(
            "step %r: its process (%s) %s; it is started again (%d of at most %d times)",
            lost.step,
            lost.process.place,
            lost.process.how_it_ended(),
            lost.starts,
            self.restarts,
        )
        lost.process.disconnect()
        with postponed():
            lost.process.kill()
            worker = self._launch(step)
            with self.changed:
                self.workers[self.workers.index(lost)] = worker
                worker.take_over(lost)
        lost.queue.give_back(lost)
        lost.queue.hand_out()
        self._introduce(worker)

    def _tick(self, loop: threading.Thread) -> None:
        for worker in self.workers:
            # What a dead step has started may hold its pipe open: then there is no end of file.
            if worker.process.has_ended() and not worker.gone:
                if worker.connection is not None and worker.connection.poll():
                    self._hear(worker)
                else:
                    self._has_gone(worker)
            elif worker.connection is None and worker.active:
                worker.process.check()
        self._stalled = self._stalled + 1 if self._nobody_can_move(loop) else 0
        if self._stalled >= STALLED_TICKS:
            raise self._stall()
        silent = time.monotonic() - self._heard
        busy = self._at_work()
        if self._idle_timeout is not None and silent > self._idle_timeout and busy:
            names = ", ".join(sorted({repr(worker.step) for worker in busy}))
            raise PipelineRunError(
                f"no sign of life for {silent:.0f} s from the step(s) still at work: {names};"
                " if they need that long, pass a larger idle_timeout_seconds",
                step=busy[0].step,
            )

    def _at_work(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.active and not worker.wants]

    def _nobody_can_move(self, loop: threading.Thread) -> bool:
        with self.changed:
            return (
                loop.is_alive()
                and self._main_waits
                and not self.output_queue.items
                and all(worker.wants for worker in self.workers if worker.active)
            )

    def _stall(self) -> PipelineRunError:
        names = ", ".join(repr(worker.step) for worker in self.workers if worker.active) or "none"
        return PipelineRunError(
            f"the pipeline has stalled: every step still running ({names}) waits for rows that"
            " nobody will send; look for a step that lost a batch or for branches of unequal length"
        )


def _log(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _step_failed(step: str, failure: Failure) -> PipelineRunError:
    did = {
        "start": "could not be started in its process",
        "load": "could not be loaded",
        "process": "failed",
    }[failure.phase]
    return PipelineRunError(
        f"step {step!r} {did}: {failure.error}", step=step, details=failure.traceback
    )
