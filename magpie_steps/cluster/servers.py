"""How do a run's steps share servers on a cluster, also when a server's node is lost?

Each server has an actor in a placement group of its own, which holds all its GPUs on one node; Ray
chooses the node. One that is lost, with its node or by itself, is started again where there is
room; requests under way are sent again by the steps, to the others or to the same one when it is
back.
"""

import json
import logging
import os
import pickle
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import ray
from distilabel.errors import DistilabelUserError
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayError
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from magpie_steps.cluster.placing import Demand, Patience, why_lost
from magpie_steps.cluster.reception import Reception
from magpie_steps.cluster.server_actor import ServerHost, Started
from magpie_steps.cluster.step_actor import CARRIED
from magpie_steps.cluster.whereabouts import ServersOnCluster, Whereabouts
from magpie_steps.engines.served import ServedEngine
from magpie_steps.supervision.errors import PipelineRunError

RESTARTS = 5
"""How often a server that was lost is started again."""

STOP_SECONDS = 20.0
"""How long a server may take to end: its own limit is 10."""

WAIT_SECONDS = 0.5
"""How long the main process waits for Ray before it looks whether the run is at its end."""

_logger = logging.getLogger(__name__)


@contextmanager
def servers_on(reception: Reception, engines: Iterable[ServedEngine]) -> Iterator[None]:
    """Start the servers for each different setting among the engines, all at once, and end them.

    Raises:
        DistilabelUserError: one does not start; the others are ended.
        PipelineRunError: there is no place for one.
    """
    shared: dict[str, list[ServedEngine]] = {}
    for engine in engines:
        shared.setdefault(_settings_of(engine), []).append(engine)
    fleets = [Fleet(group[0]) for group in shared.values()]
    try:
        for fleet in fleets:
            fleet.start()
        for fleet, group in zip(fleets, shared.values(), strict=True):
            fleet.wait_for_all()
            servers = ServersOnCluster(reception.expect(fleet.tell), len(fleet.replicas), fleet.key)
            for engine in group:
                engine.use(servers)
        yield
    finally:
        for group in shared.values():
            for engine in group:
                engine.use(None)
        for fleet in fleets:
            fleet.stop()


OF_REQUESTS = frozenset(
    {
        *("timeout_seconds", "max_retries", "generation_kwargs", "system_policy", "add_bos"),
        *("chat_template", "chat_template_kwargs", "response_template_kwargs"),
    }
)
"""Settings of an engine that say how it asks: a server knows nothing of them."""


def _settings_of(engine: ServedEngine) -> str:
    """What engines that share servers have in common."""
    settings = {k: v for k, v in engine.dump().items() if k not in OF_REQUESTS}
    return json.dumps(settings, sort_keys=True, default=repr)


class Fleet:
    """The servers of one model.

    Args:
        engine: one of the engines that use them.
    """

    def __init__(self, engine: ServedEngine) -> None:
        self.key = secrets.token_urlsafe(32)
        several = engine.replicas > 1
        self.replicas = [
            Replica(engine, self.key, f" {index + 1} of {engine.replicas}" if several else "")
            for index in range(engine.replicas)
        ]

    def start(self) -> None:
        """Start all."""
        for replica in self.replicas:
            replica.thread.start()

    def wait_for_all(self) -> None:
        """Wait until each has started.

        Raises:
            DistilabelUserError: one has failed to.
            PipelineRunError: there is no place for one.
        """
        for replica in self.replicas:
            replica.started.wait()
            if replica.error is not None:
                raise replica.error

    def tell(self, line: "Connection[Any, Any]") -> None:
        """Answer one caller that asks where the servers are."""
        line.recv_bytes()
        line.send_bytes(pickle.dumps([replica.now for replica in self.replicas]))

    def stop(self) -> None:
        """End all at once; never raises."""
        for replica in self.replicas:
            replica.stopping.set()
        for replica in self.replicas:
            if replica.thread.ident is not None:
                replica.thread.join()


class Replica:
    """One server, from its start to its end, on whichever node it is; a thread looks after it.

    Attributes:
        now: how it is.
        started: set when it answers for the first time, or has failed to.
        error: why it has failed to.
        stopping: set to end it.
    """

    def __init__(self, engine: ServedEngine, key: str, which: str) -> None:
        self.now = Whereabouts("starting")
        self.started = threading.Event()
        self.error: Exception | None = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="magpie-steps-server", daemon=True)
        self._engine = engine
        self._key = key
        self._name = f"the server of {engine.model_name}{which}"
        self._demand = Demand(cpus=1, gpus=engine.gpus)
        self._group: Any = None
        self._actor: Any = None

    def _run(self) -> None:
        try:
            self._keep_running()
        except (DistilabelUserError, PipelineRunError) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - nobody else would ever hear of it
            self._fail(PipelineRunError(f"{self._name}: {type(error).__name__}: {error}"))
        finally:
            self.started.set()
            self._release()

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.now = Whereabouts("failed", reason=str(error))

    def _keep_running(self) -> None:
        """Start it, and again each time that it is lost, until the run is at its end.

        Raises:
            DistilabelUserError: it does not start, or is lost too often.
            PipelineRunError: there is no place for it.
        """
        for restarts in range(RESTARTS + 1):
            self.now = Whereabouts("starting")
            how = self._serve()
            if self.stopping.is_set():
                return
            self._release()
            if restarts < RESTARTS:
                _logger.warning("%s %s; starting it again", self._name, how)
        raise DistilabelUserError(f"{self._name} {how}, after {RESTARTS} restarts")

    def _serve(self) -> str:
        """Start the server and wait for its end; returns how it ended."""
        try:
            if not self._place():
                return ""
            found: Started | None = self._result(self._actor.start.remote())
            if found is None:
                return ""
            if found.failure:
                raise DistilabelUserError(found.failure)
            self.now = Whereabouts("ready", found.host, found.port)
            self.started.set()
            return str(self._result(self._actor.wait.remote()) or "has ended")
        except RayError as error:
            return why_lost(error)

    def _place(self) -> bool:
        """Wait for room on a node and start the actor there; returns False at the run's end."""
        self._group = placement_group([self._demand.bundle], strategy="STRICT_PACK")
        patience = Patience(self._name, self._demand)
        while not self._group.wait(timeout_seconds=WAIT_SECONDS):
            if self.stopping.is_set():
                return False
            patience.check()
        environment = {name: os.environ[name] for name in CARRIED if name in os.environ}
        self._actor = (
            ray.remote(ServerHost)
            .options(
                num_cpus=self._demand.cpus,
                num_gpus=self._demand.gpus,
                max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group),
            )
            .remote(cloudpickle.dumps(self._engine), self._key, environment, sys.path)
        )
        return True

    def _result(self, reference: Any) -> Any:
        """The result of a call of the actor; None at the run's end."""
        while not self.stopping.is_set():
            with suppress(GetTimeoutError):
                return ray.get(reference, timeout=WAIT_SECONDS)
        return None

    def _release(self) -> None:
        """End the server and its actor, and give its place back; never raises."""
        actor, self._actor = self._actor, None
        group, self._group = self._group, None
        with suppress(RayError, ValueError):
            if actor is not None:
                ray.wait([actor.stop.remote()], timeout=STOP_SECONDS)
                ray.kill(actor)
        with suppress(RayError, ValueError):
            if group is not None:
                remove_placement_group(group)
