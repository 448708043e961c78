"""An engine without a model that takes as long as a GPU would: continuous batching in real time.

A decode step of n rows takes `step_seconds + n * row_seconds` and gives each of them one token; at
most `slots` rows run on a GPU, others wait in order. Rows are as long as a model's are: most of
them short, a few many times longer.

The default times come from a public figure of an H100 with the load of this method: Qwen3-8B in FP8
on vLLM 0.30, prompts of 128 and answers of 1,024 tokens, wrote 15,103 tokens/s for 472 users
(tgarg01/silybench-data, 2026-09-24), so a step of 472 rows takes 31.25 ms. That 5 ms of these do
not depend on the number of rows is our assumption: about what it takes to read 8 GB of weights once
and to start the kernels.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import exp, log
from operator import attrgetter
from statistics import NormalDist

from pydantic import Field, PrivateAttr

from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.engines.scripted_text import USER_ID

USERS = 472
TOKENS_PER_SECOND = 15_103
STEP_SECONDS = 0.005
ROW_SECONDS = (USERS / TOKENS_PER_SECOND - STEP_SECONDS) / USERS

CHARACTERS_PER_TOKEN = 4
"""About what English text has. Texts are as long as their tokens: rows weigh what they would."""

_NORMAL = NormalDist()
_rows_of = attrgetter("rows")

Ending = tuple[float, int, "asyncio.Future[None]"]
"""How far a GPU will be when a row ends, the row's number, who waits for it."""


class SimulatedGPU:
    """One GPU on the running event loop.

    All running rows advance alike. So one number says how far the GPU is, the tokens of a row that
    had run from the beginning, and a row ends when the GPU is as much further as the row is long.
    Ends are worked off in their order, each at its own time, however late the loop looks.

    Attributes:
        rows: rows that run or wait.
        busy_seconds: for how long its places have been taken, added up over the places.
    """

    def __init__(self, slots: int, step_seconds: float, row_seconds: float) -> None:
        self.rows = 0
        self.busy_seconds = 0.0
        self._slots = slots
        self._step_seconds = step_seconds
        self._row_seconds = row_seconds
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time()  # when the GPU was as far as `_progress` says
        self._progress = 0.0
        self._running: list[Ending] = []
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._numbers = count()
        self._alarm: asyncio.TimerHandle | None = None

    async def decode(self, tokens: int) -> None:
        """Return when a row of so many tokens, which joins now, has been decoded."""
        ended = self._loop.create_future()
        self.catch_up()
        self.rows += 1
        self._waiting.append((tokens, ended))
        self._admit()
        self._set_alarm()
        await ended

    def catch_up(self) -> None:
        """Do what the GPU has done by now."""
        now = self._loop.time()
        while self._running and (clock := self._next_end()) <= now:
            self.busy_seconds += len(self._running) * (clock - self._clock)
            self._progress, _, ended = heappop(self._running)
            self._clock = clock
            self.rows -= 1
            if not ended.done():
                ended.set_result(None)
            self._admit()
        if self._running:
            self.busy_seconds += len(self._running) * (now - self._clock)
            self._progress += (now - self._clock) / self._seconds_per_token()
        self._clock = now

    def _next_end(self) -> float:
        return self._clock + (self._running[0][0] - self._progress) * self._seconds_per_token()

    def _seconds_per_token(self) -> float:
        return self._step_seconds + self._row_seconds * len(self._running)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            tokens, ended = self._waiting.popleft()
            heappush(self._running, (self._progress + tokens, next(self._numbers), ended))

    def _set_alarm(self) -> None:
        """Look again at the next end at the latest; earlier does no harm."""
        if not self._running:
            return
        end = self._next_end()
        if self._alarm is not None:
            if self._alarm.when() <= end:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(end, self._look)

    def _look(self) -> None:
        self._alarm = None
        self.catch_up()
        self._set_alarm()


@dataclass
class _Devices:
    """The GPUs and their event loop, in one object: pydantic takes long to find private ones."""

    loop: asyncio.AbstractEventLoop | None = None
    gpus: list[SimulatedGPU] = field(default_factory=list)


class SimulatedEngine(ScriptedEngine):
    """Writes what `ScriptedEngine` writes, made as long as a model's texts, at the pace of GPUs.

    Attributes:
        devices: GPUs, each with the whole model; a row goes to the one that has least to do.
        slots: rows that a GPU works on at once; more of them wait.
        step_seconds: what a decode step takes without any row.
        row_seconds: what each row adds to a step.
        instruction_mean: mean length of users' texts, in tokens.
        instruction_deviation: standard deviation of these lengths; they are log-normal.
        response_mean: mean length of answers, in tokens.
        response_deviation: standard deviation of these lengths.
    """

    devices: int = Field(default=1, ge=1)
    slots: int = Field(default=USERS, ge=1)
    step_seconds: float = Field(default=STEP_SECONDS, gt=0.0)
    row_seconds: float = Field(default=ROW_SECONDS, ge=0.0)
    instruction_mean: float = Field(default=60.0, ge=1.0)
    instruction_deviation: float = Field(default=40.0, ge=0.0)
    response_mean: float = Field(default=450.0, ge=1.0)
    response_deviation: float = Field(default=300.0, ge=0.0)

    _devices: _Devices = PrivateAttr(default_factory=_Devices)

    @property
    def capacity(self) -> int:
        """Rows that all GPUs together work on at once."""
        return self.slots * self.devices

    @property
    def gpus(self) -> int:
        """The simulated GPUs."""
        return self.devices

    def length(self, prompt_ids: Sequence[int], sampling: Sampling) -> int:
        """The tokens of a completion: drawn from the request alone, cut to what it allows."""
        share = ((self._number(prompt_ids, sampling) >> 448) + 0.5) / 2**64  # what no text uses
        if prompt_ids[-1] == USER_ID:
            drawn = _log_normal(share, self.instruction_mean, self.instruction_deviation)
        else:
            drawn = _log_normal(share, self.response_mean, self.response_deviation)
        return min(max(round(drawn), 1), sampling.max_new_tokens)

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        tokens = self.length(prompt_ids, sampling)
        await self._least_busy().decode(tokens)
        return _stretched(await super()._complete(prompt_ids, sampling), tokens)

    def _least_busy(self) -> SimulatedGPU:
        devices, loop = self._devices, asyncio.get_running_loop()
        if devices.loop is not loop:
            devices.loop = loop
            devices.gpus = [
                SimulatedGPU(self.slots, self.step_seconds, self.row_seconds)
                for _ in range(self.devices)
            ]
        return min(devices.gpus, key=_rows_of)


def _log_normal(share: float, mean: float, deviation: float) -> float:
    """The value below which a share of a log-normal distribution lies."""
    variance = log(1 + (deviation / mean) ** 2)
    return exp(log(mean) - variance / 2 + variance**0.5 * _NORMAL.inv_cdf(share))


def _stretched(done: Completion, tokens: int) -> Completion:
    """The completion with its text and tokens repeated or cut to a length."""
    characters = tokens * CHARACTERS_PER_TOKEN
    times = 1 + characters // (len(done.text) + 1)
    ids = (done.token_ids * (1 + tokens // len(done.token_ids)))[:tokens]
    text = " ".join([done.text] * times)[:characters]
    return replace(done, text=text, token_ids=ids, completion_tokens=tokens)
