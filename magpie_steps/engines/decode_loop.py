"""Who gets which slot, and when is a row done?"""

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.drawing import DrawSettings, constrain, draw
from magpie_steps.engines.runner import ModelRunner

JOIN_SECONDS = 60.0
"""How long `stop` waits for the step under way."""

GATHER_ROWS = 8
GATHER_STEPS = 4
"""While most slots are busy, waiting rows are taken when there are this many of them or after this
many
steps: prompts computed together cost less, and it does not change their tokens."""

Decode = Callable[[Sequence[int]], str]


@dataclass(slots=True, eq=False)
class _Row:
    prompt_ids: Sequence[int]
    sampling: Sampling
    future: "asyncio.Future[Completion]"
    stop_ids: frozenset[int]
    tail: int  # how many last tokens may hold a stop string; 0 without stop strings
    constrained: bool  # settled once: it is asked at every token
    token_ids: list[int] = field(default_factory=list)
    cached: int = 0  # positions of the prompt that had been computed before

    @property
    def length(self) -> int:
        """Positions in the cache: all but the newest token, which the next step feeds."""
        return len(self.prompt_ids) + len(self.token_ids) - 1


class DecodeLoop:
    """A thread that owns a model and continues many rows at once (continuous batching).

    Every step decodes one token for each row in a slot. A row that is done leaves its slot at once,
    and the next waiting row takes it. There is no batch to wait for.

    Args:
        runner: the model with its cache.
        max_rows: slots.
        end_ids: the model's own end tokens.
        decode: token ids to text, special tokens kept.
    """

    def __init__(
        self, runner: ModelRunner, *, max_rows: int, end_ids: frozenset[int], decode: Decode
    ) -> None:
        self._runner = runner
        self.max_rows = max_rows
        self._end_ids = end_ids
        self._decode = decode
        self._changed = threading.Condition()
        self._waiting: deque[_Row] = deque()
        self._stopping = False
        self._patience = GATHER_STEPS
        self._rows: list[_Row | None] = []
        self._joining: list[_Row] = []
        self._settings = DrawSettings.greedy(0)
        self._done: dict[asyncio.AbstractEventLoop, list[tuple[_Row, Completion | Exception]]] = {}
        self._thread = threading.Thread(target=self._run, name="magpie-steps-decode", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        atexit.register(self.stop)  # a thread inside torch must not outlive the interpreter
        self._thread.start()

    def stop(self) -> None:
        """End the thread; rows that are not done fail."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)
        atexit.unregister(self.stop)

    async def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt; cancelling the task frees its slot."""
        stop_ids = self._end_ids.union(sampling.stop_token_ids)
        tail = max((len(text.encode()) for text in sampling.stop_strings), default=-4) + 4
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._stopping or not self._thread.is_alive():
                raise RuntimeError("the engine is not running: call load() before complete()")
            constrained = bool(sampling.constraints)
            self._waiting.append(_Row(prompt_ids, sampling, future, stop_ids, tail, constrained))
            self._changed.notify()
        return await future

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._wait_for_work():
                    try:
                        self._admit()
                        self._step()
                    except Exception as exc:  # noqa: BLE001 - told to every row that it hit
                        self._fail_all(exc)
                        self._runner.reset()
                    self._deliver()
        finally:
            with self._changed:
                self._stopping = True
                self._fail_all(RuntimeError("the engine was unloaded before this row was done"))
                for row in self._waiting:
                    self._finish(row, RuntimeError("the engine was unloaded before this row began"))
                self._waiting.clear()
            self._deliver()

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._stopping and not self._waiting and not any(self._rows):
                self._changed.wait()
            return not self._stopping

    def _admit(self) -> None:
        """Give free slots to waiting rows and compute their prompts."""
        for slot, row in enumerate(self._rows):
            if row is not None and row.future.cancelled():
                self._rows[slot] = None
        active = sum(row is not None for row in self._rows)
        if self._worth_waiting(active):
            return
        free = self.max_rows - active
        with self._changed:
            fresh: list[_Row] = []
            while self._waiting and len(fresh) < free:
                row = self._waiting.popleft()
                if not row.future.cancelled():
                    fresh.append(row)
        if not fresh:
            return
        self._joining = fresh
        slots = self._place(fresh)
        known = self._runner.prefill(
            [(slot, row.prompt_ids[:-1]) for slot, row in zip(slots, fresh, strict=True)]
        )
        for row, cached in zip(fresh, known, strict=True):
            row.cached = cached
        self._joining = []

    def _worth_waiting(self, active: int) -> bool:
        """Whether to leave a few slots idle for some steps, to compute several prompts at once."""
        if self._patience and active * 4 >= self.max_rows * 3 and len(self._waiting) < GATHER_ROWS:
            self._patience -= 1
            return True
        self._patience = GATHER_STEPS
        return False

    def _place(self, fresh: list[_Row]) -> list[int]:
        holes = [slot for slot, row in enumerate(self._rows) if row is None]
        slots = [*holes, *range(len(self._rows), len(self._rows) + len(fresh))][: len(fresh)]
        self._resize(max(max(slots) + 1, len(self._rows)))
        for slot, row in zip(slots, fresh, strict=True):
            self._rows[slot] = row
            self._set(slot, row.sampling)
        longest = max(len(row.prompt_ids) for row in fresh)
        self._runner.reserve(len(self._rows), longest + 1)
        return slots

    def _set(self, slot: int, sampling: Sampling) -> None:
        settings = self._settings
        settings.temperature[slot] = sampling.temperature
        settings.top_p[slot] = sampling.top_p
        settings.top_k[slot] = sampling.top_k
        settings.min_p[slot] = sampling.min_p
        settings.seed[slot] = sampling.seed
        settings.step[slot] = 0

    def _resize(self, rows: int) -> None:
        """Bring the slots to a whole batch that holds so many rows."""
        size = self._runner.batch_size_for(rows)
        if size > len(self._rows):
            old, self._settings = self._settings, DrawSettings.greedy(size)
            for slot in range(len(self._rows)):
                self._settings.take(slot, old, slot)
            self._rows.extend([None] * (size - len(self._rows)))

    def _shrink(self) -> None:
        """Use a smaller batch when the rows fit into one, moving the last rows to the front."""
        used = [slot for slot, row in enumerate(self._rows) if row is not None]
        size = self._runner.batch_size_for(max(len(used), 1))
        if size >= len(self._rows):
            return
        holes = [slot for slot in range(size) if self._rows[slot] is None]
        for target, source in zip(holes, [slot for slot in used if slot >= size], strict=False):
            row = self._rows[source]
            assert row is not None
            self._runner.move(source, target, row.length)
            self._settings.take(target, self._settings, source)
            self._rows[target] = row
        del self._rows[size:]
        self._settings = self._settings.head(size)

    def _step(self) -> None:
        self._shrink()
        active = [(slot, row) for slot, row in enumerate(self._rows) if row is not None]
        if not active:
            self._rows.clear()
            return
        tokens = np.zeros(len(self._rows), np.int64)
        positions = np.zeros(len(self._rows), np.int64)
        for slot, row in active:
            tokens[slot] = row.token_ids[-1] if row.token_ids else row.prompt_ids[-1]
            positions[slot] = row.length
        longest = int(positions.max()) + 1
        self._runner.reserve(len(self._rows), longest)
        logits = self._runner.decode(tokens, positions, longest)
        for slot, row in active:
            if row.constrained:
                constrain(logits[slot], row.sampling, first=not row.token_ids)
        chosen = draw(logits, self._settings).tolist()
        self._settings.step += np.uint64(1)
        for slot, row in active:
            outcome = self._take(row, chosen[slot])
            if outcome is not None:
                self._rows[slot] = None
                self._settings.temperature[slot] = 0
                self._finish(row, outcome)

    def _take(self, row: _Row, token: int) -> Completion | Exception | None:
        """Add a token to a row; what became of the row when it is done."""
        if token < 0 and row.constrained:
            return RuntimeError(
                f"no token may come: {', '.join(row.sampling.constraints)} of the sampling ban all"
            )
        if token < 0:
            return RuntimeError(
                "the model's logits are not finite for this row; try dtype='float32' or check the"
                " weights"
            )
        row.token_ids.append(token)
        if token in row.stop_ids:
            return self._complete(row, self._decode(row.token_ids[:-1]), token)
        if row.tail:
            tail = self._decode(row.token_ids[-row.tail :])
            if any(text in tail for text in row.sampling.stop_strings):
                text = self._decode(row.token_ids)
                found = [(text.find(stop), stop) for stop in row.sampling.stop_strings]
                found = [each for each in found if each[0] >= 0]
                if found:
                    place, stop = min(found)
                    return self._complete(row, text[:place], stop)
        if len(row.token_ids) >= row.sampling.max_new_tokens:
            return self._complete(row, self._decode(row.token_ids), None)
        return None

    def _complete(self, row: _Row, text: str, stop: int | str | None) -> Completion:
        return Completion(
            text=text,
            token_ids=tuple(row.token_ids),
            finish_reason="length" if stop is None else "stop",
            stop_reason=stop,
            prompt_tokens=len(row.prompt_ids),
            completion_tokens=len(row.token_ids),
            cached_tokens=row.cached,
        )

    def _fail_all(self, error: Exception) -> None:
        for row in {*self._rows, *self._joining} - {None}:
            assert row is not None
            self._finish(row, error)
        self._rows.clear()
        self._joining = []
        self._settings = DrawSettings.greedy(0)

    def _finish(self, row: _Row, outcome: Completion | Exception) -> None:
        self._done.setdefault(row.future.get_loop(), []).append((row, outcome))

    def _deliver(self) -> None:
        done, self._done = self._done, {}
        for loop, outcomes in done.items():
            try:
                loop.call_soon_threadsafe(_resolve, outcomes)
            except RuntimeError:  # that loop was closed: nobody waits any more
                continue


def _resolve(outcomes: list[tuple[_Row, Completion | Exception]]) -> None:
    for row, outcome in outcomes:
        if row.future.done():
            continue
        if isinstance(outcome, Exception):
            # One error object may go to many rows: each raises its own.
            error = RuntimeError(f"generation failed: {outcome}")
            error.__cause__ = outcome
            row.future.set_exception(error)
        else:
            row.future.set_result(outcome)
