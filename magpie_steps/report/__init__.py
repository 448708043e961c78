"""What is a Magpie dataset like? The paper's analysis as a page and as figures.

The folder gets ``report.html``, which needs nothing else, and ``figures/`` with PNGs for a card. If
it is the run's own, its card is told as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from pathlib import Path
from typing import Any

import numpy as np

from magpie_steps import prompt_sets
from magpie_steps.report import theme
from magpie_steps.report.charts import NAMES, charts_of, figure_names
from magpie_steps.report.costs import Cost, read_cost, record_of
from magpie_steps.report.counting import TEXT_CHARACTERS, statistics_of
from magpie_steps.report.page import render
from magpie_steps.report.sections import Findings
from magpie_steps.report.telling import is_told, tell_card
from magpie_steps.repository import check_links
from magpie_steps.shards import write_bytes, write_text
from magpie_steps.sources import located, parquet_files, title_of

__all__ = ["default_folder", "figure_names", "report", "tell_card"]


def report(
    dataset: str,
    output: Path,
    *,
    compare: Sequence[str] = (),
    decontaminate: Sequence[str] = (),
    known: Sequence[str] = (),
    coverage: bool = True,
    say: Callable[[str], object] = lambda line: None,
) -> Findings:
    """Write the report of a dataset, in place of an earlier one, and return what it tells.

    Where the folder is the output of the run that made the dataset, the card there is brought up to
    date too, so that both say the same when they are pushed.

    Args:
        dataset: A parquet file, a folder of them such as a run's output, or an id on the Hub.
        output: The folder for ``report.html`` and ``figures/``; made if it does not exist.
        compare: Other instruction datasets for the map: files, folders or ids on the Hub.
        decontaminate: Evaluation sets to look for in the instructions, likewise.
        known: Public training sets to look for in the instructions, likewise.
        coverage: Whether to draw the map, which needs an embedding model.
        say: Told what is done next, in a line each.

    Raises:
        FileNotFoundError: If a dataset is not there.
        OSError: If a file cannot be read or written.
        ValueError: If a dataset has not the columns that are needed.
    """
    from magpie_steps.report.contamination import contamination
    from magpie_steps.report.verbs import top_verbs

    check_links(output)
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file, not a folder; choose another folder")
    paths = parquet_files(located(dataset))
    say("reading the rows")
    statistics = statistics_of(title_of(dataset), paths)
    statistics = replace(statistics, verbs=tuple(top_verbs(statistics.in_english)))
    instructions = [example.instruction for example in statistics.examples]
    if coverage:
        say("drawing the map of instructions")
        statistics = replace(statistics, clouds=_clouds(dataset, instructions, compare))
    say("looking for what is repeated")
    repeated = contamination(paths, instructions, evaluation=decontaminate, known=known)
    drawn = {chart.name: chart for chart in charts_of(statistics)}
    findings = Findings(statistics, repeated, _cost(paths[0], say), drawn)
    say("drawing the figures")
    pictures = {name: chart.draw() for name, chart in drawn.items()}
    _write_figures(output / "figures", pictures)
    inline = {name: theme.svg(each, name, drawn[name].alt) for name, each in pictures.items()}
    write_text(output / "report.html", render(findings, inline))
    if is_told(output, paths):
        tell_card(output, findings)
    return findings


def default_folder(dataset: str) -> Path:
    """Return where a report goes: into a run's output folder, for others into one of its own."""
    path = Path(dataset)
    return path if (path / "run.json").is_file() else Path(f"report-{title_of(dataset)}")


def _clouds(dataset: str, instructions: Sequence[str], compare: Sequence[str]) -> tuple[Any, ...]:
    """Return where samples of this and of other datasets lie on the map."""
    from magpie_steps.report.coverage import SAMPLE, coverage

    samples = {
        name: instructions[:SAMPLE] if given == dataset else _sampled(given, SAMPLE)
        for name, given in prompt_sets.named([dataset, *compare]).items()
    }
    return tuple(coverage(samples))


def _sampled(dataset: str, size: int) -> list[str]:
    """Return a random sample of a dataset's prompts, without having them all in memory."""
    chance = np.random.default_rng(0)
    prompts = (prompt[:TEXT_CHARACTERS] for prompt in prompt_sets.prompts_of(dataset))
    keyed = ((chance.random(), number, text) for number, text in enumerate(prompts) if text.strip())
    return [text for _, _, text in nsmallest(size, keyed)]


def _cost(file: Path, say: Callable[[str], object]) -> Cost:
    record = record_of(file)
    if record is None:
        return Cost()
    try:
        return read_cost(record)
    except ValueError as error:
        say(f"no costs: {error}")
        return Cost()


def _write_figures(folder: Path, pictures: Mapping[str, Any]) -> None:
    """Write PNGs, each in one step, and remove those of an earlier report."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        write_bytes(folder / f"{name}.png", theme.png(figure))
    for name in set(NAMES) - pictures.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
