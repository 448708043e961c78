"""How one step turns its input batches into output batches, whatever its `process` does.

`SafeStepWrapper` is distilabel 1.5.3's `_StepWrapper` with its two loops rewritten:

- every yield of `process` counts, not only the first one;
- a batch that raises is tried again row by row, so that only the rows at fault fail. They travel
  on, marked, with empty columns; later steps leave them alone. A row whose every new column is
  `None` counts as one that raised: distilabel's own tasks give that for an answer they did not get;
- a generator may end without having flagged its last batch; an empty last batch flags the end;
- an `unload()` that raises is a warning, unless completions are lost with it.
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from distilabel.constants import LAST_BATCH_SENT_FLAG
from distilabel.exceptions import DistilabelOfflineBatchGenerationNotFinishedException
from distilabel.pipeline.step_wrapper import _StepWrapper

from magpie_steps.engines.base import EngineLostError
from magpie_steps.engines.journal import JournalError
from magpie_steps.supervision.messages import (
    FAILED_ROW,
    NOTE,
    Channel,
    Failure,
    Note,
    StepInputQueue,
    StepLoadQueue,
    StepOutputQueue,
)

MAX_FAILURES_IN_A_ROW = 20
"""A step that fails on this many single rows one after the other is broken: the run ends."""

MODEL_NAME = "model_name"
"""The column in which distilabel's tasks name their model, also for a row without an answer."""

ENDED = (None, LAST_BATCH_SENT_FLAG)
"""What comes instead of a batch when there will be none; also to a generator that was started again
after its last one."""

Row = dict[str, Any]
Rows = list[Row]


class StepFailed(Exception):
    """A step cannot go on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


class SafeStepWrapper(_StepWrapper):
    """Runs one replica of a step in its process, from `load()` to `unload()`."""

    def __init__(self, step: Any, replica: int, channel: Channel) -> None:
        super().__init__(
            step=step,
            replica=replica,
            input_queue=StepInputQueue(channel),
            output_queue=StepOutputQueue(channel),
            load_queue=StepLoadQueue(channel),
        )
        self.channel = channel

    def run(self) -> str:
        """Load the step, run its loop, unload it; returns its name.

        Raises:
            StepFailed: the step cannot go on.
        """
        try:
            self._load()
            if self.step.is_generator:
                self._generator_step_process_loop()
            else:
                self._non_generator_process_loop()
        except BaseException:
            with suppress(StepFailed):  # the first error is the one to tell
                self._unload()
            raise
        self._unload()
        self._notify_unload()
        return str(self.step.name)

    def _load(self) -> None:
        try:
            self.step.load()
        except Exception as error:
            raise _failed("load", error) from error
        self._notify_load()

    def _unload(self) -> None:
        try:
            self.step.unload()
        except (EngineLostError, JournalError) as error:
            raise _failed("process", error) from error
        except Exception as error:  # noqa: BLE001 - the rows are done, nothing is lost
            self._note(f"unload() raised {_short(error)}")

    def _note(self, text: str, failed_rows: int = 0) -> None:
        self.channel.send(NOTE, Note(text, failed_rows))

    def _generator_step_process_loop(self) -> None:
        batch = self.input_queue.get()
        if batch in ENDED:
            return
        try:
            offset = batch.seq_no * self.step.batch_size
            for rows, last in self.step.process_applying_mappings(offset=offset):
                self._send(batch, rows, last)
                if last or (batch := self.input_queue.get()) in ENDED:
                    return
        except StepFailed:
            raise
        except Exception as error:
            raise _failed("process", error) from error
        self._note("ended without flagging a last batch; its end was taken as the last batch")
        self._send(batch, [], True)

    def _non_generator_process_loop(self) -> None:
        while True:
            batch = self.input_queue.get()
            if batch in ENDED:
                return
            self._send(batch, self._process(batch.data), batch.last_batch)
            if batch.last_batch:
                return

    def _send(self, batch: Any, rows: Rows, last: bool) -> None:
        batch.data = [rows]
        batch.size = len(rows)
        batch.last_batch = bool(last)
        try:
            self.output_queue.put(batch)
        except Exception as error:
            raise _failed("process", error, "the rows cannot be sent on") from error

    def _process(self, data: Sequence[Rows]) -> Rows:
        if self.step.is_global or len(data) == 1:
            return self._process_marked(data)
        lengths = [len(rows) for rows in data]
        if len(set(lengths)) > 1:
            raise _failed(
                "process",
                ValueError(f"joins branches by position, but they bring {lengths} rows"),
            )
        return self._process_marked(data)

    def _process_marked(self, data: Sequence[Rows]) -> Rows:
        """Process the rows that have not failed before, put the others back in their places."""
        if self.step.is_global and len(data) > 1:
            held = {}
            whole = [[row for row in rows if FAILED_ROW not in row] for rows in data]
            lost: Rows = [row for row in data[0] if FAILED_ROW in row]
        else:
            items = list(zip(*data, strict=True))
            held = {i: _join(item) for i, item in enumerate(items) if _is_marked(item)}
            whole = [[row for row in rows if FAILED_ROW not in row] for rows in data]
            if held and len(data) > 1:
                kept = [item for i, item in enumerate(items) if i not in held]
                whole = [list(column) for column in zip(*kept, strict=True)] or [[] for _ in data]
            lost = []
        done = self._process_whole(whole) if any(whole) else []
        if held and len(done) != len(whole[0]):
            lost, held = list(held.values()), {}
        return [*_merge(done, self._impute(held)), *self.step.impute_step_outputs(lost)]

    def _impute(self, held: dict[int, Row]) -> dict[int, Row]:
        imputed = self.step.impute_step_outputs(list(held.values()))
        return dict(zip(held, imputed, strict=True))

    def _process_whole(self, data: Sequence[Rows]) -> Rows:
        try:
            return self._call(data)
        except DistilabelOfflineBatchGenerationNotFinishedException as error:
            raise _failed("process", error, "its answers are not ready yet; run again") from error
        except EngineLostError as error:
            raise _failed("process", error) from error
        except Exception as error:
            if self.step.is_global or not data[0]:
                raise _failed("process", error) from error
            return self._process_row_by_row(data, error)

    def _call(self, data: Sequence[Rows]) -> Rows:
        # Steps write into their input rows; a second attempt must start from clean ones.
        copies = [[dict(row) for row in rows] for rows in data]
        parts: list[Rows] = list(self.step.process_applying_mappings(*copies))
        if not parts:
            raise RuntimeError("process() yielded nothing; it must yield a list of rows")
        rows = parts[0] if len(parts) == 1 else [row for part in parts for row in part]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("process() must yield a list of dictionaries")
        self._check_not_empty(rows)
        return rows

    def _check_not_empty(self, rows: Rows) -> None:
        new = set(self.step.get_outputs()) - set(self.step.get_inputs()) - {MODEL_NAME}
        if self.step.is_global or not new:
            return
        for row in rows:
            if all(row.get(name) is None for name in new):
                names = ", ".join(sorted(new))
                raise ValueError(f"process() gave None for a row's {names}, and no reason")

    def _process_row_by_row(self, data: Sequence[Rows], first_error: Exception) -> Rows:
        done: Rows = []
        failed = in_a_row = 0
        example: Exception = first_error
        for item in zip(*data, strict=True):
            try:
                done.extend(self._call([[row] for row in item]))
                in_a_row = 0
            except EngineLostError as error:
                raise _failed("process", error) from error
            except Exception as error:
                failed, in_a_row, example = failed + 1, in_a_row + 1, error
                if in_a_row >= MAX_FAILURES_IN_A_ROW:
                    raise _failed(
                        "process", error, f"{in_a_row} rows one after the other failed"
                    ) from error
                marked = {**_join(item), FAILED_ROW: f"{self.step.name}: {_short(error)}"}
                done.extend(self.step.impute_step_outputs([marked]))
        if failed:
            self._note(_short(example), failed_rows=failed)
        else:
            self._note(f"a batch raised {_short(first_error)}; each of its rows alone did not")
        return done


def _failed(phase: Any, error: Exception, why: str = "") -> StepFailed:
    text = "".join(traceback.format_exception(error))
    return StepFailed(Failure(phase, f"{why}: {_short(error)}" if why else _short(error), text))


def _short(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_marked(item: Sequence[Row]) -> bool:
    return any(FAILED_ROW in row for row in item)


def _join(item: Sequence[Row]) -> Row:
    return {key: value for row in item for key, value in row.items()}


def _merge(done: Rows, held: dict[int, Row]) -> Iterator[Row]:
    """The rows of `done` in order, with each held row back at its index."""
    rest = iter(done)
    for index in range(len(done) + len(held)):
        yield held[index] if index in held else next(rest)
