"""What do the processes of a run hold, while it works on: memory, files, threads?"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean

import psutil
from memory import MIB, Watch


@dataclass(frozen=True)
class Holding:
    """What a process holds at a moment.

    Attributes:
        at: The moment, on the monotonic clock.
        memory_mib: Resident memory; what processes share counts in each of them.
        files: Open file descriptors.
        threads: Threads.
    """

    at: float
    memory_mib: float
    files: int
    threads: int


class ProcessWatch(Watch):
    """Looks at this process and its children every so often, while the `with` block runs.

    Attributes:
        seen: What each process held, by its id, in the order of their starts.
        zombies: Children that had ended and were not waited for, by their ids.

    Args:
        every_seconds: The time between two looks.
        zombie_seconds: How long a child may have ended until somebody waits for it; it is none if
            only one look sees it.
    """

    def __init__(self, every_seconds: float = 0.5, zombie_seconds: float = 5.0) -> None:
        super().__init__(every_seconds)
        self.seen: dict[int, list[Holding]] = {}
        self.zombies = set[int]()
        self._zombie_seconds = zombie_seconds

    def _watch(self) -> None:
        since: dict[int, float] = {}
        while not self._ended.wait(self._every_seconds):
            here = psutil.Process()
            children = sorted(here.children(recursive=True), key=lambda child: child.pid)
            now = time.monotonic()
            since = {c.pid: since.get(c.pid, now) for c in children if is_zombie(c)}
            late = (pid for pid, seen in since.items() if now - seen >= self._zombie_seconds)
            self.zombies.update(late)
            for process in (here, *(child for child in children if child.pid not in since)):
                with suppress(psutil.NoSuchProcess):
                    self.seen.setdefault(process.pid, []).append(_look(process))


def holding() -> Holding:
    """Return what this process holds."""
    return _look(psutil.Process(os.getpid()))


def is_zombie(process: psutil.Process) -> bool:
    """Return whether a process has ended without being waited for."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return False


def growth(samples: Sequence[Holding]) -> dict[str, float]:
    """Return by how much a process's memory grew while it worked, and its most files and threads.

    Args:
        samples: What it held, in order, without its start.
    """
    third = max(len(samples) // 3, 1)
    middle, last = samples[third : 2 * third] or samples, samples[-third:]
    return {
        "peak_mib": round(max(sample.memory_mib for sample in samples), 1),
        "last_third_to_middle": round(
            mean(sample.memory_mib for sample in last)
            / mean(sample.memory_mib for sample in middle),
            4,
        ),
        "files_more": max(s.files for s in last) - max(s.files for s in middle),
        "threads_more": max(s.threads for s in last) - max(s.threads for s in middle),
    }


def _look(process: psutil.Process) -> Holding:
    with process.oneshot():
        memory = process.memory_info().rss / MIB
        return Holding(time.monotonic(), memory, process.num_fds(), process.num_threads())
