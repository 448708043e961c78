"""What can happen to a job while it runs?

Each fault is a function that does it to a `StartedJob` and waits until the job has ended of it. The
job has a folder of its own, if possible on a disk of its own that can be filled.
"""

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryFile

import psutil

DISK_MIB = 64
"""Room on the small disk; a run of fifty rows takes some two MiB."""

ERROR_BYTES = 4096
"""As long may files become where no disk can be filled: what a job says last has to fit."""

END_SECONDS = 120.0
"""A job that has not ended this long after a fault hangs."""

LAST_PROCESS_SECONDS = 15.0
"""How long a step's process may outlive its job."""


class StartedJob:
    """A job in a session of its own, so that every process of it can be found.

    Args:
        command: The command line.
        folder: The working folder, on the disk that can be filled.
        environment: The environment.
        disk: Whether the folder has a disk of its own.

    Attributes:
        most_steps: Steps' processes at once, as far as anybody has looked.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], disk: bool
    ) -> None:
        self.folder, self.disk = folder, disk
        self.most_steps = 0
        self._started = time.time()
        # A file: a pipe would only end with the last process that has it open.
        self._said = TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The main process."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the main process is there."""
        return self.process.poll() is None

    def has_made(self, path: Path) -> bool:
        """Whether something is there that this run made."""
        with suppress(FileNotFoundError):
            return path.stat().st_mtime >= self._started
        return False

    def wait(self) -> "Ended":
        """Wait until the job has ended, and its steps' processes after it.

        Raises:
            TimeoutError: It hangs, or leaves processes behind; they are killed.
        """
        try:
            self.process.wait(END_SECONDS)
            wait_until(lambda: not self.processes(), LAST_PROCESS_SECONDS, "processes are left")
            return Ended(self.process.returncode, self._read())
        except (subprocess.TimeoutExpired, TimeoutError) as error:
            self.kill_all()
            raise TimeoutError(f"the job hangs: {error}; it said {self._read()}") from error
        finally:
            self._said.close()

    def _read(self) -> str:
        self._said.seek(0)
        return self._said.read()

    def processes(self) -> list[int]:
        """Return the ids of the job's processes, of the main one and of all steps."""
        return [pid for pid in psutil.pids() if _session(pid) == self.pid and _lives(pid)]

    def steps(self) -> list[int]:
        """Return the ids of the steps' processes, in the order of the steps."""
        found: list[int] = []
        with suppress(psutil.NoSuchProcess):
            found = sorted(child.pid for child in psutil.Process(self.pid).children())
        self.most_steps = max(self.most_steps, len(found))
        return found

    def kill_all(self) -> None:
        """Kill every process at once."""
        for pid in self.processes():
            send(pid, signal.SIGKILL)


class Ended:
    """How a job has ended: its exit code and what it said on standard error."""

    def __init__(self, code: int, said: str) -> None:
        self.code, self.said = code, said


def all_killed(job: StartedJob, chance: Random) -> None:
    """Every process, as by a power cut or `kill -9` of the group."""
    job.kill_all()


def main_killed(job: StartedJob, chance: Random) -> None:
    """The main process alone: its steps have to notice."""
    send(job.pid, signal.SIGKILL)


def step_killed(job: StartedJob, chance: Random) -> None:
    """One step's process, as by the kernel when memory runs out."""
    _kill_step(job, lambda steps: steps[chance.randrange(len(steps))])


def engine_killed(job: StartedJob, chance: Random) -> None:
    """The process that holds the model which writes: the first step's."""
    _kill_step(job, lambda steps: steps[0])


def terminated(job: StartedJob, chance: Random) -> None:
    """SIGTERM to the main process, as by a scheduler."""
    send(job.pid, signal.SIGTERM)


def all_terminated(job: StartedJob, chance: Random) -> None:
    """SIGTERM to every process, as Slurm does it."""
    for pid in job.processes():
        send(pid, signal.SIGTERM)


def interrupted(job: StartedJob, chance: Random) -> None:
    """Ctrl-C."""
    send(job.pid, signal.SIGINT)


def interrupted_twice(job: StartedJob, chance: Random) -> None:
    """Ctrl-C by somebody in a hurry."""
    send(job.pid, signal.SIGINT)
    time.sleep(chance.uniform(0.05, 1.0))
    send(job.pid, signal.SIGINT)


def disk_full(job: StartedJob, chance: Random) -> None:
    """No room for another byte, until the job has ended."""
    if job.disk:
        _fill(job.folder / FILLER)
        return
    # Without a disk to fill: no process may write a file that is longer than this.
    while job.running and not job.steps():
        _no_growth(job)
        time.sleep(0.05)
    _no_growth(job)


FAULTS: Mapping[str, Callable[[StartedJob, Random], None]] = {
    fault.__name__: fault
    for fault in (
        all_killed,
        main_killed,
        step_killed,
        engine_killed,
        terminated,
        all_terminated,
        interrupted,
        interrupted_twice,
        disk_full,
    )
}
"""Every fault, by name."""

CODES: Mapping[str, frozenset[int]] = {
    "all_killed": frozenset({-signal.SIGKILL}),
    "main_killed": frozenset({-signal.SIGKILL}),
    "step_killed": frozenset({1}),
    "engine_killed": frozenset({1}),
    "terminated": frozenset({143}),
    "all_terminated": frozenset({143}),
    "interrupted": frozenset({130}),
    "interrupted_twice": frozenset({130, -signal.SIGINT}),
    "disk_full": frozenset({1, 2}),
}
"""The exit codes of a job that a fault has ended; 2 says that it had not begun.

A second Ctrl-C may come when the job has said its last line: Python then ends by the signal, which
a shell shows as 130, too.
"""

GOES_ON = re.compile(r"\bgo(es)? on\b")
"""What the last line of a job that had begun says, unless it was killed."""


def wrong_end(fault: str, ended: Ended) -> str:
    """Return what is wrong with how a fault has ended a job, "" for nothing."""
    if ended.code not in CODES[fault]:
        return f"exit code {ended.code} instead of {' or '.join(map(str, sorted(CODES[fault])))}"
    last = (ended.said.strip().splitlines() or [""])[-1]
    if ended.code in (1, 130, 143, -signal.SIGINT) and not GOES_ON.search(last):
        return "the last line does not say how to go on"
    return "" if ended.code < 0 or "error:" in last else "the last line is no error"


FILLER = ".filler"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Give a folder a small disk of its own, in memory; yields whether that was possible."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    mounted = not os.getuid() and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def wait_until(so: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: It did not come about in time.
    """
    deadline = time.monotonic() + seconds
    while not so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s {what}")
        time.sleep(0.02)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_step(job: StartedJob, choose: Callable[[list[int]], int]) -> None:
    while job.running:
        if steps := job.steps():
            send(choose(steps), signal.SIGKILL)
            return
        time.sleep(0.02)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        for size in (2**16, 2**12, 1):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))


def _no_growth(job: StartedJob) -> None:
    for pid in job.processes():
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (ERROR_BYTES, hard))


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
