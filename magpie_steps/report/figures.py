"""How are numbers drawn?

Values in, a matplotlib figure out: with a title, labelled axes and a size for a phone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from magpie_steps.report.binning import Histogram
from magpie_steps.report.theme import LIGHT, SERIES, SIZE, label, style

MARKERS = ("o", "^", "s", "D")

BAR_INCHES = 0.25
"""How high a lying bar is with the space around it."""

GAP = 3
"""Points between a bar or a line and what is written beside it."""

LINE_CHARACTERS = 46
"""About so many characters are as wide as a figure without what is beside its axes."""

LEAST_BARS = 4
"""Fewer bars leave room below them, so that they do not become thick."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of every bar, such as the kept rows.

    Attributes:
        name: What it is, for the legend.
        counts: Its share of each bar, in rows.
    """

    name: str
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Mark:
    """A value to point out on a histogram.

    Attributes:
        value: Where it is.
        name: What it is.
    """

    value: float
    name: str


def bars(
    title: str,
    unit: str,
    kind: str,
    names: Sequence[str],
    parts: Sequence[Part],
    notes: Sequence[str] = (),
) -> Any:
    """Return lying bars, the first on top.

    Args:
        title: The figure's title.
        unit: What the bars' lengths count.
        kind: What the bars are, in one word.
        names: The bars' names.
        parts: What they are made of, from left to right.
        notes: What stands at their ends, by default their counts.
    """
    height = 1.1 + BAR_INCHES * max(len(names), LEAST_BARS)
    labels = [label(name) for name in names]
    wide = LINE_CHARACTERS - max(map(len, labels), default=0)
    ends = [label(note, round(0.6 * wide)) for note in notes]
    ends = ends or [f"{sum(counts):,}" for counts in _across(parts)]
    with style():
        figure, axes = _axes(title, unit, kind, (SIZE[0], height))
        left = [0] * len(names)
        for part, colour in zip(parts, SERIES, strict=False):
            axes.barh(
                range(len(names)), part.counts, 0.72, left, color=LIGHT[colour], label=part.name
            )
            left = [start + count for start, count in zip(left, part.counts, strict=True)]
        for place, note in enumerate(ends):
            axes.annotate(
                note,
                (left[place], place),
                (GAP, 0),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
            )
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(max(len(names), LEAST_BARS) - 0.4, -0.6)
        room = max(map(len, ends), default=0) / wide
        axes.set_xlim(0, max([*left, 1]) / (0.97 - room))
        _count_axis(axes.xaxis)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        _legend(axes, len(parts))
    return figure


def columns(title: str, unit: str, names: Sequence[str], parts: Sequence[Part]) -> Any:
    """Return standing bars of a few named values, from left to right.

    Args:
        title: The figure's title.
        unit: What the names are.
        names: What the bars are.
        parts: What they are made of, from the bottom up.
    """
    with style():
        figure, axes = _axes(title, unit, "rows")
        bottom = [0] * len(names)
        for part, colour in zip(parts, SERIES, strict=False):
            axes.bar(
                range(len(names)), part.counts, 0.72, bottom, color=LIGHT[colour], label=part.name
            )
            bottom = [start + count for start, count in zip(bottom, part.counts, strict=True)]
        axes.set_xticks(range(len(names)), [label(name) for name in names])
        axes.set_ylim(0, max([*bottom, 1]) * 1.08)
        _count_axis(axes.yaxis)
        axes.grid(axis="y")
        _legend(axes, len(parts))
    return figure


def stacked(
    title: str,
    unit: str,
    edges: Sequence[float],
    parts: Sequence[Part],
    marks: Sequence[Mark] = (),
    counted: str = "rows",
) -> Any:
    """Return a histogram.

    Args:
        title: The figure's title.
        unit: What the values are, with their unit.
        edges: The bars' edges.
        parts: What the bars are made of, from the bottom up.
        marks: Values to point out.
        counted: What the bars count.
    """
    widths = [high - low for low, high in pairwise(edges)]
    with style():
        figure, axes = _axes(title, unit, counted)
        bottom = [0] * len(widths)
        for part, colour in zip(parts, SERIES, strict=False):
            axes.bar(
                edges[:-1],
                part.counts,
                [0.92 * width for width in widths],
                bottom,
                align="edge",
                color=LIGHT[colour],
                label=part.name,
            )
            bottom = [start + count for start, count in zip(bottom, part.counts, strict=True)]
        _finish(axes, edges, max([*bottom, 1]), marks)
        _legend(axes, len(parts))
    return figure


def outlines(
    title: str, unit: str, histograms: Sequence[tuple[str, Histogram]], marks: Sequence[Mark] = ()
) -> Any:
    """Return several histograms with the same edges as outlines over each other."""
    edges = histograms[0][1].edges
    with style():
        figure, axes = _axes(title, unit, "rows")
        for number, (name, each) in enumerate(histograms):
            axes.stairs(
                each.counts,
                each.edges,
                color=LIGHT[SERIES[number]],
                linewidth=1.8,
                linestyle=("-", "--", ":", "-.")[number],
                label=name,
            )
        top = max(max(each.counts) for _, each in histograms)
        _finish(axes, edges, max(top, 1), marks)
        _legend(axes, len(histograms))
    return figure


def scatter(title: str, clouds: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> Any:
    """Return points of several kinds on a map whose axes have no unit."""
    with style():
        figure, axes = _axes(title, "first direction of the map", "second direction of the map")
        figure.set_size_inches(SIZE[0], 1.25 * SIZE[1])
        # The first, which the page is about, lies on top.
        for number, (name, xs, ys) in reversed(list(enumerate(clouds))):
            axes.plot(
                xs,
                ys,
                linestyle="",
                marker=MARKERS[number % len(MARKERS)],
                markersize=2.2,
                markeredgewidth=0,
                alpha=0.7,
                color=LIGHT[SERIES[number % len(SERIES)]],
                label=f"{label(name)} ({len(xs):,})",
            )
        axes.grid()
        if any(len(xs) for _, xs, _ in clouds):
            handles, names = axes.get_legend_handles_labels()
            figure.legend(
                handles[::-1], names[::-1], loc="outside lower left", markerscale=3, ncols=1
            )
    return figure


def _across(parts: Sequence[Part]) -> list[tuple[int, ...]]:
    """Return the parts of each bar."""
    return list(zip(*(part.counts for part in parts), strict=True))


def _axes(title: str, x: str, y: str, size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    # Over the whole figure: above the axes, wide labels would leave it too little room.
    figure.suptitle(title, x=0.02, ha="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _finish(axes: Any, edges: Sequence[float], top: int, marks: Sequence[Mark]) -> None:
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, top * 1.12)
    _count_axis(axes.yaxis)
    axes.grid(axis="y")
    for mark in marks:
        if edges[0] <= mark.value <= edges[-1]:
            axes.axvline(mark.value, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 2)))
            right = mark.value > (edges[0] + edges[-1]) / 2
            axes.annotate(
                mark.name,
                (mark.value, 0.99),
                (-GAP if right else GAP, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if right else "left",
                va="top",
            )


def _legend(axes: Any, parts: int) -> None:
    if parts > 1:
        axes.figure.legend(loc="outside lower left", ncols=parts)


def _count_axis(axis: Any) -> None:
    """Write whole numbers with few digits: 1,500 or 20k."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_short_count))


def _short_count(value: float, _: int) -> str:
    for size, word in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            unit = 1e3 if word == "k" else size
            return f"{value / unit:,.10g}{word}"
    return f"{value:,.10g}"
