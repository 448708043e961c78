"""How is a step's process started on a cluster, and how is it known there that it is lost?"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayError

from magpie_steps.cluster.caretaker import Caretaker, End, Orders, Probe
from magpie_steps.cluster.placing import Demand, Patience, demand_of, why_lost
from magpie_steps.cluster.reception import Number, Reception, hang_up
from magpie_steps.supervision.places import engines_of, parts_of
from magpie_steps.supervision.processes import how_it_ended

RESTARTS = 5
"""How often a step is started again whose process was lost: with its node most often, and a step
that is at fault itself would be lost each time. Some are used up where a node is not known to be
lost yet, and is chosen again."""

THREADS = 4
"""Of a caretaker: one waits for its process, the others take messages."""

CARRIED = (
    "HF_ENDPOINT",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "OMP_NUM_THREADS",
    "OPENAI_API_KEY",
    "TOKENIZERS_PARALLELISM",
)
"""Variables that a step's process has from the main process; what else it has is its node's own."""

KILL_SECONDS = 3.0
"""How long the end of a process may take that is killed with all that it has started."""


class ActorProcess:
    """A step's process on a cluster.

    Args:
        whose: the step, as an error begins.
        demand: what it needs.
        connected: called when its connection is there.
    """

    def __init__(self, whose: str, demand: Demand, connected: Callable[[], object]) -> None:
        self.connection: Connection[Any, Any] | None = None
        self._connected = connected
        self._lock = threading.Lock()
        self._hung_up = False
        self._patience = Patience(whose, demand)
        self.cpu_seconds = 0.0
        self._actor: Any = None
        self._where: Any = None
        self._end: Any = None
        self._how = ""

    def start(self, demand: Demand, orders: Orders) -> None:
        """Have Ray place its actor, and the actor start it; returns at once."""
        actor = ray.remote(Caretaker).options(max_concurrency=THREADS, **demand.options)
        self._actor = actor.remote(orders)
        self._where = self._actor.where.remote()
        self._end = self._actor.run.remote()

    def take(self, line: "Connection[Any, Any]") -> None:
        """Take the process's call."""
        with self._lock:
            if self._hung_up:
                line.close()
                return
            self.connection = line
        self._connected()

    @property
    def place(self) -> str:
        """The node that it is on."""
        try:
            return f"on {ray.get(self._where, timeout=0)}"
        except (GetTimeoutError, RayError):
            return "without a node"

    def check(self) -> None:
        """Look whether there is a place for it; once there is, it will come or end."""
        if not ray.wait([self._where], timeout=0)[0]:
            self._patience.check()

    def has_ended(self) -> bool:
        """Whether it, or its actor, is known to have ended."""
        self.join(0.0)
        return bool(self._how)

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        if not self._how and ray.wait([self._end], timeout=seconds)[0]:
            self._how = self._read_end()
            self._let_go()

    def _read_end(self) -> str:
        try:
            end: End = ray.get(self._end)
        except RayError as error:
            return why_lost(error)
        self.cpu_seconds = end.cpu_seconds
        said = f", and said last: {end.said}" if end.said and end.code else ""
        return f"{how_it_ended(end.code)}{said}"

    def _let_go(self) -> None:
        """End the actor, so that what it holds is free for others."""
        with suppress(RayError, ValueError):
            ray.kill(self._actor)

    def tell(self, number: int) -> None:
        """Send it a signal."""
        if not self.has_ended():
            self._actor.tell.remote(int(number))

    def disconnect(self) -> None:
        """Close the connection; one that has not called yet is ended."""
        with self._lock:
            self._hung_up = True
            line, self.connection = self.connection, None
        if line is not None:
            hang_up(line)  # or a thread that is sending a large item would wait for a minute
            line.close()
        else:
            self.tell(signal.SIGTERM)

    def kill(self) -> None:
        """End it, what it has started, and its actor."""
        if not self.has_ended():
            self.tell(signal.SIGKILL)
            if ray.wait([self._where], timeout=0)[0]:
                self.join(KILL_SECONDS)
        self._let_go()

    def how_it_ended(self) -> str:
        """What became of it."""
        return self._how or "is not heard any more"


class ActorLauncher:
    """Starts each step's process where Ray finds the resources for it.

    Args:
        reception: where the processes call.
        journal: the number of the journal.
        work_dir: the run's folder.
    """

    starts_ahead = False
    restarts = RESTARTS

    def __init__(self, reception: Reception, journal: Number, work_dir: Path) -> None:
        self._reception = reception
        self._journal = journal
        self._work_dir = work_dir
        self._probe: Probe | None = None
        self._launched: list[ActorProcess] = []

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the processes that have ended, as far as it is known."""
        return sum(process.cpu_seconds for process in self._launched)

    @contextmanager
    def probe(self) -> Iterator[None]:
        """Keep a file in the run's folder by which others can tell that they see that folder."""
        content = secrets.token_hex(16)
        path = self._work_dir / f"seen-by-all-{content[:8]}"
        path.write_text(content, encoding="utf-8")
        self._probe = Probe(path, content)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def launch(
        self, step: Any, environment: Mapping[str, str], connected: Callable[[], object]
    ) -> ActorProcess:
        """Start a process for a step; it is there when Ray has found a place for it."""
        demand = demand_of(step)
        process = ActorProcess(f"step {step.name!r}", demand, connected)
        self._launched.append(process)
        keys = (getattr(engine, "api_key_variable", "") for engine in engines_of(step))
        carried = {name: os.environ[name] for name in (*CARRIED, *keys) if name in os.environ}
        orders = Orders(
            self._reception.expect(process.take, once=True),
            self._journal,
            {**carried, **environment},
            path=tuple(sys.path),
            all_cores=demand.cpus is None,
            probe=self._probe if keeps_files_in(step, self._work_dir) else None,
        )
        process.start(demand, orders)
        return process

    def dump(self, step: Any, replica: int) -> bytes:
        """The step, pickled; what is defined in the script itself goes along as code."""
        return bytes(cloudpickle.dumps((step, replica)))


def keeps_files_in(model: BaseModel, folder: Path) -> bool:
    """Whether a step, or what is in it, names a place in a folder."""
    named = (str(item) for item in parts_of(model) if isinstance(item, str | Path))
    return any(_is_in(each, folder) for each in named)


def _is_in(text: str, folder: Path) -> bool:
    if not text or "\n" in text or len(text) > 4096:
        return False
    return Path(text).absolute().is_relative_to(folder)
