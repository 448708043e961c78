"""What does the actor of a step do on its node?

It starts the step's process there, and ends it. The process is not the actor's own, so that Ray's
threads, signals and log have no part in it, and it runs as one that was forked does. It leaves when
its parent, the actor, is gone.

Ray imports this module on every node, so it imports little.
"""

import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from magpie_steps.cluster.reception import Number
from magpie_steps.supervision.process_groups import kill_group

COMMAND = [sys.executable, "-m", "magpie_steps.cluster.step_main"]

LAST_CHARACTERS = 2_000
"""Of what a step's process has written to standard error, told when it ends badly."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A file that a step's process must see, as the step keeps files beside it.

    Attributes:
        path: the file.
        content: what is in it.
    """

    path: Path
    content: str


@dataclass(frozen=True, slots=True)
class Orders:
    """What a step's process is told before it is given its step.

    Attributes:
        step: the number that it calls for its step.
        journal: the number that its engines call for the journal.
        environment: variables to set in it.
        path: where the main process finds modules: what is there on this node is looked at, too.
        all_cores: whether it may compute on all of its node's processors: Ray would allow one.
        probe: what it must see; None if it keeps no files.
        parent: the actor's process, which says that itself.
    """

    step: Number
    journal: Number
    environment: Mapping[str, str]
    path: tuple[str, ...] = ()
    all_cores: bool = False
    probe: Probe | None = None
    parent: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """How a step's process has ended.

    Attributes:
        code: its exit status.
        said: what it wrote last.
        cpu_seconds: processor time of it and of what it has started.
    """

    code: int
    said: str = ""
    cpu_seconds: float = 0.0


class Caretaker:
    """The actor. One thread of it waits for the process, the others take messages.

    Args:
        orders: for the process.
    """

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._told: int | None = None

    def where(self) -> str:
        """The node, for errors."""
        return socket.gethostname()

    def run(self) -> End:
        """Run the process to its end."""
        with tempfile.TemporaryFile() as errors:
            with self._lock:
                if self._told is not None:  # to end, before it began
                    return End(-self._told)
                self._process = self._start(errors)
            code = self._process.wait()
            kill_group(self._process.pid)  # what it has left behind
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return End(code, _end_of(errors), used.ru_utime + used.ru_stime)

    def _start(self, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=subprocess.STDOUT,
            env=self._environment(),
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as orders:  # it says itself why it ended
            pickle.dump(replace(self._orders, parent=os.getpid()), orders)
        return process

    def _environment(self) -> dict[str, str]:
        own = dict(os.environ)
        if self._orders.all_cores:
            own.pop("OMP_NUM_THREADS", None)
        path = os.pathsep.join(filter(None, dict.fromkeys([*sys.path, *self._orders.path])))
        return {**own, **self._orders.environment, "PYTHONPATH": path}

    def tell(self, number: int) -> None:
        """Send the process a signal; SIGKILL is for all that it has started, too."""
        with self._lock:
            process = self._process
            if process is None:
                self._told = number
            elif process.poll() is None:
                if number == signal.SIGKILL:
                    kill_group(process.pid)
                process.send_signal(number)


def _end_of(errors: IO[bytes]) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - LAST_CHARACTERS))
    return errors.read().decode("utf-8", "replace").strip()
