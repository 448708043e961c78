"""Who ends an engine's processes when their owner is killed?

A `Guard` is a small process that waits for its owner's end, however that comes about, and then ends
what it was told of. This file is also that process's script, so it imports the standard library
alone.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 10.0
"""How long a process has between being asked to end and being killed."""

POLL_SECONDS = 0.05
OWNER_POLL_SECONDS = 0.5

END = "end"

Target = tuple[Callable[[int], None], Callable[[], bool]]
"""What to end: how to send it a signal, and whether it lives."""


class Guard:
    """Ends processes once this process is gone, or the guard is closed.

    Args:
        grace_seconds: how long they have between being asked to end and being killed.
    """

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        # In a session of its own: a Ctrl-C at the terminal is for the owner.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(grace_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The guard's own process id."""
        return self._process.pid

    def watch(self, pid: int, *, group: bool = False) -> None:
        """Add a process and all that descends from it, or the whole process group that it leads."""
        self._tell(f"{'group' if group else 'process'} {pid}")

    def close(self) -> None:
        """End whatever is left of the processes, and the guard; never raises."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._tell(END)
        with suppress(OSError):  # the guard was killed
            self._process.stdin.close()
        try:
            self._process.wait(self._grace_seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the guard was killed; what it guarded lives on as without one
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def end_group(leader: int, grace_seconds: float = GRACE_SECONDS) -> None:
    """End a process group: ask, wait, kill."""
    _end([_group(leader)], grace_seconds)


def started_at(pid: int) -> str:
    """When a process was started, in the system's own words; "" if it is not there or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self").exists() else _alive_elsewhere(pid)
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _alive_elsewhere(pid: int) -> str:
    """The answer of `started_at` on systems without /proc: only whether it is there."""
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "unknown"


class Family:
    """A process and its descendants, also those whose parent has ended since they were seen."""

    def __init__(self, pid: int) -> None:
        self._started = {pid: started_at(pid)}

    def look(self) -> None:
        """Add the children that have come since."""
        parents = _parents()
        # Of one that has ended the number may be another's by now.
        family = set(self._alive())
        while new := [
            pid for pid, parent in parents.items() if parent in family and pid not in family
        ]:
            self._started.update((pid, started_at(pid)) for pid in new)
            family.update(new)

    def send(self, number: int) -> None:
        """Send a signal to all that are alive."""
        self.look()
        for pid in self._alive():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def lives(self) -> bool:
        """Whether any is alive."""
        return bool(self._alive())

    def _alive(self) -> list[int]:
        return [pid for pid, started in self._started.items() if started_at(pid) == started != ""]


def _parents() -> dict[int, int]:
    """Every process and its parent; nothing on systems without /proc."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            stat = path.read_text(encoding="utf-8", errors="replace")
            found[int(path.parent.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def _group(leader: int) -> Target:
    return lambda number: os.killpg(leader, number), lambda: _group_lives(leader)


def _end(targets: Sequence[Target], grace_seconds: float) -> None:
    """End all at once, so that several stubborn ones take no longer than one."""
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, GRACE_SECONDS)):
        for send, lives in targets:
            with suppress(ProcessLookupError, PermissionError):
                if lives():
                    send(number)
        deadline = time.monotonic() + seconds
        while any(lives() for _, lives in targets) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _group_lives(leader: int) -> bool:
    """Whether a process of the group is there that is more than a zombie."""
    try:
        os.killpg(leader, 0)
    except OSError:
        return False
    members = [path for path in Path("/proc").glob("[0-9]*") if _group_of(path) == leader]
    return not Path("/proc/self").exists() or any(started_at(int(p.name)) for p in members)


def _group_of(process: Path) -> int:
    try:
        return os.getpgid(int(process.name))
    except OSError:
        return -1


def _told(owner: int) -> Iterator[str]:
    """The owner's lines, and "" from time to time, until it is gone or has said that it is enough.

    The pipe's end alone does not tell: a process that the owner forked holds the pipe open too.
    """
    rest = b""
    while True:
        if select.select([0], [], [], OWNER_POLL_SECONDS)[0]:
            data = os.read(0, 65_536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line == END.encode():
                    return
                yield line.decode()
        elif os.getppid() != owner:
            return
        yield ""


def main() -> None:
    """Read what to guard, one line each, until the owner is gone; then end it all."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    owner, grace_seconds = int(sys.argv[1]), float(sys.argv[2])
    groups: list[Target] = []
    families: list[Family] = []
    for line in _told(owner):
        for family in families:
            family.look()
        if line:
            kind, pid = line.split()
            if kind == "group":
                groups.append(_group(int(pid)))
            else:
                families.append(Family(int(pid)))
    _end([*groups, *((each.send, each.lives) for each in families)], grace_seconds)


if __name__ == "__main__":
    main()
