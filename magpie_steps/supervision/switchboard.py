"""How the main process starts, feeds, watches and ends the processes of the steps.

The thread that runs the pipeline sits in `supervise()` and hears every message; distilabel's own
loop over finished batches runs in another thread and meets it only at the queues below. Each
process has a pipe of its own, so one that dies in the middle of a message spoils nothing else.
"""

import contextlib
import logging
import multiprocessing as mp
import os
import pickle
import signal
import socket
import struct
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from multiprocessing.reduction import ForkingPickler
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
from magpie_steps.supervision.step_process import GRACE_SECONDS, run_step_process
from magpie_steps.supervision.stop_signs import postponed

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

_FORKING = threading.Lock()
_OPEN: set["Connection[Any, Any]"] = set()
"""Our ends of all pipes of all runs. A new process closes its copies, or the processes of a run
would not see its end while another run goes on."""


class Worker:
    """One process, started empty, that runs one replica of one step."""

    def __init__(self, process: ForkProcess, connection: "Connection[Any, Any]") -> None:
        self.process = process
        self.connection = connection
        self.step: str | None = None
        self.queue: InputQueue | None = None
        self.wants = False
        self.done = False
        self.gone = False
        self.since = time.monotonic()

    @property
    def active(self) -> bool:
        """Whether it has a step to run and has not ended."""
        return self.step is not None and not (self.done or self.gone)

    def send(self, data: bytes) -> None:
        """Send one pickled item; one that is gone is noticed by `supervise()`."""
        self.since = time.monotonic()
        try:
            self.connection.send_bytes(data)
        except BlockingIOError as error:
            raise PipelineRunError(
                f"step {self.step!r}: its process (pid {self.process.pid}) asked for a batch and"
                " does not take it; was it stopped?",
                step=self.step,
            ) from error
        except OSError:
            return


class InputQueue:
    """A step's input queue as distilabel's loop sees it; replicas share it."""

    def __init__(self, board: "Switchboard") -> None:
        self._board = board
        self._items: deque[bytes] = deque()
        self.waiting: deque[Worker] = deque()

    def put(self, item: object) -> None:
        """Queue an item; it leaves as soon as a replica asks for one."""
        self._items.append(_dump(item))
        self.hand_out()

    def hand_out(self) -> None:
        """Send items to the replicas that wait for one."""
        while True:
            with self._board.changed:
                if not self._items or not self.waiting:
                    return
                worker, data = self.waiting.popleft(), self._items.popleft()
                worker.wants = False
            worker.send(data)

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
        environment: variables to set in the processes.
        idle_timeout_seconds: the run is given up after this long without any sign from any step;
            `None` waits for ever.
        on_status: called with a step's name and `"loaded"` or `"unloaded"`.
    """

    def __init__(
        self,
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
        """Give a step to an unused process."""
        data = _dump((step, replica))
        with self.changed:
            worker = next(worker for worker in self.workers if worker.step is None)
            worker.step, worker.queue = step.name, queue
        worker.send(data)

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
        """Fork the processes; call it before any other thread of the run is started."""
        for _ in range(count):
            # One that nobody knows of would never be ended, and waited for at this process's end.
            with _FORKING, postponed():
                self.workers.append(self._fork())
            _limit_waiting(self.workers[-1].connection, self._idle_timeout)

    def _fork(self) -> Worker:
        context = mp.get_context("fork")
        ours, theirs = context.Pipe()
        _OPEN.add(ours)
        closers = [connection.close for connection in _OPEN]
        process = context.Process(
            target=run_step_process,
            args=(theirs, os.getpid(), self._environment, closers),
            daemon=False,
        )
        with warnings.catch_warnings():
            # Python 3.12 and later warn of a fork beside any thread, torch's idle ones too.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return Worker(process, ours)

    def supervise(self, loop: threading.Thread) -> None:
        """Hear and watch the processes until the loop's thread and then every step has ended.

        Raises:
            PipelineRunError: a step failed or died, or nothing can or does move any more.
        """
        self._heard = time.monotonic()
        while not self.aborted and (loop.is_alive() or self._at_work()):
            ready = wait(
                [w.connection for w in self.workers if not w.gone] + [self._wake_reader],
                TICK_SECONDS,
            )
            for worker in self.workers:
                if worker.connection in ready:
                    self._hear(worker)
            if self._wake_reader in ready:
                self._wake_reader.recv_bytes()
            if ready:
                self._stalled = 0
            if not ready or time.monotonic() - self._ticked > TICK_SECONDS:
                self._ticked = time.monotonic()
                self._tick(loop)

    def wake(self) -> None:
        """Make `supervise()` look whether the loop's thread has ended."""
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
            _tell_to_finish(worker.process.pid)
        deadline = time.monotonic() + DRAIN_SECONDS
        while (here := [w for w in self.workers if not w.gone]) and time.monotonic() < deadline:
            for worker in here:
                # What they still say would otherwise fill their pipes and hold them up.
                self._hear_out(worker)
                worker.gone = worker.gone or not worker.process.is_alive()
            wait([worker.connection for worker in here if not worker.gone], TICK_SECONDS)

    def _hear_out(self, worker: Worker) -> None:
        """Take what a process that is ending says; only what it logs is of use."""
        try:
            while worker.connection.poll():
                data = worker.connection.recv_bytes()
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
                    _kill_group(worker.process.pid)
                    worker.process.kill()
                    worker.process.join(GRACE_SECONDS)
                    if worker.process.exitcode is not None:
                        worker.process.close()
                self._wake_reader.close()
                self._wake_writer.close()

    def _end_gently(self) -> None:
        for worker in self.workers:
            with _FORKING:
                _OPEN.discard(worker.connection)
                worker.connection.close()
        seconds = GRACE_SECONDS if any(worker.active for worker in self.workers) else DONE_SECONDS
        if not self._join(IMPATIENCE_SECONDS if self._at_work() else seconds):
            for worker in self.workers:
                worker.process.terminate()
            self._join(GRACE_SECONDS)

    def _join(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        return not any(worker.process.is_alive() for worker in self.workers)

    def _hear(self, worker: Worker) -> None:
        try:
            data = worker.connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            self._has_gone(worker)
            return
        except BlockingIOError as error:
            raise PipelineRunError(
                f"step {worker.step!r}: its process stopped in the middle of a message",
                step=worker.step,
            ) from error
        self._heard = worker.since = time.monotonic()
        kind, payload = data[:1], memoryview(data)[1:]
        if kind == OUTPUT:
            with self.changed:
                self.output_queue.items.append(payload)
                self.changed.notify_all()
        elif kind == WANT:
            self._serve(worker)
        else:
            self._take_note(worker, kind, unpickle(payload))

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
            self.notes.setdefault(step, []).append(value)
        elif kind == STATUS:
            with self.changed:
                self._on_status(step, value)
                self.changed.notify_all()
        elif kind == DONE:
            worker.done = True
        elif kind == FAILED:
            raise _step_failed(step, value)

    def _has_gone(self, worker: Worker) -> None:
        worker.gone = True
        if worker.done:
            return
        worker.process.join(GRACE_SECONDS)
        raise PipelineRunError(_death_notice(worker), step=worker.step)

    def _tick(self, loop: threading.Thread) -> None:
        for worker in self.workers:
            # Asking for the exit code is also what takes an ended process off the system's list.
            ended = worker.process.exitcode is not None
            # What a dead step has started may hold its pipe open: then there is no end of file.
            if ended and not worker.gone:
                if worker.connection.poll():
                    self._hear(worker)
                else:
                    self._has_gone(worker)
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


def _dump(item: object) -> bytes:
    return bytes(ForkingPickler.dumps(item, pickle.HIGHEST_PROTOCOL))


def _limit_waiting(connection: "Connection[Any, Any]", seconds: float | None) -> None:
    """Let no single read or write on the pipe block for ever once it has begun."""
    timeval = struct.pack("ll", int(seconds or 0) or 60, 0)
    with socket.socket(fileno=os.dup(connection.fileno())) as pipe:
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)


def _tell_to_finish(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)


def _kill_group(pid: int | None) -> None:
    """Kill what is left of a step's process group; the process itself is a member of it."""
    if pid is None:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


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


def _death_notice(worker: Worker) -> str:
    code = worker.process.exitcode
    if code == -signal.SIGKILL:
        how = "was killed (SIGKILL); most often the machine ran out of memory"
    elif code is not None and code < 0:
        how = f"was ended by signal {-code} ({signal.strsignal(-code)})"
    else:
        how = f"ended by itself with exit status {code}"
    # A stage's steps are given out when the stage before has ended; their processes wait for them.
    whose = f"step {worker.step!r}: its process" if worker.step else "a later step: its process"
    return f"{whose} {how}; no row of it is kept, run again to go on"
