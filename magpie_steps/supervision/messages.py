"""What a step's process and the main process say to each other.

A message to the main process is one kind byte followed by a pickle. A message to a step's process
is a pickle: first the step, then one batch (or a stop sign) for each `WANT`.
"""

import gc
import os
import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Literal

WANT = b"W"  # ready for the next item of the step's input queue
OUTPUT = b"O"  # a finished batch
STATUS = b"S"  # "loaded" or "unloaded"
LOG = b"L"  # a logging.LogRecord
NOTE = b"N"  # a Note: something went wrong, the run goes on
FAILED = b"F"  # a Failure: the run cannot go on
DONE = b"D"  # the step's process ends as it should

FAILED_ROW = "__magpie_failed_row__"
"""Marks a row that a step could not process; later steps leave it alone, the writer strips it."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that did not stop a step: rows it failed on, or a repaired fault."""

    text: str
    failed_rows: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step cannot go on."""

    phase: Literal["start", "load", "process"]
    error: str
    traceback: str


def unpickle(data: bytes | memoryview) -> Any:
    """What was pickled, read without a collection of garbage at every few hundred rows.

    Rows hold no cycles, and the collector's walks over them cost a third of a run's time.
    """
    with collector_paused():
        # It comes through a pipe that only this run's own processes hold.
        return pickle.loads(data)  # nosec B301


@contextmanager
def collector_paused() -> Iterator[None]:
    """Do without the garbage collector for a moment in which rows are built, not dropped."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Disconnected(BaseException):
    """The main process has closed the pipe or is gone: the step's process is to leave.

    Not an `Exception`, so that no step's error handling takes it for a bad row.
    """


class Channel:
    """A step process's end of the pipe to the main process; any thread may send."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, kind: bytes, value: object = None) -> None:
        """Send one message; pickling happens here, so what cannot be pickled raises here."""
        data = kind + bytes(ForkingPickler.dumps(value, pickle.HIGHEST_PROTOCOL))
        try:
            with self._lock:
                self._connection.send_bytes(data)
        except OSError as error:
            raise Disconnected from error

    def receive(self) -> Any:
        """Wait for the next item from the main process."""
        try:
            data = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise Disconnected from error
        return unpickle(data)


class StepInputQueue:
    """The input queue as the step sees it: asks for an item, then waits for it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def get(self) -> Any:
        """Wait for the next batch or stop sign."""
        self._channel.send(WANT)
        return self._channel.receive()


class StepOutputQueue:
    """The output queue as the step sees it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def put(self, batch: object) -> None:
        """Send a finished batch to the main process."""
        self._channel.send(OUTPUT, batch)


class StepLoadQueue:
    """The load queue as the step sees it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def put(self, status: dict[str, str]) -> None:
        """Tell the main process that the step has been loaded or unloaded."""
        self._channel.send(STATUS, status["status"])


def limit_waiting(connection: "Connection[Any, Any]", seconds: int) -> None:
    """Let no single read or write that has begun take longer than this; 0 lets it take for ever."""
    timeval = struct.pack("ll", seconds, 0)
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
