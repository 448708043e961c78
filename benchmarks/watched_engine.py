"""A simulated engine that writes down how busy its GPUs were by the moments that matter.

It is in a module of its own because distilabel sends engines to processes by pickling them.
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import PrivateAttr
from simulated_gpu import SimulatedEngine
from virtual_time import run_in_virtual_time

from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.scripted_text import USER_ID

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the engine is at a moment.

    Attributes:
        at: The moment on the clock of the event loop, in seconds.
        busy: For how long places have been taken, added up over the places, in seconds.
        ended: Responses that have been written.
        cpu: Processor time of the process, in seconds.
    """

    at: float
    busy: float
    ended: int
    cpu: float


@dataclass
class _Watch:
    """What the engine has seen; one plain object, as pydantic takes long to find private ones."""

    moments: dict[str, Moment] = field(default_factory=dict)
    begun: int = 0
    ended: int = 0


class WatchedEngine(SimulatedEngine):
    """Runs in virtual time, if asked to, and writes its moments to a file when it is unloaded.

    These are "start", the first request; "turned", when as many rows have ended as there are
    places; "begun", when the last row is begun; "end", when the last one has ended.

    Attributes:
        rows: Rows of the run, none of which may be tried twice.
        moments_file: Where to write the moments.
        virtual: Whether its clock is processor time without waits, see `virtual_time`.
    """

    rows: int
    moments_file: str
    virtual: bool = True

    _watch: _Watch = PrivateAttr(default_factory=_Watch)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that asks this engine."""
        return run_in_virtual_time(work) if self.virtual else asyncio.run(work)

    def unload(self) -> None:
        """Write down what was seen."""
        moments = {name: asdict(moment) for name, moment in self._watch.moments.items()}
        Path(self.moments_file).write_text(json.dumps(moments), encoding="utf-8")
        super().unload()

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt, as any engine does; an answer that was there before counts too."""
        watch = self._watch
        if not watch.begun:
            self._note("start")
        instruction = prompt_ids[-1] == USER_ID
        watch.begun += instruction
        if instruction and watch.begun == self.rows:
            self._note("begun")
        done = await super().complete(prompt_ids, sampling)
        watch.ended += not instruction
        if not instruction and watch.ended == self.capacity:
            self._note("turned")
        if not instruction and watch.ended == self.rows:
            self._note("end")
        return done

    def _note(self, name: str) -> None:
        watch, gpus = self._watch, self._devices.gpus
        for gpu in gpus:
            gpu.catch_up()
        watch.moments[name] = Moment(
            asyncio.get_running_loop().time(),
            sum(gpu.busy_seconds for gpu in gpus),
            watch.ended,
            time.process_time(),
        )
