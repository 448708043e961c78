"""What does a dataset take, by what a small run of the same job took?

Work is taken to grow with the rows. That holds for tokens, for the engines' time and for disk; what
a run needs once, such as loading models, is counted as often as the small run fits into the large
one, so the plan's last stage is the most that it can be.
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from magpie_steps.capacity import Plan, Stage, check, shards_for

REPLAYED_SHARE = 0.05
"""How much of a run may be of an earlier one; it took no time, so it was not measured."""

AGAIN = "run the job again"

SMALLEST = 20
"""Rows of the smallest run that says something."""


def plan_from_run(folder: Path, rows: int, gpus: int) -> Plan:
    """Return what a dataset takes, from the output folder of a small run.

    Args:
        folder: The output folder; the work folder beside it counts for the disk.
        rows: Rows to generate, at least 1.
        gpus: GPUs, at least 1. If the small run had none, so many machines like its own.

    Raises:
        ValueError: If the folder is no run's output, or the run measured too little.
        OSError: If a file cannot be read.
    """
    check(num_rows=rows, gpus=gpus)
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no run.json, so it is no run's output; give one that is")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is no JSON ({error}); run the job again") from None
    return _plan(folder, record, rows, gpus)


def _plan(folder: Path, record: Any, rows: int, gpus: int) -> Plan:
    done = _number(record, "counts", "generated", above=0.0)
    _check_measured(folder, record, done)
    times = rows / done
    seconds = _number(record, "effort", "seconds", above=0.0)
    held = round(_number(record, "effort", "gpu_seconds") / seconds)
    faster = gpus / max(held, 1)
    source = f"measured: {done:,.0f} rows in {folder.name}"
    amounts = {
        name: round(times * _number(record, "effort", name))
        for name in ("completions", "prompt_tokens", "completion_tokens")
    }
    stages = [*_engines(record, times, faster, source)]
    rest = max(seconds - sum(_number(each, "seconds") for each in _engines_of(record)), 0.0)
    stages.append(
        Stage(
            "everything else",
            rest * held * times / 3600,
            _number(record, "effort", "cpu_seconds") * times / 3600,
            rest * times / faster / 3600,
            f"{source}, at most: what is needed once is counted {times:,.1f} times",
        )
    )
    per_second = rows / (sum(stage.wall_hours for stage in stages) * 3600)
    work = folder.with_name(f"{folder.name}.work")
    return Plan(
        model=str(record.get("model", "")),
        rows=rows,
        gpus=gpus,
        stages=stages,
        amounts=amounts,
        dataset_bytes=round(times * _bytes(folder, "*.parquet")),
        work_bytes=round(times * _bytes(work, "*")),
        shards=shards_for(per_second),
        disk_source=source,
    )


def _check_measured(folder: Path, record: Any, done: float) -> None:
    """Refuse a run that is too small to tell, or that did little itself."""
    if done < SMALLEST:
        raise ValueError(
            f"the run in {folder} has {done:,.0f} rows, too few to plan from; give one of at least"
            f" {SMALLEST}"
        )
    own = _number(record, "completions", "generated")
    replayed = _number(record, "completions", "replayed")
    if not own or replayed > REPLAYED_SHARE * (own + replayed):
        raise ValueError(
            f"the run in {folder} generated {own:,.0f} completions and took {replayed:,.0f} from an"
            " earlier one, so it does not say what they cost; run the job in a new folder"
        )


def _engines(record: Any, times: float, faster: float, source: str) -> Sequence[Stage]:
    """Return a stage for each engine, in the order in which they ended."""
    return [
        Stage(
            f"engine {number}: {each.get('model', '')}",
            _number(each, "seconds") * _number(each, "gpus") * times / 3600,
            0.0,
            _number(each, "seconds") * times / faster / 3600,
            source,
        )
        for number, each in enumerate(_engines_of(record), 1)
    ]


def _engines_of(record: Any) -> list[Any]:
    found = record.get("engines")
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise ValueError(f"the run.json says {found!r} where a run writes its engines; {AGAIN}")
    return found


def _number(record: Any, *names: str, above: float = -1.0) -> float:
    """Return a number in a record, which has to be there and above another."""
    found = record
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or not isfinite(found) or found <= above:
        said = f"the run.json says {found!r} where a run writes its {' '.join(names)}"
        raise ValueError(f"{said}; {AGAIN}")
    return float(found)


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())
