"""May a run go on in this work folder?

A work folder belongs to the settings of the run that made it. The same settings go on where the
last run stopped; others are refused, because they would replace a dataset that was not asked for.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "settings.json"


def claim(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Make a work folder these settings' own.

    Args:
        folder: The work folder; made if it does not exist.
        settings: What the rows depend on: scalars and what JSON can hold of them.

    Returns:
        Whether an earlier run with the same settings was here.

    Raises:
        ValueError: If the folder belongs to other settings; the message names what differs.
        OSError: If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    wanted = json.loads(json.dumps(dict(settings)))
    if path.is_file():
        differences = differing(_read(path), wanted)
        if differences:
            raise ValueError(
                f"{folder} belongs to a run with other settings: {'; '.join(differences)}; give"
                " those settings, another output folder, or delete this one"
            )
        return True
    temporary = path.with_name(f".{FILE}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return False


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what differs between two sets of settings, one text per name."""
    names = sorted({*found, *wanted})
    return [
        f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


def _read(path: Path) -> dict[str, Any]:
    """Return a folder's settings; a file that is none counts as other settings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {FILE: "unreadable"}
    return content if isinstance(content, dict) else {FILE: "unreadable"}
