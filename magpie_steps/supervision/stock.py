"""How distilabel's own `Pipeline.run` is kept from hanging, where the mends do not fit.

It runs in a process of its own, whose group is ended when it is done, when it fails and when it
hangs. This way knows less than the mended one: a fault shows as a dead process, as a line in
distilabel's log or as nothing having happened for a while, and a batch that raised is lost whole.
"""

import logging
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import datasets
from distilabel.pipeline import Pipeline

from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.process_groups import kill_group

POLL_SECONDS = 0.5
LOST_BATCH = "filled with `None`"
FATAL = ("unhandled exception", "Failed to load step", "An error occurred when running global step")


def run_stock(
    pipeline: Pipeline,
    folder: Path,
    idle_timeout_seconds: float | None,
) -> dict[str, datasets.Dataset]:
    """Run a pipeline as it is; returns the datasets by distilabel's names for the leaf steps.

    Args:
        pipeline: the pipeline, its runtime parameters set.
        folder: where it may write, new and empty.
        idle_timeout_seconds: how long nothing may happen; `None` for ever.

    Raises:
        PipelineRunError: it failed, lost a batch, or nothing happened for too long.
    """
    ours, theirs = mp.get_context("fork").Pipe()
    process = mp.get_context("fork").Process(
        target=_child, args=(pipeline, folder, theirs, os.getpid(), ours.close)
    )
    process.start()
    theirs.close()
    try:
        lost = _watch(ours, idle_timeout_seconds)
    finally:
        kill_group(process.pid)
        process.kill()
        process.join()
        ours.close()
    if lost:
        raise PipelineRunError(f"{len(lost)} batch(es) failed and hold nothing but None: {lost[0]}")
    return {path.name: datasets.load_from_disk(str(path)) for path in _saved(folder).iterdir()}


def _watch(reports: "Connection[Any, Any]", idle_timeout_seconds: float | None) -> list[str]:
    lost: list[str] = []
    while reports.poll(idle_timeout_seconds):
        try:
            kind, text = reports.recv()
        except EOFError:
            raise PipelineRunError("the pipeline's process died") from None
        if kind == "done":
            return lost
        if kind == "failed":
            raise PipelineRunError(f"the pipeline failed: {text}")
        if kind == "lost":
            lost.append(text)
    raise PipelineRunError(
        f"no step has finished a batch for {idle_timeout_seconds:.0f} s; if they need that long,"
        " pass a larger idle_timeout_seconds"
    )


def _saved(folder: Path) -> Path:
    return folder / "saved"


# In the child


def _child(
    pipeline: Pipeline,
    folder: Path,
    reports: "Connection[Any, Any]",
    parent: int,
    close_other_end: Callable[[], object],
) -> None:
    close_other_end()
    os.setpgid(0, 0)
    mp.current_process().name = "MainProcess"  # or distilabel would not set its logging up
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    pipeline._cache_dir = folder  # not shared with any other run: nothing stale in it
    threading.Thread(target=_observe, args=(pipeline, reports, parent), daemon=True).start()
    try:
        distiset = pipeline.run(use_cache=False, logging_handlers=[_LogWatch(reports)])
        for name, splits in distiset.items():
            splits["train"].save_to_disk(str(_saved(folder) / name))
        reports.send(("done", ""))
    except BaseException as error:
        reports.send(("failed", f"{type(error).__name__}: {error}"))
        raise


def _observe(pipeline: Pipeline, reports: "Connection[Any, Any]", parent: int) -> None:
    """Report progress and dead processes; leave with the parent."""
    seen, processes = "", dict[int, Any]()
    while os.getppid() == parent:
        if (now := _progress(pipeline)) != seen:
            seen = now
            reports.send(("progress", now))
        for process in getattr(getattr(pipeline, "_pool", None), "_pool", None) or []:
            processes.setdefault(process.pid, process)
        for pid, process in processes.items():
            if process.exitcode not in (None, 0, -signal.SIGTERM):
                text = f"the process {pid} of a step died with exit code {process.exitcode}"
                reports.send(("failed", text))
        time.sleep(POLL_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _progress(pipeline: Pipeline) -> str:
    manager = getattr(pipeline, "_batch_manager", None)
    batches = sum(map(len, manager._received_batch_seq_nos.values())) if manager else 0
    return f"{batches} {getattr(pipeline, '_steps_load_status', '')}"


class _LogWatch(logging.Handler):
    """Reads in distilabel's log what distilabel tells nobody else."""

    def __init__(self, reports: "Connection[Any, Any]") -> None:
        super().__init__(logging.WARNING)
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if LOST_BATCH in text:
            self._reports.send(("lost", text))
        if any(words in text for words in FATAL):
            self._reports.send(("failed", text))
