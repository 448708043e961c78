"""What does a process need of a cluster, and has the cluster got it?"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from magpie_steps.engines import vllm_api
from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.places import engines_of

SOON_SECONDS = 20.0
"""After so long without a place, it is said what is waited for."""

NO_NODE_SECONDS = 90.0
"""How long a node may be waited for that has what is asked for: a cluster may be growing."""

BUSY_SECONDS = 1800.0
"""How long a node may be waited for that has it, but not free."""

A_LITTLE = 0.01
"""Of a processor: not nothing, or heads that are to run no work would be chosen too. Ray's own
default, one to be started and none to run, never places an actor where all are asked for."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one process needs.

    Attributes:
        cpus: processors; None for any node that has some, without keeping them from others.
        gpus: GPUs.
        memory: bytes, None for any.
        others: the cluster's own resources, by name.
    """

    cpus: float | None = None
    gpus: float = 0
    memory: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """It as Ray's options of an actor."""
        found: dict[str, Any] = {"num_gpus": self.gpus, "resources": dict(self.others)}
        found["num_cpus"] = A_LITTLE if self.cpus is None else self.cpus
        if self.memory is not None:
            found["memory"] = self.memory
        # What asks for nothing in particular is spread: Ray would start all of it on one node.
        if not self.gpus and not self.others:
            found["scheduling_strategy"] = "SPREAD"
        return found

    @property
    def bundle(self) -> dict[str, float]:
        """It as Ray names resources."""
        found = {
            "CPU": A_LITTLE if self.cpus is None else self.cpus,
            "GPU": self.gpus,
            **self.others,
        }
        if self.memory is not None:
            found["memory"] = self.memory
        return {name: amount for name, amount in found.items() if amount}


def demand_of(step: Any) -> Demand:
    """What a step needs: what its `resources` say, and the GPUs of an engine inside of it."""
    asked = step.resources
    gpus = asked.gpus if asked.gpus is not None else _gpus_of_engines(step)
    return Demand(asked.cpus, gpus, asked.memory, asked.resources or {})


def _gpus_of_engines(step: Any) -> int:
    """GPUs for the engines of a step that compute in its own process."""
    return max((_gpus_of(engine) for engine in engines_of(step)), default=0)


def _gpus_of(engine: Any) -> int:
    if hasattr(engine, "make_server"):
        return 0  # they are its server's
    if hasattr(engine, "tensor_parallel_size"):
        return 0 if vllm_api.made_for_cpu() else int(engine.tensor_parallel_size)
    # One whose device is left open takes a GPU where there are some.
    device = getattr(engine, "device", "cpu")
    there = ray.cluster_resources().get("GPU", 0) >= 1
    return int(device is None or str(device).startswith(("cuda", "auto"))) if there else 0


class Patience:
    """How long a place for one process is waited for.

    Args:
        whose: what it is for, as an error begins.
        demand: what it needs.
    """

    def __init__(self, whose: str, demand: Demand) -> None:
        self._whose = whose
        self._demand = demand
        self._since = time.monotonic()
        self._told = False
        self._look_at = SOON_SECONDS

    def check(self) -> None:
        """Say that it takes long; nothing most of the time.

        Raises:
            PipelineRunError: it has taken too long.
        """
        seconds = time.monotonic() - self._since
        if seconds < self._look_at:
            return
        self._look_at = seconds + SOON_SECONDS / 4
        fits = any(_fits(self._demand, node) for node in _nodes())
        why = "no node has that" if not fits else "no node has that free"
        text = f"{self._whose} waits for a place: it asks for {shown(self._demand.bundle)}, {why}"
        limit = BUSY_SECONDS if fits else NO_NODE_SECONDS
        if seconds > limit:
            raise PipelineRunError(
                f"{text} since {seconds:.0f} s; {_all_nodes()}: ask for less, or add nodes, and run"
                " again to go on"
            )
        if not self._told:
            self._told = True
            _logger.warning("%s so far; %s", text, _all_nodes())


def why_lost(error: Exception) -> str:
    """What became of a process whose actor is gone, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"was lost with its node or actor ({lines[-1] if lines else type(error).__name__})"


def shown(resources: Mapping[str, float]) -> str:
    """Resources in words, in one order: Ray tells them in none."""
    named = [name for name in sorted(resources) if name not in _INTERNAL]
    words = [_amount(name, resources[name]) for name in named if ":" not in name]
    return ", ".join(words) or "nothing"


_INTERNAL = ("object_store_memory",)


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB of memory" if name == "memory" else f"{amount:g} {name}"


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _all_nodes() -> str:
    nodes = "; ".join(shown(node) for node in _nodes())
    return f"the cluster's nodes have: {nodes} (free of all: {shown(ray.available_resources())})"


def _fits(demand: Demand, node: Mapping[str, float]) -> bool:
    return all(node.get(name, 0) >= amount for name, amount in demand.bundle.items())
