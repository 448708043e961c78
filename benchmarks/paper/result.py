"""Where is the result on record, and what are its parts called in words?"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paper.plan import BASE_PAIRS, CONTROL, FILTERED, MULTI_TURN, PAIRS, RAW, SIZES

RESULT = Path(__file__).resolve().parents[1] / "results" / "paper_in_miniature.json"
"""The committed last line of `paper_in_miniature.py`."""

ON_GPU = RESULT.with_name("paper_in_miniature_gpu.json")
"""What some of the same trainings came to on a GPU."""

LARGEST = f"{SIZES[-1]}x"

KINDS: Mapping[str, str] = {
    "base": "tiny-base",
    CONTROL: "templates (control)",
    RAW: "raw rows",
    MULTI_TURN: "two-turn rows",
    FILTERED: "filtered rows",
    f"{FILTERED}+{PAIRS}": "filtered, then pairs of five",
    f"{FILTERED}+{BASE_PAIRS}": "filtered, then pairs with base",
    "instruct": "tiny-instruct",
}
"""What the kinds of models are called, in the order in which they are shown."""

REFERENCES = ("base", "instruct")
"""The two that are not trained here."""

Figures = Mapping[str, Any]


def read(path: Path = RESULT) -> dict[str, Any]:
    """Return a result: what a run printed as its last line.

    Raises:
        FileNotFoundError: If there is none.
    """
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def kind(name: str) -> str:
    """Return the kind of a model of the result, such as "raw" of "raw-2x"."""
    return name.partition("-")[0]


def shown(names: Iterable[str]) -> list[str]:
    """Return models in the order in which they are shown, smaller sets first.

    Raises:
        ValueError: If a model has no name in `KINDS`.
    """
    found = list(names)
    if unknown := sorted(name for name in found if kind(name) not in KINDS):
        raise ValueError(f"the result has models without a name: {unknown}; name them in KINDS")
    order = list(KINDS)
    return sorted(found, key=lambda name: (order.index(kind(name)), name))


def largest(names: Iterable[str]) -> list[str]:
    """Return the models of the largest sets and the two references, in order."""
    return [name for name in shown(names) if name in REFERENCES or name.endswith(LARGEST)]


def grown(models: Figures) -> dict[int, dict[str, Any]]:
    """Return the share of right answers by the size of the filtered set, in units."""
    names = {size: f"{FILTERED}-{size}x" for size in SIZES}
    return {size: models[name]["correct"] for size, name in names.items() if name in models}


def spread_text(found: Figures) -> str:
    """Return mean and spread, such as "74.3 ± 0.6", or the one value there is."""
    return f"{found['mean']:.1f}" + (
        f" ± {found['deviation']:.1f}" if len(found["runs"]) > 1 else ""
    )
