"""What did the run that made a dataset take, as its ``run.json`` says?"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from magpie_steps.shards import read_json
from magpie_steps.summary import duration


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took.

    Attributes:
        lines: Names and values for a table; empty without a run.
        gpu_hours_per_thousand: GPU hours for 1,000 kept rows, None if it took none.
        model: The model that wrote the rows, "" if that is not known.
    """

    lines: tuple[tuple[str, str], ...] = ()
    gpu_hours_per_thousand: float | None = None
    model: str = ""


def record_of(file: Path) -> Path | None:
    """Return the ``run.json`` of the run that made a dataset, None if there is none.

    Args:
        file: One of the dataset's parquet files, which lie in a folder of the run's output.
    """
    near = file.resolve().parents[:2]
    return next((path / "run.json" for path in near if (path / "run.json").is_file()), None)


def read_cost(path: Path) -> Cost:
    """Return what a run took.

    Args:
        path: Its ``run.json``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not JSON with an object in it.
    """
    record = read_json(path, "remove it or run the job again")
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds no JSON object; remove it or run the job again")
    return cost_of(record)


def cost_of(record: Mapping[str, Any]) -> Cost:
    """Return what a run took, by what its record says; what it does not say is left out."""
    effort, counts = _inner(record, "effort"), _inner(record, "counts")
    completions = _inner(record, "completions")
    kept = _number(counts, "kept")
    gpu = _number(effort, "gpu_seconds_per_1000_kept_rows")
    tokens = _number(effort, "completion_tokens")
    found = (
        ("completions", _count(_number(effort, "completions"))),
        ("completions taken from an earlier run", _count(_number(completions, "replayed"))),
        ("tokens generated", _count(tokens)),
        ("tokens generated per 1,000 kept rows", _count(_per_thousand(tokens, kept))),
        ("prompt tokens", _count(_number(effort, "prompt_tokens"))),
        ("prompt tokens that were cached", _share(_number(effort, "cached_share"))),
        ("time", _duration(_number(record, "seconds"))),
        ("time per 1,000 kept rows", _duration(_per_thousand(_number(record, "seconds"), kept))),
        ("CPU time per 1,000 kept rows", _duration(_cpu(effort))),
        ("GPU time per 1,000 kept rows", _duration(gpu)),
        ("rows per second", _count(_number(record, "rows_per_second"), digits=1)),
        ("tokens per second", _count(_number(effort, "tokens_per_second"), digits=1)),
        ("engines busy", _share(_number(effort, "busy_share"))),
    )
    model = record.get("model")
    return Cost(
        lines=tuple((name, value) for name, value in found if value),
        gpu_hours_per_thousand=gpu / 3600 if gpu else None,
        model=model if isinstance(model, str) else "",
    )


def _inner(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _number(record: Mapping[str, Any], name: str) -> float | None:
    found = record.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        return None
    return float(found)


def _cpu(effort: Mapping[str, Any]) -> float | None:
    return _number(effort, "cpu_seconds_per_1000_kept_rows")


def _per_thousand(value: float | None, kept: float | None) -> float | None:
    return None if value is None or not kept else 1000 * value / kept


def _count(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _duration(value: float | None) -> str:
    return "" if value is None else duration(value)
