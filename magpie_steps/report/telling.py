"""How does the card of a run's folder say what a later report of it found?"""

from collections.abc import Sequence
from pathlib import Path

from magpie_steps.card.findings import PICTURES, pictures
from magpie_steps.card.record import Figure
from magpie_steps.card.revision import with_section
from magpie_steps.report.charts import figure_names
from magpie_steps.report.markdown import markdown
from magpie_steps.report.sections import Findings, contamination
from magpie_steps.review.section import TITLE
from magpie_steps.shards import write_text
from magpie_steps.sources import parquet_files

_LATER = (TITLE, "What it took")
"""The sections that come next, the first of which there may be none."""


def is_told(folder: Path, paths: Sequence[Path]) -> bool:
    """Return whether a folder is a run's own, with a card, and its rows are those of some files."""
    if not all((folder / name).is_file() for name in ("run.json", "README.md")):
        return False
    try:
        own = parquet_files(folder)
    except FileNotFoundError:
        return False
    return [path.resolve() for path in own] == [path.resolve() for path in paths]


def for_card(findings: Findings) -> tuple[list[Figure], str, str]:
    """Return the figures for a card, and the title and text of its section on contamination."""
    repeated = contamination(findings)
    figures = [Figure(file, caption) for file, caption in figure_names(findings.statistics)]
    return figures, repeated.title, markdown(repeated)


def tell_card(folder: Path, findings: Findings) -> None:
    """Bring a card's figures and what it says about contamination up to date.

    Args:
        folder: The folder with the card, ``README.md``, and the report's ``figures/``.
        findings: What the report tells.

    Raises:
        OSError: If the card cannot be read or written.
        ValueError: If it is not UTF-8.
    """
    path = folder / "README.md"
    try:
        card = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} cannot be read as UTF-8: {error}; save it in UTF-8 or move it away"
        ) from None
    figures, title, text = for_card(findings)
    later = next((title for title in _LATER if f"\n## {title}\n" in card), _LATER[-1])
    card = with_section(card, title, text, before=later)
    write_text(path, with_section(card, PICTURES, pictures(figures), before=title))
