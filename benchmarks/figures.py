"""How does a benchmark say what it found: a table for people, then one line of JSON?"""

import json
import logging
import os
import platform
import shlex
import statistics
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from magpie_steps.provenance import versions
from magpie_steps.summary import table


def quiet() -> None:
    """Keep warnings and log lines out of the way, errors apart."""
    warnings.simplefilter("ignore")
    for name in ("distilabel", "distilabel.step", "magpie_steps"):
        logging.getLogger(name).setLevel(logging.ERROR)


def say(line: str) -> None:
    """Tell how far the benchmark is."""
    print(line, file=sys.stderr, flush=True)


def spread(values: Sequence[float], digits: int = 1) -> dict[str, Any]:
    """Return the median of some runs' values, the least, the most, and all in their order."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
        "runs": [round(value, digits) for value in values],
    }


def report(
    lines: Iterable[tuple[str, str]], settings: Mapping[str, Any], figures: Mapping[str, Any]
) -> None:
    """Print the table, then everything as the last line.

    Args:
        lines: The table's names and values.
        settings: What was measured, as the command line's flags say it.
        figures: What was found.
    """
    print(table(lines))
    content = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "settings": {name: _plain(value) for name, value in settings.items()},
        "figures": figures,
    }
    print(json.dumps(content))


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the software."""
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
    }


def command() -> str:
    """Return how the script was called, without the folder that it lies in."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def last_line(output: str) -> Any:
    """Return what the JSON in the last line of a benchmark's output says."""
    return json.loads(output.strip().rpartition("\n")[2])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
