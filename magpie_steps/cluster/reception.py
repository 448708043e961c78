"""How do a run's processes on other machines reach the one that started it?

A `Reception` listens at one port. Who calls proves that it knows the run's key, then gives a name
that was expected; names are random, and some are good for one call only.
"""

import hmac
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from magpie_steps.supervision.messages import limit_waiting

CALL_SECONDS = 30
"""How long a call may take to be answered and to prove itself."""

LONGEST_NAME = 100

Taker = Callable[["Connection[Any, Any]"], None]


@dataclass(frozen=True, slots=True)
class Number:
    """What a process needs to call: it is sent to those that may.

    Attributes:
        host: the address of the reception.
        port: its port.
        key: the run's key.
        name: who is asked for.
    """

    host: str
    port: int
    key: bytes = field(repr=False)
    name: str = field(repr=False)

    def call(self) -> "Connection[Any, Any]":
        """Call.

        Raises:
            OSError: nobody answers.
            AuthenticationError: somebody else answers.
        """
        peer = socket.create_connection((self.host, self.port), timeout=CALL_SECONDS)
        line = _line(peer)
        answer_challenge(line, self.key)
        deliver_challenge(line, self.key)
        line.send_bytes(self.name.encode())
        limit_waiting(line, 0)
        return line


class Reception:
    """Listens for calls of a run's processes; each caller is served by a thread of its own.

    Args:
        host: the address of this machine that the others know.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._key = secrets.token_bytes(32)
        self._expected: dict[str, tuple[Taker, bool]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._lines: set[Connection[Any, Any]] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=256)
        self._thread = threading.Thread(target=self._listen, name="magpie-steps-reception")
        self._thread.daemon = True

    def __enter__(self) -> "Reception":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._closed.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that listens
        self._socket.close()
        self._thread.join()
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in lines:
            hang_up(line)

    def expect(self, taker: Taker, *, once: bool = False) -> Number:
        """Have calls for a new name taken.

        Args:
            taker: takes the line of each call, in a thread of its own. When it returns, the line is
                closed, but for calls that are expected once: those keep it.
            once: whether there is one such call.

        Returns:
            The number to call.
        """
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._expected[name] = (taker, once)
        port: int = self._socket.getsockname()[1]
        return Number(self._host, port, self._key, name)

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                if self._closed.is_set():
                    return
                continue
            # A caller that says nothing holds up only its own thread.
            threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        line = _line(peer)
        try:
            deliver_challenge(line, self._key)
            answer_challenge(line, self._key)
            taker, once = self._asked_for(line.recv_bytes(LONGEST_NAME).decode())
            limit_waiting(line, 0)
        except (OSError, EOFError, ValueError, AuthenticationError):
            line.close()
            return
        if once:
            taker(line)
            return
        with self._lock:
            self._lines.add(line)
        try:
            taker(line)
        except (OSError, EOFError):
            return  # the other end is gone
        finally:
            with self._lock:
                self._lines.discard(line)
            line.close()

    def _asked_for(self, name: str) -> tuple[Taker, bool]:
        with self._lock:
            for known, (taker, once) in self._expected.items():
                if hmac.compare_digest(known, name):
                    if once:
                        del self._expected[known]
                    return taker, once
        raise ValueError("nobody of that name is expected")


def hang_up(line: "Connection[Any, Any]") -> None:
    """End a line that another thread may be reading from; that thread then closes it."""
    with suppress(OSError), socket.socket(fileno=os.dup(line.fileno())) as peer:
        peer.shutdown(socket.SHUT_RDWR)


def _line(peer: socket.socket) -> "Connection[Any, Any]":
    """A connection that notices within a minute or so that the other machine is gone."""
    peer.settimeout(None)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    line: Connection[Any, Any] = Connection(peer.detach())
    limit_waiting(line, CALL_SECONDS)
    return line
