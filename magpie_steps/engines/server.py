"""A server of one model on this machine, from its start to its end, whatever happens."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from distilabel.errors import DistilabelUserError

from magpie_steps.engines.guard import Guard, end_group

HOST = "{host}"
PORT = "{port}"
"""What stands in a command for the address that a server gets."""

START_SECONDS = 1800.0
"""How long a server may take to answer: a large model is fetched and compiled first."""

RESTARTS = 1
"""How often a server that ended by itself is started again: once may be bad luck."""

LOG_LINES = 15
"""Of the server's log, shown when it fails."""

POLL_SECONDS = 0.2

State = Literal["starting", "ready", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, for the processes that use it.

    Attributes:
        url: its address, ending in `/v1`.
        key: the key that it wants; new for each server, and never in a command line or a log.
        state_file: where its owner writes how it is.
    """

    url: str
    key: str = field(repr=False)
    state_file: Path

    @property
    def urls(self) -> list[str]:
        """Its address alone."""
        return [self.url]

    @property
    def resolver(self) -> None:
        """Its address needs none."""
        return

    def state(self) -> tuple[State, str]:
        """How the server is, and why if it has failed."""
        try:
            content = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "stopped", "its owner has ended"
        return content["state"], content["reason"]


class Server:
    """One server process that is watched, started again once, and ended with its owner.

    Args:
        name: the model's name, for errors.
        command: starts the server; `HOST` and `PORT` in it are replaced.
        environment: variables for it, besides those of this process.
        key_variable: the variable in which it expects its key.
        say: takes a line of text when something happened.
        host: the address that it answers at: by default to this machine alone.
        key: the key; "" for a new one.
        restarts: how often it is started again when it has ended by itself.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        key_variable: str,
        say: Callable[[str], object],
        host: str = "127.0.0.1",
        key: str = "",
        restarts: int = RESTARTS,
    ) -> None:
        self._name = name
        # Not a TemporaryDirectory: that one would also be deleted by a forked process's end.
        self._folder = Path(tempfile.mkdtemp(prefix="magpie-steps-server-"))
        self._log = self._folder / "log"
        self._say = say
        port = _free_port(host)
        key = key or secrets.token_urlsafe(32)
        places = {HOST: host, PORT: str(port)}
        self._command = [places.get(part, part) for part in command]
        self._environment = {**os.environ, **environment, key_variable: key}
        shown = f"[{host}]" if ":" in host else host
        self.address = Address(f"http://{shown}:{port}/v1", key, self._folder / "state.json")
        self._guard = Guard()
        self._restarts, self._most_restarts = 0, restarts
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = threading.Thread(target=self._watch, name="magpie-steps-server")
        self._watcher.daemon = True

    @property
    def pid(self) -> int:
        """The server's process id; other processes of the server are in its process group."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            DistilabelUserError: it ended instead, or took too long.
        """
        self._tell("starting")
        self._launch()
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        self._tell("ready")
        self._watcher.start()

    def stop(self) -> None:
        """End the server and all its processes; never raises."""
        self._stopping.set()
        self._tell("stopped")
        self._end()
        if self._watcher.is_alive():
            self._watcher.join()
            self._end()  # it may just have started another one
        self._guard.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process is not None:
            end_group(self._process.pid)
            self._process.wait()

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # a process group of its own, to be ended as one
            )
        self._guard.watch(self._process.pid, group=True)

    def _wait_until_healthy(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._stopping.is_set():
            code = self._process.poll()
            if code is not None:
                end_group(self._process.pid)
                raise DistilabelUserError(self._failure(f"ended with exit status {code}"))
            if _answers(self.address.url.removesuffix("/v1") + "/health"):
                return
            if time.monotonic() > deadline:
                raise DistilabelUserError(
                    self._failure(f"did not answer within {START_SECONDS:.0f} s")
                )
            time.sleep(POLL_SECONDS)

    def _watch(self) -> None:
        """Wait for the server's end; start it again once, then say that it has failed."""
        while not self._stopping.is_set():
            assert self._process is not None
            code = self._process.wait()
            end_group(self._process.pid)  # what it may have left behind
            if self._stopping.is_set():
                return
            how = f"was killed (signal {-code})" if code < 0 else f"ended with exit status {code}"
            if self._restarts >= self._most_restarts:
                again = ", for the second time" if self._restarts else ""
                self._tell("failed", self._failure(f"{how}{again}"))
                return
            self._restarts += 1
            self._tell("starting")
            self._say(f"the server of {self._name} {how}; starting it again, once")
            try:
                self._launch()
                self._wait_until_healthy()
            except DistilabelUserError as error:
                self._tell("failed", str(error))
                return
            if not self._stopping.is_set():
                self._tell("ready")

    def _tell(self, state: State, reason: str = "") -> None:
        """Write how the server is, for all that use it."""
        draft = self.address.state_file.with_suffix(".draft")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps({"state": state, "reason": reason}), encoding="utf-8")
            draft.replace(self.address.state_file)

    def _failure(self, how: str) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        said = "\n".join(lines).replace(self.address.key, "***")
        return f"the server of {self._name} {how}; the last lines of its log:\n{said}"


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: Any = probe.getsockname()[1]
    return int(port)


def _answers(url: str) -> bool:
    # A proxy of the environment's would look for the server on its own machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
