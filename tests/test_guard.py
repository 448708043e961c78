"""No process outlives its owner, however that ends: real processes, and the process table."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from magpie_steps.engines.guard import Family, Guard, end_group, started_at

pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).parents[1]

SLEEPER = "import time; print('asleep', flush=True); time.sleep(600)"

DEAF = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)];" + SLEEPER
"""Hears neither Ctrl-C nor a request to end."""

PARENT = (
    "import subprocess, sys, time;"
    f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], stdout=subprocess.PIPE);"
    "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
)
"""Has a child of its own, whose number it prints."""

OWNER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from magpie_steps.engines.guard import Guard

def start(code, **how):
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **how)
    return child, child.stdout.readline().decode().strip()

guard = Guard(grace_seconds=0.5)
"""

ONE_AND_A_GROUP = f"""
child, _ = start({SLEEPER!r})
guard.watch(child.pid)
leader, grandchild = start({PARENT!r}, start_new_session=True)
guard.watch(leader.pid, group=True)
print(guard.pid, child.pid, leader.pid, grandchild, flush=True)
"""

ONE_THAT_IS_DEAF = f"""
child, _ = start({DEAF!r})
guard.watch(child.pid)
print(guard.pid, child.pid, flush=True)
"""

A_FORK = """
child = os.fork()
if not child:
    time.sleep(600)
guard.watch(child)
print(guard.pid, child, flush=True)
"""


@pytest.fixture
def started() -> Iterator[list[int]]:
    """What a test has started and must not leave behind."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process is there that is more than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ignores(pid: int, numbers: Sequence[int]) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return all(int(mask, 16) >> (number - 1) & 1 for number in numbers)


def gone(pids: Sequence[int], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def own(started: list[int], code: str, end: str = "time.sleep(600)") -> "subprocess.Popen[str]":
    """Start an owner in a session of its own; `started` gets the processes that it prints."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER + code + end],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    started.append(owner.pid)
    started += map(int, owner.stdout.readline().split())
    assert len(started) > 2
    return owner


def finish(owner: "subprocess.Popen[str]") -> None:
    owner.wait(20)
    assert owner.stdout is not None
    owner.stdout.close()


def start(code: str = SLEEPER, **how: Any) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **how)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


# The owner ends


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_owner_leaves_nothing_behind(started: list[int], number: int) -> None:
    """Neither a process, nor a group with a grandchild in it, nor the guard."""
    owner = own(started, ONE_AND_A_GROUP)
    assert all(map(alive, started))
    owner.send_signal(number)
    finish(owner)
    assert gone(started)


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "os._exit(0)", "raise RuntimeError", "os.abort()", "guard.close()"]
)
def test_however_the_owner_ends_nothing_is_left(started: list[int], end: str) -> None:
    owner = own(started, ONE_AND_A_GROUP, end)
    finish(owner)
    assert gone(started)


def test_a_forked_process_does_not_keep_the_guard_waiting(started: list[int]) -> None:
    """A fork holds the pipe to the guard open too, so its end did not come before the fork's own.

    vLLM forks its engine process where it may.
    """
    owner = own(started, A_FORK)
    owner.kill()
    finish(owner)
    assert gone(started)


def test_closing_ends_a_forked_process(started: list[int]) -> None:
    """Closing waited for the guard, and the guard for the fork that it was to end."""
    began = time.monotonic()
    finish(own(started, A_FORK, "guard.close()"))
    assert gone(started)
    assert time.monotonic() - began < 8


def test_a_process_that_does_not_listen_is_killed(started: list[int]) -> None:
    owner = own(started, ONE_THAT_IS_DEAF)
    owner.kill()
    finish(owner)
    assert gone(started)


def test_ctrl_c_is_for_the_owner_and_the_guard_does_its_work(started: list[int]) -> None:
    """The terminal sends it to the owner's whole group; the child in it does not listen."""
    owner = own(started, ONE_THAT_IS_DEAF)
    os.killpg(owner.pid, signal.SIGINT)
    finish(owner)
    assert owner.returncode == -signal.SIGINT
    assert gone(started)


def test_a_guard_outlives_signals_that_are_sent_to_it(started: list[int]) -> None:
    owner = own(started, ONE_AND_A_GROUP)
    guard, numbers = started[1], (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    deadline = time.monotonic() + 20
    while not ignores(guard, numbers) and time.monotonic() < deadline:
        time.sleep(0.02)  # it has only just been started
    for number in numbers:
        os.kill(guard, number)
    time.sleep(0.2)
    assert all(map(alive, started))
    owner.kill()
    finish(owner)
    assert gone(started)


# The guard is closed


def closing(act: Callable[[Guard], None], grace_seconds: float = 0.3) -> float:
    """Let a guard watch something, close it, and return how long that took."""
    guard = Guard(grace_seconds)
    act(guard)
    began = time.monotonic()
    guard.close()
    assert not alive(guard.pid)
    return time.monotonic() - began


def test_closing_asks_each_process_to_end() -> None:
    child, leader, stranger = start(), start(start_new_session=True), start()

    def watch(guard: Guard) -> None:
        guard.watch(child.pid)
        guard.watch(leader.pid, group=True)

    closing(watch, grace_seconds=30.0)
    assert (child.wait(0.1), leader.wait(0.1)) == (-signal.SIGTERM, -signal.SIGTERM)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_who_does_not_listen_has_the_grace_and_no_more() -> None:
    child = start(DEAF)
    assert closing(lambda guard: guard.watch(child.pid), grace_seconds=0.6) >= 0.6
    assert child.wait(0.1) == -signal.SIGKILL


def test_many_that_do_not_listen_take_as_long_as_one() -> None:
    """Each had a grace of its own, one after the other; closing gave up after two of them."""
    children = [start(DEAF, start_new_session=number % 2 == 0) for number in range(5)]

    def watch(guard: Guard) -> None:
        for number, child in enumerate(children):
            guard.watch(child.pid, group=number % 2 == 0)

    assert closing(watch, grace_seconds=2.0) < 8
    assert [child.wait(0.1) for child in children] == [-signal.SIGKILL] * 5


def test_a_process_that_has_ended_by_itself_harms_nothing() -> None:
    """Before it is watched, while it is, and as a zombie that its owner has not yet waited for."""
    before, meanwhile, zombie, other = start(), start(), start(), start()
    before.kill()
    before.wait()
    zombie.kill()
    assert gone([zombie.pid])

    def watch(guard: Guard) -> None:
        for pid in (before.pid, meanwhile.pid, zombie.pid, other.pid, 2**22 + 1):
            guard.watch(pid)
        guard.watch(before.pid, group=True)
        meanwhile.kill()
        meanwhile.wait()

    assert closing(watch, grace_seconds=30.0) < 10
    assert zombie.wait(1) == -signal.SIGKILL
    assert other.wait(0.1) == -signal.SIGTERM


def test_nothing_to_end_is_quickly_done_and_twice_is_fine() -> None:
    guard = Guard()
    began = time.monotonic()
    guard.close()
    guard.close()
    assert time.monotonic() - began < 5


def test_a_killed_guard_raises_nothing_and_ends_nothing() -> None:
    child, guard = start(), Guard()
    guard.watch(child.pid)
    os.kill(guard.pid, signal.SIGKILL)
    assert gone([guard.pid])
    guard.watch(child.pid)
    guard.close()
    assert child.poll() is None
    child.kill()
    child.wait()


# Ending by hand


def test_another_process_with_the_same_number_is_left_alone() -> None:
    """Numbers are used again; what tells processes apart is when they were started."""
    child = start()
    for other in ("1", ""):
        family = Family(child.pid)
        family._started[child.pid] = other
        assert not family.lives()
        family.send(signal.SIGKILL)
    time.sleep(0.1)
    assert child.poll() is None
    family = Family(child.pid)
    assert family.lives()
    family.send(signal.SIGTERM)
    assert child.wait(5) == -signal.SIGTERM
    assert not family.lives()


def test_a_grandchild_goes_too_when_its_parent_has_ended_before(started: list[int]) -> None:
    """A worker of vLLM lives on when its engine core is killed: it has init as its parent then."""
    code = (
        "import subprocess, sys, time;"
        " child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        " print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    guard = Guard()
    guard.watch(parent.pid)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    started.append(grandchild)
    time.sleep(1.5)  # the guard looks twice a second
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert not gone([grandchild], 0.5)
    guard.close()
    assert gone([grandchild])


def test_a_group_ends_with_all_its_members(started: list[int]) -> None:
    leader = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout is not None
    started.append(int(leader.stdout.readline()))
    leader.stdout.close()
    leader.kill()  # the group lives on without its leader
    leader.wait()
    end_group(leader.pid)
    assert gone(started, 0.1)
    end_group(leader.pid)


def test_who_is_not_there_was_never_started() -> None:
    child = start()
    assert started_at(os.getpid()) != ""
    assert started_at(child.pid) != ""
    child.kill()
    assert gone([child.pid])
    assert started_at(child.pid) == ""  # a zombie
    child.wait()
    assert started_at(child.pid) == started_at(2**22 + 1) == ""
