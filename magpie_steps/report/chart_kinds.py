"""What do all figures of labels have in common, and all of numbers?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from magpie_steps.report import figures
from magpie_steps.report.binning import Histogram
from magpie_steps.report.figures import Mark, Part
from magpie_steps.report.statistics import QUANTILES, Group, Statistics
from magpie_steps.report.tables import Table, number_text
from magpie_steps.report.tallies import Numbers

BARS = 12
"""So many bars are drawn; the table beside the figure has the others too."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of the report.

    Attributes:
        name: Its file's name without an ending.
        caption: What stands below it.
        alt: What it shows, in words, for those who do not see it.
        table: Its numbers.
        draw: Draws it, as a matplotlib figure.
    """

    name: str
    caption: str
    alt: str
    table: Table
    draw: Callable[[], Any]


def percent(part: float, whole: float) -> str:
    """Return a share in per cent, such as "12.3%"; that of nothing is "-"."""
    return f"{part / whole:.1%}" if whole else "-"


def labels_chart(
    statistics: Statistics,
    column: str,
    name: str,
    title: str,
    kind: str,
    *,
    ranked: bool = False,
) -> Iterator[Chart]:
    """Yield the bars of a column of labels, if it has any."""
    labels = statistics.all.labels.get(column)
    if labels is None or not labels.given:
        return
    counts = list(labels.counts.items())
    if ranked:
        counts = sorted(((name, n) for name, n in counts if n), key=lambda item: -item[1])
    shown, others = counts[:BARS], sum(number for _, number in counts[BARS:])
    names = [name for name, _ in shown]
    everything = [number for _, number in shown]
    kept = labels if (group := _kept_apart(statistics)) is None else group.labels[column]
    inside = [kept.counts.get(name, 0) for name in names]
    if others:
        names, everything = [*names, "(others)"], [*everything, others]
        inside = [*inside, kept.given - sum(inside)]
    missing = [
        f"{n:,} have {what}"
        for n, what in ((labels.unknown, "an unknown label"), (labels.not_given, "none"))
        if n
    ]
    shares = [percent(number, labels.given) for number in everything]
    yield Chart(
        name,
        f"{title}: {'; '.join([f'{labels.given:,} rows have a label', *missing])}.",
        said(title, names, shares),
        Table(
            title,
            (kind, "rows", "share"),
            [(word, f"{n:,}", percent(n, labels.given)) for word, n in counts],
        ),
        lambda: figures.bars(title, "rows", kind, names, _parts(inside, everything), shares),
    )


def histogram_chart(
    statistics: Statistics,
    column: str,
    name: str,
    title: str,
    unit: str,
    marks: Sequence[Mark] = (),
    *,
    as_columns: bool = False,
    counted: str = "rows",
) -> Iterator[Chart]:
    """Yield the histogram of a column of numbers, if it has any; `counted` is what has one each."""
    found = statistics.all.histograms.get(column)
    if found is None or not any(found.counts):
        return
    kept = _kept_apart(statistics)
    parts = _parts((kept or statistics.all).histograms[column].counts, found.counts)
    numbers = statistics.all.numbers[column]
    lines = bins([found], whole=as_columns or column.endswith("tokens"))
    yield Chart(
        name,
        f"{title}: mean {number_text(numbers.mean)},"
        f" median {number_text(statistics.all.median(column))}"
        f" over {numbers.given:,} {counted}{_without(numbers.not_given)}{_beyond(found, numbers)}"
        f"{of_sample(statistics) if counted == 'rows' else _of_sample(found, numbers, counted)}.",
        said(title, *_middle(statistics.all, column, counted)),
        Table(title, (unit, counted), lines),
        (lambda: figures.columns(title, unit, *_cut([line[0] for line in lines], parts)))
        if as_columns
        else (lambda: figures.stacked(title, unit, found.edges, parts, marks, counted)),
    )


def _cut(names: Sequence[str], parts: Sequence[Part]) -> tuple[Sequence[str], Sequence[Part]]:
    """Return bars without the empty ones at the end."""
    rows = [sum(counts) for counts in zip(*(part.counts for part in parts), strict=True)]
    last = max((n for n, count in enumerate(rows, 1) if count), default=1)
    return names[:last], [Part(part.name, part.counts[:last]) for part in parts]


def _kept_apart(statistics: Statistics) -> Group | None:
    """Return the kept rows if some rows are not kept."""
    kept = statistics.kept
    return kept if kept is not None and kept.rows < statistics.rows else None


def _parts(kept: Sequence[int], everything: Sequence[int]) -> list[Part]:
    """Return what bars are made of: kept and removed rows, if some are removed."""
    removed = [total - part for total, part in zip(everything, kept, strict=True)]
    if not any(removed):
        return [Part("rows", everything)]
    return [Part("kept", kept), Part("removed", removed)]


def bins(histograms: Sequence[Histogram], *, whole: bool = False) -> list[tuple[str, ...]]:
    """Return the bars as a table's lines; the last one is open.

    Args:
        histograms: Histograms with the same edges.
        whole: Whether the values are whole numbers.
    """
    places = list(pairwise(histograms[0].edges))
    say = _whole_numbers if whole else _numbers
    names = [say(*place, last=place == places[-1]) for place in places]
    counts = zip(*(each.counts for each in histograms), strict=True)
    return [(name, *(f"{n:,}" for n in row)) for name, row in zip(names, counts, strict=True)]


def _whole_numbers(low: float, high: float, *, last: bool) -> str:
    first, end = ceil(low), ceil(high) - 1
    if last:
        return f"{first}+"
    return f"{first}" if first == end else f"{first} to {end}"


def _numbers(low: float, high: float, *, last: bool) -> str:
    return f"{low:g} or more" if last else f"{low:g} to {high:g}"


def _middle(group: Group, column: str, counted: str) -> tuple[list[str], list[str]]:
    """Return where the middle of a column's values is, in words."""
    names = [f"{quantile:.0%} of the {counted} are at most" for quantile in QUANTILES]
    return names, [number_text(value) for value in group.quantiles[column]]


def said(title: str, names: Sequence[str], values: Sequence[str]) -> str:
    """Return a figure in words."""
    told = "; ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
    return f"{title}. {told}."


def _without(missing: int) -> str:
    return f", {missing:,} without a value" if missing else ""


def _beyond(histogram: Histogram, numbers: Numbers) -> str:
    """Say that bars hold more than their place tells, if they do."""
    inside = histogram.edges[0] <= numbers.least and numbers.most <= histogram.edges[-1]
    return "" if inside else "; the outer bars hold what lies beyond them too"


def _of_sample(histogram: Histogram, numbers: Numbers, counted: str) -> str:
    """Say that a histogram of what rows have several of is of a sample, if it is."""
    drawn = sum(histogram.counts)
    return "" if drawn == numbers.given else f"; drawn is a random sample of {drawn:,} {counted}"


def of_sample(statistics: Statistics) -> str:
    """Say that a histogram is of a sample, if it is."""
    if statistics.sampled == statistics.rows:
        return ""
    return f"; drawn is a random sample of {statistics.sampled:,} rows"
