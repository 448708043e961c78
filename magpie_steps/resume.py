"""May a run go on in this work folder?

A work folder belongs to the settings, and the release, of the run that made it, and so does the
dataset beside it. The same ones go on where the last run stopped; others are refused, because they
would replace a dataset that was not asked for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from magpie_steps import __version__
from magpie_steps.shards import read_json, remove_leftovers, write_text

FILE = "settings.json"

RELEASE = "magpie-steps"
"""The name under which a folder says which release of this package made it."""


def claim(folder: Path, settings: Mapping[str, Any], output: Path | None = None) -> bool:
    """Make a work folder these settings' own.

    Args:
        folder: The work folder; made if it does not exist.
        settings: What the rows depend on: scalars and what JSON can hold of them.
        output: Where the dataset goes. One that is there without a work folder says in its
            ``run.json`` which settings it belongs to.

    Returns:
        Whether an earlier run with the same settings was here.

    Raises:
        ValueError: If the folder belongs to other settings; the message names what differs.
        OSError: If the folder cannot be written.
    """
    path = folder / FILE
    wanted = {RELEASE: __version__, **json.loads(json.dumps(dict(settings)))}
    if path.is_file():
        _refuse(folder, differing(_read(path), wanted))
        return True
    if output is not None and (output / "run.json").is_file():
        found = _settings_of_dataset(output / "run.json")
        _refuse(output, differing({name: found.get(name) for name in wanted}, wanted))
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    write_text(path, json.dumps(wanted, indent=2) + "\n")
    return False


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what differs between two sets of settings, one text per name."""
    names = sorted({*found, *wanted})
    return [
        f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


def _refuse(folder: Path, differences: list[str]) -> None:
    if differences:
        raise ValueError(
            f"{folder} belongs to a run with other settings: {'; '.join(differences)}; give those"
            " settings, another output folder, or delete this one"
        )


def _settings_of_dataset(path: Path) -> dict[str, Any]:
    """Return what a dataset's ``run.json`` says of its settings."""
    content = _read(path)
    parts = [content.get(name) for name in ("settings", "versions")]
    settings, versions = (part if isinstance(part, dict) else {} for part in parts)
    return {**settings, RELEASE: versions.get(RELEASE)}


def _read(path: Path) -> dict[str, Any]:
    """Return a file's settings; a file that is none counts as other settings."""
    try:
        content = read_json(path, "delete it")
    except ValueError:
        return {path.name: "unreadable"}
    return content if isinstance(content, dict) else {path.name: "unreadable"}
