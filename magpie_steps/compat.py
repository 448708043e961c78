"""Mends for exactly distilabel 1.5.3, applied to one pipeline for one run.

Nothing in distilabel is replaced for anybody else: for the length of a run the pipeline object is a
`SafePipeline`, a subclass of distilabel's local `Pipeline` with these methods rewritten.

| what 1.5.3 does | what a `SafePipeline` does |
|---|---|
| has a Manager process and a pool that replaces dead workers | has one pipe per process |
| waits for ever on an empty last batch | lets it travel |
| loses rows of slower replicas before a global step, or hangs | waits for them |
| polls every 2.5 s while steps load and every 0.5 s at the end | is woken |
| rewrites its cache at every batch, used or not | writes none |
| takes columns from the first row of each 50, types from the first 50 | takes both from all |
| sends a global step's rows through parquet files | sends them as they are |
| looks up citations on the network at the end | does not |
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distilabel
from distilabel.constants import (
    INPUT_QUEUE_ATTR_NAME,
    PIPELINE_CACHE_ID_ENV_NAME,
    PIPELINE_NAME_ENV_NAME,
    STEP_ATTR_NAME,
)
from distilabel.pipeline import Pipeline
from distilabel.pipeline.base import (
    _STEP_NOT_LOADED_CODE,
    _STEP_UNLOADED_CODE,
)
from distilabel.pipeline.batch import _Batch
from distilabel.pipeline.batch_manager import _BatchManager, _BatchManagerStep
from distilabel.pipeline.ray import RayPipeline

from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.messages import Note
from magpie_steps.supervision.processes import Launcher
from magpie_steps.supervision.row_files import ColumnTypeError, LeafWriter
from magpie_steps.supervision.step_process import GRACE_SECONDS
from magpie_steps.supervision.switchboard import InputQueue, Switchboard

SUPPORTED_VERSION = "1.5.3"
"""The only release whose insides these mends know."""


def is_supported() -> bool:
    """Whether the mends are for the installed distilabel and for this system.

    They fork, which only Linux does safely once a process has threads.
    """
    return str(distilabel.__version__) == SUPPORTED_VERSION and sys.platform == "linux"


@contextmanager
def mended(pipeline: Pipeline | RayPipeline, folder: Path) -> "Iterator[SafePipeline]":
    """The pipeline as a `SafePipeline` that writes its rows under `folder`, and back again."""
    steps = [pipeline.dag.get_step(name)[STEP_ATTR_NAME] for name in pipeline.dag]
    parents = [step.pipeline for step in steps]
    before = dict(pipeline.__dict__)
    original = pipeline.__class__
    pipeline.__class__ = SafePipeline
    try:
        pipeline._folder = folder
        yield pipeline
    finally:
        pipeline.__class__ = original
        pipeline.__dict__.clear()
        pipeline.__dict__.update(before)
        for step, parent in zip(steps, parents, strict=True):
            step.pipeline = parent
            pipeline.dag.get_step(step.name).pop(INPUT_QUEUE_ATTR_NAME, None)


class SafeBatch(_Batch):
    """A batch that is not hashed as text each time rows are taken from it."""

    def _update_data_hash(self) -> None:
        return


class SafeBatchManagerStep(_BatchManagerStep):
    """Collects a step's input; an empty last batch ends it, and it ends only once."""

    last_batch_built = False

    def get_batch(self) -> Any:
        """The next batch for the step, if its rows are there."""
        if self.last_batch_built:
            return None
        batch = super().get_batch()
        self.last_batch_built = batch is not None and batch.last_batch
        return batch

    def _ready_to_create_batch_normal(self) -> bool:
        return super()._ready_to_create_batch_normal() or self._all_received()

    def _ready_to_create_batch_accumulate(self) -> bool:
        return self._all_received()

    def _last_batch_normal(self) -> bool:
        return super()._last_batch_normal() and self._all_received()

    def _all_received(self) -> bool:
        """Whether every batch of every predecessor has come, however empty the last one is."""
        return all(
            name in self.last_batch_received
            and all(
                batch.seq_no == number
                for number, batch in enumerate(batches, self.next_expected_seq_no[name][0])
            )
            for name, batches in self.data.items()
        )


class LeafWriters:
    """The writers of all leaf steps, in the place of distilabel's write buffer."""

    def __init__(self, writers: dict[str, LeafWriter], limit: Callable[[int], None]) -> None:
        self.writers = writers
        self._limit = limit

    def add_batch(self, batch: Any) -> None:
        """Take a leaf step's batch; its rows are not kept in it."""
        self.writers[batch.step_name].add(batch.seq_no, batch.data[0])
        batch.data = [[]]
        self._limit(sum(writer.rows for writer in self.writers.values()))


class SafePipeline(Pipeline):
    """distilabel's local pipeline, watched by the thread that runs it."""

    _folder: Path
    _board: Switchboard
    _writers: dict[str, LeafWriter]

    def run_watched(
        self,
        launcher: Launcher,
        *,
        idle_timeout_seconds: float | None,
        check_rows: Callable[[int], None],
    ) -> tuple[dict[str, LeafWriter], dict[str, list[Note]]]:
        """Run to the end; returns the leaf steps' writers and the steps' notes.

        Args:
            launcher: starts the steps' processes.
            idle_timeout_seconds: see `Switchboard`.
            check_rows: called with the number of rows written so far; ends the run by raising.

        Raises:
            PipelineRunError: a step failed or died, or nothing moves any more.
        """
        self._prepare()
        self._write_buffer = LeafWriters(self._writers, check_rows)
        self._loop_error: BaseException | None = None
        self._board = Switchboard(
            launcher,
            environment={
                PIPELINE_NAME_ENV_NAME: self.name,
                PIPELINE_CACHE_ID_ENV_NAME: self.signature,
            },
            idle_timeout_seconds=idle_timeout_seconds,
            on_status=self._set_status,
        )
        self._output_queue = self._board.output_queue
        loop = threading.Thread(target=self._run_loop, name="distilabel-loop", daemon=True)
        try:
            self._board.start(self.dag.get_total_replica_count())
            loop.start()
            self._board.supervise(loop)
        except (KeyboardInterrupt, SystemExit):
            self._board.drain()
            raise
        finally:
            self._board.close()
            if loop.ident is not None:
                loop.join(GRACE_SECONDS)
        if isinstance(self._loop_error, PipelineRunError | ColumnTypeError | OSError):
            raise self._loop_error
        if self._loop_error is not None:
            raise PipelineRunError(
                "distilabel could not pass a batch on:"
                f" {type(self._loop_error).__name__}: {self._loop_error}"
            ) from self._loop_error
        return self._writers, self._board.notes

    def _prepare(self) -> None:
        self._load_groups: list[list[str]] = []
        self._current_stage = 0
        self._stop_called = False
        self._steps_load_status: dict[str, int] = {}
        self._steps_input_queues: dict[str, InputQueue] = {}
        self._validate()
        self._set_pipeline_artifacts_path_in_steps()
        self._init_steps_load_status()
        self._load_stages_status(use_cache=False)
        self._batch_manager = _BatchManager.from_dag(dag=self.dag, use_cache=False)
        for step in self._batch_manager._steps.values():
            step.__class__ = SafeBatchManagerStep
        self._check_requirements()
        self._writers = {
            step: LeafWriter(step, self._folder / step) for step in sorted(self.dag.leaf_steps)
        }

    def _run_loop(self) -> None:
        try:
            self._output_queue_loop()
        except BaseException as error:  # noqa: BLE001 - raised again by the supervising thread
            self._loop_error = error
            self._board.abort()
        finally:
            self._board.wake()

    def _set_status(self, step: str, status: str) -> None:
        now = self._steps_load_status[step]
        if status == "loaded":
            self._steps_load_status[step] = 1 if now == _STEP_NOT_LOADED_CODE else now + 1
        else:
            self._steps_load_status[step] = now - 1 or _STEP_UNLOADED_CODE

    # Where the rows go

    def _process_batch(self, batch: Any, send_last_batch_flag: bool = True) -> None:
        batch.__class__ = SafeBatch
        super()._process_batch(batch, send_last_batch_flag)

    def _manage_batch_flow(self, batch: Any) -> None:
        super()._manage_batch_flow(batch)
        self._ask_generators_ahead()
        # Only now, when the next batches have been asked for: the steps work meanwhile.
        if batch.step_name in self._writers:
            self._writers[batch.step_name].write()

    def _ask_generators_ahead(self) -> None:
        """Ask for a next batch before it is needed, so that generator and steps work at once.

        Never while a batch lies unread before any step: the rows on their way stay few.
        """
        for name, queue in self._steps_input_queues.items():
            if queue.qsize() >= self.dag.get_step_replica_count(name):
                return
        for name in self.dag.root_steps:
            last = self._batch_manager.get_last_batch(name)
            if last is not None and not last.last_batch:
                self._send_batch_to_step(last.next_batch())

    def _request_more_batches_if_needed(self, step: Any) -> None:
        # Asked at each batch that a step has done, a generator runs ahead of slower steps further
        # down without end, and this process holds what they have not read.
        return

    def _is_asked(self, name: str) -> bool:
        sent = self._batch_manager.get_last_batch_sent(name)
        received = self._batch_manager.get_last_batch(name)
        return sent is not None and (received is None or sent.seq_no > received.seq_no)

    def _send_batch_to_step(self, batch: Any) -> None:
        if batch.step_name in self.dag.root_steps and self._is_asked(batch.step_name):
            return
        self._batch_manager.set_last_batch_sent(batch)
        self._send_to_step(batch.step_name, batch)

    # No cache

    @property
    def _cache_location(self) -> dict[str, Path]:
        return {"data": self._folder}

    def _cache(self) -> None:
        return

    def _register_batch(self, batch: Any) -> None:
        self._batch_manager.register_batch(batch)

    # Processes

    def _create_step_input_queue(self, step_name: str) -> InputQueue:
        queue = self._board.input_queue()
        self.dag.set_step_attr(step_name, INPUT_QUEUE_ATTR_NAME, queue)
        return queue

    def _run_steps(self, steps: Any) -> None:
        for name in steps:
            step = self.dag.get_step(name)[STEP_ATTR_NAME]
            step.pipeline = None
            for replica in range(step.resources.replicas if step.is_normal else 1):
                self._board.run_step(step, replica, self._steps_input_queues[name])

    def _run_stage_steps_and_wait(self, stage: int) -> bool:
        steps = self._steps_to_be_loaded_in_stage(stage)
        self._run_steps(steps)
        self._board.wait_until(lambda: all(self._is_loaded(name) for name in steps))
        return not self._board.aborted

    def _is_loaded(self, name: str) -> bool:
        status = self._steps_load_status[name]
        return status in (_STEP_UNLOADED_CODE, self.dag.get_step_replica_count(name))

    def _set_steps_not_loaded_exception(self) -> None:
        return  # the supervising thread knows why, and raises

    def _wait_current_stage_to_finish(self) -> None:
        # Every batch of the stage has been handed out, but idle replicas have not been told.
        self._notify_steps_to_stop()
        steps = self._get_steps_load_stages()[0][self._current_stage]
        self._board.wait_until(lambda: not any(map(self._is_step_running, steps)))

    def _finalize_pipeline_execution(self) -> None:
        if self._board.aborted:
            return
        self._notify_steps_to_stop()
        self._board.wait_until(lambda: not any(map(self._is_step_running, self.dag)))
