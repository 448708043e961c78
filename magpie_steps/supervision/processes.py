"""What is a process that runs a step, wherever it runs, and how does one come about here?

The switchboard knows processes only by `StepProcess`, and where they come from only by `Launcher`.
On this machine they are forked; on a cluster (`magpie_steps.cluster`) they are children of actors.
"""

import multiprocessing as mp
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from magpie_steps.supervision.process_groups import kill_group
from magpie_steps.supervision.step_process import GRACE_SECONDS, run_step_process

_FORKING = threading.Lock()
_OPEN: set["Connection[Any, Any]"] = set()
"""Our ends of all pipes of all runs. A new process closes its copies, or the processes of a run
would not see its end while another run goes on."""


class StepProcess(Protocol):
    """A process that runs one replica of a step."""

    @property
    def connection(self) -> "Connection[Any, Any] | None":
        """What it is spoken with by; None while it is still on its way."""

    @property
    def place(self) -> str:
        """Which process it is and where, for errors."""

    def check(self) -> None:
        """Look whether it will ever be there.

        Raises:
            PipelineRunError: it cannot be started.
        """

    def has_ended(self) -> bool:
        """Whether it is known to have ended."""

    def join(self, seconds: float) -> None:
        """Wait for its end, but no longer than this."""

    def tell(self, number: int) -> None:
        """Send it a signal, if it is there; never raises."""

    def disconnect(self) -> None:
        """Close the connection; a process that waits for something to do then leaves."""

    def kill(self) -> None:
        """End it and whatever it has started, at once; never raises."""

    def how_it_ended(self) -> str:
        """How it has ended, after "its process"."""


class Launcher(Protocol):
    """Starts processes.

    Attributes:
        starts_ahead: whether processes are started before it is known what they will run.
        restarts: how often a step whose process was lost is started again.
    """

    starts_ahead: bool
    restarts: int

    def launch(
        self, step: Any, environment: Mapping[str, str], connected: Callable[[], object]
    ) -> StepProcess:
        """Start a process.

        Args:
            step: what it will run; None if that is not known yet.
            environment: variables to set in it.
            connected: called, from any thread, when its connection is there later than it is.
        """

    def dump(self, step: Any, replica: int) -> bytes:
        """The step as its process reads it."""


class ForkedProcess:
    """A process that was forked from this one."""

    def __init__(self, process: ForkProcess, connection: "Connection[Any, Any]") -> None:
        self._process = process
        self.connection = connection

    @property
    def place(self) -> str:
        """Its process id."""
        return f"pid {self._process.pid}"

    def check(self) -> None:
        """It is there from its beginning."""

    def has_ended(self) -> bool:
        """Whether it has ended; asking is also what takes it off the system's list then."""
        return self._process.exitcode is not None

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._process.join(seconds)

    def tell(self, number: int) -> None:
        """Send it a signal."""
        # One that has been waited for has no number of its own any more.
        if self._process.pid is not None and not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def disconnect(self) -> None:
        """Close the pipe."""
        with _FORKING:
            _OPEN.discard(self.connection)
            self.connection.close()

    def kill(self) -> None:
        """Kill its process group, which it leads, and take it off the system's list."""
        kill_group(self._process.pid)
        self._process.kill()
        self._process.join(GRACE_SECONDS)
        if self._process.exitcode is not None:
            self._process.close()

    def how_it_ended(self) -> str:
        """Its exit status in words."""
        return how_it_ended(self._process.exitcode)


class ForkLauncher:
    """Forks processes: quick, and they need nothing but this machine.

    They are forked before any other thread of the run is started, and run nothing until they are
    given a step. One that dies ends the run: on one machine the cause would most often come again.
    """

    starts_ahead = True
    restarts = 0

    def launch(
        self, step: Any, environment: Mapping[str, str], connected: Callable[[], object]
    ) -> ForkedProcess:
        """Fork a process."""
        context = mp.get_context("fork")
        with _FORKING:
            ours, theirs = context.Pipe()
            _OPEN.add(ours)
            closers = [connection.close for connection in _OPEN]
            process = context.Process(
                target=run_step_process,
                args=(theirs, os.getpid(), dict(environment), closers),
                daemon=False,
            )
            with warnings.catch_warnings():
                # Python 3.12 and later warn of a fork beside any thread, torch's idle ones too.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            theirs.close()
        return ForkedProcess(process, ours)

    def dump(self, step: Any, replica: int) -> bytes:
        """The step, pickled."""
        return dump((step, replica))


def dump(item: object) -> bytes:
    """An item as a step's process reads it."""
    return bytes(ForkingPickler.dumps(item, pickle.HIGHEST_PROTOCOL))


def how_it_ended(code: int | None) -> str:
    """A process's exit status in words."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL); most often the machine ran out of memory"
    if code is not None and code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"ended by itself with exit status {code}"
