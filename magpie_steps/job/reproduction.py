"""How can a reader make the same rows again?"""

import argparse
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

ANY_SERVER = "http://localhost:8000/v1"
"""What stands for a server's address, which is nobody else's business and of no use to them."""


def command_line(
    script: str,
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    *,
    without: Collection[str],
) -> str:
    """Return the command with what the rows depend on: the flags that differ from their defaults.

    Args:
        script: The script's path.
        parser: The script's parser.
        args: What it was asked for.
        without: Flags that the rows do not depend on, by their names in `args`.
    """
    words = ["python", script]
    for name, value in vars(args).items():
        if name in without or value == parser.get_default(name):
            continue
        flag = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            words += [flag] if each is True else [flag, _anywhere(name, str(each))]
    return shlex.join(words)


def pipeline_yaml(pipeline: "Pipeline", places: Mapping[str, str]) -> str:
    """Return a pipeline in YAML, as distilabel reads it, without places of this machine.

    Args:
        pipeline: The pipeline.
        places: What to write for texts that are places: folders of models, the work folder.
    """
    return yaml.safe_dump(_portable(pipeline.dump(), places), sort_keys=False, allow_unicode=True)


def _anywhere(name: str, value: str) -> str:
    """Return a flag's value without a place of this machine."""
    if name == "base_url":
        return ANY_SERVER
    if name.endswith("_kwargs") or name == "shard":
        return value
    path = Path(value).expanduser()
    return path.name if path.exists() else value


def _portable(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: [ANY_SERVER for _ in inner] if name == "base_urls" else _portable(inner, places)
            for name, inner in value.items()
            # What can be set at run time, in words: half of the file, and not needed to read it.
            if name != "runtime_parameters_info"
        }
    if isinstance(value, list):
        return [_portable(each, places) for each in value]
    return places.get(value, value) if isinstance(value, str) else value
