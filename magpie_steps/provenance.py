"""What is worth recording about a run beside its rows?"""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
)
"""The packages whose versions can change a row."""


@dataclass(frozen=True, slots=True)
class Work:
    """What engines have generated; replayed completions are not in it.

    Attributes:
        completions: Model calls.
        tokens: Tokens that they generated.
    """

    completions: int
    tokens: int

    def since(self, earlier: "Work") -> "Work":
        """Return what was generated after an earlier count."""
        return Work(self.completions - earlier.completions, self.tokens - earlier.tokens)


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
        return Work(0, 0)
    opened = Journal(journal, run_id="provenance")
    try:
        counts = opened.counts()
    finally:
        opened.close()
    return Work(counts["generated"], counts["completion_tokens"])
