"""Which output folders are the shards of one run?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magpie_steps.merging.pipelines import step_named
from magpie_steps.repository import DEFAULT
from magpie_steps.run_shard import Shard
from magpie_steps.shards import read_json, shard_files

AGAIN = "run that shard again with the settings, models and versions of the others"

SHOWN_DIFFERENCES = 5
"""Differences that an error names; the first ones usually explain the others."""

SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Part:
    """A shard's output folder.

    Attributes:
        folder: The folder.
        shard: Which shard it is.
        record: What its ``run.json`` says.
        pipeline: Its pipeline in YAML, "" if the folder has none.
        files: The parquet files of its default configuration, in order.
    """

    folder: Path
    shard: Shard
    record: Mapping[str, Any]
    pipeline: str
    files: Sequence[Path]


def read_parts(folders: Sequence[Path]) -> list[Part]:
    """Return the shards in these folders, in the order of their rows.

    Args:
        folders: The output folders of runs with ``--shard``, in any order.

    Raises:
        ValueError: If one is no shard's, they are not of one run, or some are missing or there
            twice; the message says which and what differs.
        OSError: If a file cannot be read.
    """
    parts = sorted(map(_part, folders), key=lambda part: part.shard.number)
    differing = [each for part in parts[1:] for each in _differences(parts[0], part)]
    if differing:
        more = len(differing) - SHOWN_DIFFERENCES
        shown = [*differing[:SHOWN_DIFFERENCES], *([f"{more} more"] if more > 0 else [])]
        raise ValueError(f"these are not shards of one run: {'; '.join(shown)}; {AGAIN}")
    _check_complete(parts)
    return parts


def _part(folder: Path) -> Part:
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} has no run.json, so it is no run's output; give the output folders of runs"
            " with --shard"
        )
    try:
        record = read_json(path, "run that shard again")
        settings = record["settings"]
        if "shard" not in settings:
            raise ValueError(
                f"{folder} is no shard: its run had no --shard; give the output folders of runs"
                " with --shard"
            )
        shard = _shard(path, settings["shard"], settings["num_rows"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not say what a run writes there: {error!r}; run that shard again"
        ) from None
    yaml = folder / "pipeline.yaml"
    pipeline = yaml.read_text(encoding="utf-8") if yaml.is_file() else ""
    return Part(folder, shard, record, pipeline, shard_files(folder / DEFAULT))


def _shard(path: Path, text: str, all_rows: int) -> Shard:
    if type(all_rows) is not int:
        raise TypeError(f"num_rows is {all_rows!r}")
    try:
        return Shard.parsed(text, all_rows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _differences(first: Part, other: Part) -> Iterator[str]:
    """Yield what two records say differently of what all shards must have in common."""
    one, two = (dict(_compared(part)) for part in (first, other))
    for name in dict.fromkeys([*one, *two]):
        if one.get(name) != two.get(name):
            values = (_short(one.get(name)), _short(two.get(name)))
            yield f"{name} is {values[0]} in {first.folder} and {values[1]} in {other.folder}"


def _compared(part: Part) -> Iterator[tuple[str, Any]]:
    record = part.record
    settings, versions = record.get("settings"), record.get("versions")
    for name, value in (settings if isinstance(settings, Mapping) else {}).items():
        # How many shards there are is said of all of them.
        yield ("shards", str(value).partition("/")[2]) if name == "shard" else (name, value)
    for name, value in (versions if isinstance(versions, Mapping) else {}).items():
        yield f"the version of {name}", value
    for name in ("models", "recipe", "system_prompts", "license"):
        yield name, record.get(name)
    yield "decontaminate", step_named(part.pipeline, "Decontaminate").get("paths")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _check_complete(parts: Sequence[Part]) -> None:
    """Refuse shards that are there twice or not at all."""
    folders: dict[int, Path] = {}
    for part in parts:
        if part.shard.number in folders:
            raise ValueError(
                f"the shard {part.shard} is there twice, in {folders[part.shard.number]} and in"
                f" {part.folder}; give each shard once"
            )
        folders[part.shard.number] = part.folder
    count = parts[0].shard.count
    if missing := [f"{number}/{count}" for number in range(count) if number not in folders]:
        raise ValueError(
            f"the shards {', '.join(missing[:SHOWN_DIFFERENCES])}"
            f"{' and more' if len(missing) > SHOWN_DIFFERENCES else ''} are missing"
            f" ({len(missing)} of {count}); give the output folders of all shards"
        )
