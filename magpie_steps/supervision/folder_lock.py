"""Who is using this work folder?

Every process of a run holds the lock, its steps' too. So a run that was killed has ended only when
the last of them has noticed, and the next one never writes beside it.
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from magpie_steps.supervision.errors import PipelineRunError

NAME = "lock"

LAST_PROCESS_SECONDS = 10.0
"""How long the steps of a run whose main process is gone may hold its folder: they notice within a
second and have five to end."""

POLL_SECONDS = 0.1

_HELD: set[tuple[Path, int]] = set()
"""The folders that this process holds, each with the thread that does."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other run out of a work folder; a thread that holds it may take it again.

    Args:
        folder: The folder; made if it does not exist.

    Raises:
        PipelineRunError: Another run is using it; the message names its process.
        OSError: The folder cannot be written.
    """
    mine = (folder.absolute(), threading.get_ident())
    if mine in _HELD:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a+", encoding="utf-8") as lock:
        _take(lock, folder)
        _HELD.add(mine)
        try:
            yield
        finally:
            _HELD.discard(mine)
            # Closing the file is not enough: another run's steps, forked meanwhile, have it open.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _take(lock: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + LAST_PROCESS_SECONDS
    while not _try(lock):
        owner = _owner(lock)
        if not _is_gone(owner) or time.monotonic() > deadline:
            who = " (process {} on {})".format(*owner) if owner else ""
            raise PipelineRunError(
                f"another run{who} is using {folder}; wait for its end or give another folder"
            )
        time.sleep(POLL_SECONDS)
    lock.truncate(0)
    lock.write(f"{os.getpid()} {socket.gethostname()}")
    lock.flush()


def _try(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(lock: IO[str]) -> list[str]:
    """Return the process and the host that hold the lock; nothing while that is being written."""
    lock.seek(0)
    words = lock.read().split()
    return words if len(words) == 2 else []


def _is_gone(owner: list[str]) -> bool:
    """Return whether the main process of a run is known to have ended."""
    if not owner or owner[1] != socket.gethostname() or not owner[0].isdecimal():
        return False
    try:
        os.kill(int(owner[0]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False
