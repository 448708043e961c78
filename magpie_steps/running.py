"""How a pipeline is run so that it ends with every row or with one clear error.

distilabel 1.5.3's own `Pipeline.run` can hang (a dead worker, a raising generator, an empty last
batch ...), turn a batch into `None` without a word, and return another run's rows from its cache.
`run_pipeline` runs the same pipeline, steps and row flow without these traps:

- each step runs in a process that is watched; whatever ends it early ends the run with an error;
- a batch that raises is tried again row by row; rows that still fail are counted and raise in the
  end;
- no cache of distilabel's is read or written. Finished model answers are kept in the engines'
  journal (`work_dir/journal.sqlite`): the same call after a crash asks only for what is missing;
- no network call of its own, no signal handler left behind, no process that outlives the run.

With `ray=` the steps' processes run on a Ray cluster instead (`magpie_steps.cluster`); rows, errors
and the journal are the same.

A step reports progress with `self._logger.info(...)`: the record arrives in the calling process at
the logger `distilabel.step.<step name>`. Where that has no handler, it is printed to standard
error; distilabel itself is heard from WARNING up.
"""

import json
import logging
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import distilabel
from distilabel.constants import STEP_ATTR_NAME
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline
from distilabel.pipeline.ray import RayPipeline

from magpie_steps import compat
from magpie_steps.engines.journal import JournalError
from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.folder_lock import locked
from magpie_steps.supervision.messages import Note
from magpie_steps.supervision.places import Place, engines_of
from magpie_steps.supervision.preflight import check_picklable
from magpie_steps.supervision.processes import ForkLauncher
from magpie_steps.supervision.row_files import ColumnTypeError, LeafWriter, read_rows
from magpie_steps.supervision.run_key import run_key
from magpie_steps.supervision.stock import run_stock
from magpie_steps.supervision.stop_signs import termination_noticed

__all__ = ["DEFAULT_IDLE_TIMEOUT_SECONDS", "PipelineRunError", "RunResult", "run_pipeline"]

DEFAULT_IDLE_TIMEOUT_SECONDS = 3600.0
"""A batch of a large model may well take half an hour; an hour without a sign is a hang."""

JOURNAL_NAME = "journal.sqlite"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run produced.

    Attributes:
        datasets: the rows by leaf step, in the order in which the first step made them. They are
            memory-mapped from `work_dir`: the next run in the same folder replaces the files.
        seconds: wall-clock time of the run, from the call to the datasets.
        cpu_seconds: processor time of all its processes together.
        failed_rows: by step, the rows it failed on; they are in the datasets, empty in the columns
            of that step and of those after it.
        notes: by step, what went wrong without costing a row.
        from_cache: whether these are an earlier identical run's rows.
    """

    datasets: Mapping[str, datasets.Dataset]
    seconds: float
    failed_rows: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    from_cache: bool = False
    cpu_seconds: float = 0.0

    @property
    def dataset(self) -> Any:
        """The only leaf step's dataset; a dict of datasets by leaf step if there are several."""
        if len(self.datasets) == 1:
            return next(iter(self.datasets.values()))
        return dict(self.datasets)

    @property
    def rows(self) -> int:
        """Rows of all leaf steps together."""
        return sum(len(dataset) for dataset in self.datasets.values())


def run_pipeline(
    pipeline: Pipeline | RayPipeline,
    *,
    work_dir: Path | str,
    expected_rows: int | None = None,
    idle_timeout_seconds: float | None = DEFAULT_IDLE_TIMEOUT_SECONDS,
    use_cache: bool = False,
    parameters: dict[str, dict[str, Any]] | None = None,
    ray: str | None = None,
) -> RunResult:
    """Run a pipeline to its end.

    Args:
        pipeline: a distilabel `Pipeline`, or what its `ray(address)` gives; it can be run again
            afterwards.
        work_dir: folder of the run, created if need be: the engines' journal and the rows. One run
            at a time.
        expected_rows: rows that the leaf steps must write together; `None` takes any number.
        idle_timeout_seconds: give up after this many seconds without a batch, a log line or any
            other sign from any step; `None` never does.
        use_cache: return the rows of an earlier finished run in `work_dir` that had the same
            configuration, input data and code, if there is one.
        parameters: runtime parameters by step name.
        ray: the address of a Ray cluster that the steps run on, "auto" for the one of this machine;
            "" is the one that RAY_ADDRESS names, in a submitted job that job's, else one that is
            started here for the run. None runs them on this machine, unless the pipeline is a
            `RayPipeline`.

    Returns:
        The datasets and what happened on the way.

    Raises:
        PipelineRunError: the pipeline is not valid, a step failed or died, rows failed, their
            number is not `expected_rows`, or nothing moves any more.
    """
    start, cpu_start = time.monotonic(), _cpu_seconds()
    work_dir = Path(work_dir).absolute()
    _check(pipeline, parameters or {})
    with _faults_named(work_dir), locked(work_dir), _steps_heard(), termination_noticed():
        for step in _steps(pipeline):
            for engine in engines_of(step):
                engine.use_journal(work_dir / JOURNAL_NAME)
            check_picklable(step)
        key = run_key(pipeline) if use_cache else None
        if key and (cached := _read_finished(work_dir, key)) is not None:
            result = RunResult(cached, 0.0, from_cache=True)
        else:
            address = _ray_address(pipeline) if ray is None else ray
            with _place(address, pipeline, work_dir) as place, _servers(pipeline, place):
                result = _run(pipeline, place, work_dir, key, expected_rows, idle_timeout_seconds)
            cpu_start -= place.cpu_seconds
    result = replace(
        result, seconds=time.monotonic() - start, cpu_seconds=_cpu_seconds() - cpu_start
    )
    _check_result(result, expected_rows)
    return result


def _run(
    pipeline: Pipeline | RayPipeline,
    place: Place,
    work_dir: Path,
    key: str | None,
    expected_rows: int | None,
    idle_timeout_seconds: float | None,
) -> RunResult:
    folder = _rows_folder(work_dir, key)
    shutil.rmtree(folder, ignore_errors=True)
    if not compat.is_supported():
        warnings.warn(
            f"running distilabel {distilabel.__version__} as it is, only watched: magpie_steps"
            f" mends {compat.SUPPORTED_VERSION}, on Linux",
            RuntimeWarning,
            stacklevel=3,
        )
        return RunResult(run_stock(pipeline, folder, idle_timeout_seconds), 0.0)
    with compat.mended(pipeline, folder) as safe:
        try:
            writers, notes = safe.run_watched(
                place.launcher,
                idle_timeout_seconds=idle_timeout_seconds,
                check_rows=partial(_check_not_more, expected_rows),
            )
            result = _collect(writers, notes)
        except ColumnTypeError as error:
            raise PipelineRunError(str(error)) from error
    if key and not result.failed_rows:
        _write_finished(folder, writers)
    return result


def _collect(writers: dict[str, LeafWriter], notes: dict[str, list[Note]]) -> RunResult:
    for step, remarks in notes.items():
        for text in dict.fromkeys(note.text for note in remarks):
            _logger.warning("step %r: %s", step, text)
    failed = {step: sum(note.failed_rows for note in remarks) for step, remarks in notes.items()}
    return RunResult(
        {step: read_rows(writer.finish()) for step, writer in writers.items()},
        0.0,
        {step: count for step, count in failed.items() if count},
        {step: tuple(note.text for note in remarks) for step, remarks in notes.items()},
    )


def _check(pipeline: Pipeline | RayPipeline, parameters: dict[str, dict[str, Any]]) -> None:
    """Set the runtime parameters and look at everything that needs no process."""
    if not isinstance(pipeline, Pipeline | RayPipeline):
        raise PipelineRunError(f"run_pipeline runs distilabel's Pipeline, not {pipeline!r}")
    names = list(pipeline.dag)
    if not names:
        raise PipelineRunError("the pipeline has no steps")
    if unknown := sorted(set(parameters) - set(names)):
        raise PipelineRunError(f"parameters name unknown steps {unknown}; there are {names}")
    try:
        pipeline._set_runtime_parameters(parameters)
        pipeline._set_pipeline_name()
        pipeline._validate()
    except Exception as error:
        raise PipelineRunError(
            f"the pipeline is not valid: {type(error).__name__}: {error}"
        ) from error


def _check_not_more(expected: int | None, rows: int) -> None:
    if expected is not None and rows > expected:
        raise PipelineRunError(
            f"expected {expected} rows, but the leaf steps have written {rows} and are not done"
        )


def _check_result(result: RunResult, expected: int | None) -> None:
    if failed := sum(result.failed_rows.values()):
        where = "; ".join(
            f"step {step!r} on {count}, the last with {result.notes[step][-1]}"
            for step, count in result.failed_rows.items()
        )
        raise PipelineRunError(
            f"{failed} of {result.rows} rows failed: {where}; the others are whole. Mend the cause"
            " and run again: answers in the journal are not asked for again",
            step=next(iter(result.failed_rows)),
            result=result,
        )
    if expected is not None and result.rows != expected:
        raise PipelineRunError(
            f"expected {expected} rows, but the leaf steps have written {result.rows}",
            result=result,
        )


def _steps(pipeline: Pipeline | RayPipeline) -> list[Any]:
    return [pipeline.dag.get_step(name)[STEP_ATTR_NAME] for name in pipeline.dag]


# Where the steps run


class Here:
    """This machine."""

    launcher = ForkLauncher()
    cpu_seconds = 0.0

    def servers(self, engines: list[Any]) -> AbstractContextManager[object]:
        """Start the servers that engines share, and end them."""
        from magpie_steps.engines.served import servers_for

        return servers_for(engines)


def _ray_address(pipeline: Pipeline | RayPipeline) -> str | None:
    """The cluster that a pipeline is for, None if it is for this machine."""
    return (pipeline._ray_head_node_url or "") if isinstance(pipeline, RayPipeline) else None


@contextmanager
def _place(
    address: str | None, pipeline: Pipeline | RayPipeline, work_dir: Path
) -> Iterator[Place]:
    if address is None:
        yield Here()
        return
    if not compat.is_supported():
        raise PipelineRunError(
            f"runs on Ray need distilabel {compat.SUPPORTED_VERSION} and Linux, and this is"
            f" distilabel {distilabel.__version__} on {sys.platform}; run without ray"
        )
    from magpie_steps.cluster.place import on_ray  # slow, and only for this

    options = getattr(pipeline, "_ray_init_kwargs", {})
    with on_ray(address, work_dir, JOURNAL_NAME, options) as place:
        yield place


@contextmanager
def _servers(pipeline: Pipeline | RayPipeline, place: Place) -> Iterator[None]:
    """Start the servers that the steps' engines share, and end them."""
    served = [
        engine
        for step in _steps(pipeline)
        for engine in engines_of(step)
        if hasattr(engine, "make_server")
    ]
    if not served:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(place.servers(served))
        except DistilabelUserError as error:
            raise PipelineRunError(str(error)) from error
        yield


def _cpu_seconds() -> float:
    """Processor time of this process and of those it has waited for, with all that they did."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


# Finished runs


def _rows_folder(work_dir: Path, key: str | None) -> Path:
    return work_dir / (f"rows-{key[:16]}" if key else "rows")


def _read_finished(work_dir: Path, key: str) -> dict[str, datasets.Dataset] | None:
    """The datasets of a finished run; `None` if there is none or it cannot be read."""
    folder = _rows_folder(work_dir, key)
    try:
        files = json.loads((folder / "finished.json").read_text(encoding="utf-8"))
        return {
            step: read_rows(folder / step / name for name in names) for step, names in files.items()
        }
    except FileNotFoundError:
        return None
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        _logger.warning("the finished run in %s cannot be read (%s); running again", folder, error)
        return None


def _write_finished(folder: Path, writers: dict[str, LeafWriter]) -> None:
    files = {step: [file.name for file in writer.finish()] for step, writer in writers.items()}
    draft = folder / "finished.json.draft"
    draft.write_text(json.dumps(files), encoding="utf-8")
    draft.replace(folder / "finished.json")


# The process around a run


@contextmanager
def _faults_named(work_dir: Path) -> Iterator[None]:
    """Say of a full disk or a damaged file what it means for the run."""
    try:
        yield
    except (OSError, JournalError) as error:
        raise PipelineRunError(
            f"the run in {work_dir} cannot go on: {error}; mend that and run the same again:"
            " it goes on from here"
        ) from error


@contextmanager
def _steps_heard() -> Iterator[None]:
    """Let the steps' INFO lines through, and only warnings of distilabel itself."""
    undo: list[Callable[[], object]] = []
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
            undo.append(partial(logger.setLevel, logging.NOTSET))
        if level == logging.INFO and not logger.hasHandlers():
            handler = logging.StreamHandler()
            logger.addHandler(handler)
            undo.append(partial(logger.removeHandler, handler))
    try:
        yield
    finally:
        for step_back in undo:
            step_back()


_LEVELS = {
    "distilabel": logging.WARNING,
    "distilabel.step": logging.INFO,
    "magpie_steps": logging.INFO,
}
