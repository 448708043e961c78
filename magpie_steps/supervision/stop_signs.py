"""How does a process that is told to end get the time to do it?"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(SystemExit):
    """The process was told to end by SIGTERM; its exit status is 143."""


@contextmanager
def termination_noticed() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, as Ctrl-C becomes `KeyboardInterrupt`.

    Whatever is open is then closed on the way out. A handler that somebody else has set stays.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def postponed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of what must not be cut short.

    Python raises between any two lines, and where it cannot, as while a process is forked, it drops
    what it raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for came_number in came:
            signal.raise_signal(came_number)


def _exit(signal_number: int, frame: object) -> None:
    raise Terminated(128 + signal_number)
