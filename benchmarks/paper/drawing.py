"""How does the result look?

Two figures, the same bytes for the same result. Every number that a point stands for or that is
decisive is written beside it, so that a figure's texts tell whether it is stale.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from typing import Any

from magpie_steps.report.theme import FAMILY, FONT_SIZE, LIGHT, style
from paper.ablation import ERROR, PAPER, TEMPERATURES, TOP_PS
from paper.plan import CONTROL, FILTERED, RAW, SIZES
from paper.result import KINDS, REFERENCES, Figures, grown, kind, largest, spread_text
from paper.telling import LEAST_SHARE

WIDTH = 8.6
"""Inches; on a page as wide as GitHub's the texts then keep their size."""

PALE = "#a8b2bd"

SHADES = ("#5b9bd0", LIGHT["first"], "#0b2c4d")
MARKERS = ("o", "s", "^")
"""Of the three top_p: they are told apart by brightness and form, with any colour vision."""

MEASURES: Mapping[str, tuple[str, str]] = {
    "quality": ("quality, marks 1 to 5", "well-formed instructions, %"),
    "difficulty": ("difficulty, levels 1 to 5", "difficulty, levels 1 to 5"),
    "distance": ("distance to the nearest", "distance to the nearest"),
}
"""What the axes of the decoding ablation are: in the paper, and here."""


WHOSE = (
    "The paper, Llama-3-8B-Instruct; above each panel its change from the lowest T to the highest",
    "Here, tiny-instruct; bars are two standard errors",
)


def draw_models(result: Figures) -> Any:
    """Return what each kind of model answers rightly, and beside it the growth with more rows."""
    models = result["figures"]["models"]
    with style():
        figure = _figure(4.0)
        left, right = figure.subplots(1, 2, width_ratios=(1.75, 1))
        _draw_scores(left, models)
        _draw_growth(right, models, result["settings"]["unit"])
    return figure


def draw_decoding(result: Figures) -> Any:
    """Return quality, difficulty and distance by temperature and top_p, the paper's above ours."""
    with style():
        figure = _figure(5.4)
        for half, title, draw in zip(
            figure.subfigures(2, 1), WHOSE, (_draw_papers, _draw_ours), strict=True
        ):
            half.suptitle(title, x=0.01, ha="left")
            panels = half.subplots(1, len(PAPER))
            draw(panels, result["figures"])
            for axes in panels:
                axes.set_xticks(TEMPERATURES)
                axes.set_xlabel("temperature")
        panels[0].legend(loc="lower left")
    return figure


DRAWINGS: Mapping[str, tuple[Callable[[Figures], Any], str]] = {
    "paper-in-miniature.svg": (
        draw_models,
        "Right answers to held-out questions by model, and by the number of rows trained on",
    ),
    "paper-in-miniature-decoding.svg": (
        draw_decoding,
        "Quality, difficulty and distance of instructions by temperature and top_p,"
        " in the paper and here",
    ),
}
"""The files in `docs/images`: who draws each, and what it shows in words."""


def drawn(name: str, result: Figures) -> str:
    """Return a figure as the text of its SVG file, the same for the same result.

    Args:
        name: A key of `DRAWINGS`.
        result: What `paper.result.read` returned.
    """
    draw, title = DRAWINGS[name]
    file = io.StringIO()
    with style():
        facts = {"Date": None, "Creator": None, "Title": title}  # the same from every release
        draw(result).savefig(file, format="svg", metadata=facts)
    # Few machines but those with matplotlib have its font; Verdana is as wide.
    text = file.getvalue().replace(f"'{FAMILY}'", f"'{FAMILY}', Verdana, sans-serif")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def texts(svg: str) -> list[str]:
    """Return the texts of an SVG file in order; they do not depend on matplotlib's release."""
    return [unescape(found) for found in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def _draw_scores(axes: Any, models: Figures) -> None:
    names = largest(models)
    for place, name in enumerate(names):
        found = models[name]["correct"]
        axes.barh(place, found["mean"], 0.62, color=_colour(kind(name)))
        axes.plot(
            found["runs"],
            [place] * len(found["runs"]),
            linestyle="",
            marker="o",
            markersize=3.5,
            color=LIGHT["paper"],
            markeredgecolor=LIGHT["ink"],
            markeredgewidth=0.8,
        )
        axes.annotate(
            spread_text(found),
            (max(found["mean"], *found["runs"]), place),
            (6, 0),
            textcoords="offset points",
            va="center",
            bbox={"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 1},
        )
    bound = LEAST_SHARE / 100 * models["instruct"]["correct"]["mean"]
    axes.axvline(bound, color=LIGHT["muted"], linewidth=1, linestyle="--", zorder=0)
    axes.annotate(
        f"{LEAST_SHARE} % of tiny-instruct",
        (bound, -0.55),
        (-3, 0),
        textcoords="offset points",
        ha="right",
        va="center",
    )
    axes.set_yticks(range(len(names)), [KINDS[kind(name)] for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.9)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("right answers to held-out questions, %")
    axes.set_title("each dot a model of its own seed", fontsize=FONT_SIZE, loc="left")


def _draw_growth(axes: Any, models: Figures, unit: int) -> None:
    found = grown(models)
    means = [each["mean"] for each in found.values()]
    axes.errorbar(
        [unit * size for size in found],
        means,
        [each["deviation"] for each in found.values()],
        color=_colour(FILTERED),
        marker="o",
        markersize=5,
        linewidth=1.8,
        capsize=3,
    )
    for size, mean in zip(found, means, strict=True):
        axes.annotate(
            f"{mean:.1f}",
            (unit * size, mean),
            (0, 9),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=_colour(FILTERED),
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([unit * size for size in SIZES], [f"{unit * size:,}" for size in SIZES])
    axes.minorticks_off()
    axes.margins(x=0.18)
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel(f"{KINDS[FILTERED]} trained on")
    axes.set_ylabel("right answers, %")


def _draw_papers(panels: Any, found: Figures) -> None:
    for axes, (name, values) in zip(panels, PAPER.items(), strict=True):
        _draw_lines(axes, values)
        axes.set_ylabel(MEASURES[name][0])
        axes.set_title(_signed(found["trends"][name]["hotter_in_paper"]), fontsize=FONT_SIZE)


def _draw_ours(panels: Any, found: Figures) -> None:
    for axes, name in zip(panels, PAPER, strict=True):
        _draw_lines(axes, found["decoding"][name], found["decoding"][f"{name}{ERROR}"])
        axes.set_ylabel(MEASURES[name][1])
        trend = found["trends"][name]
        change = f"{_signed(trend['hotter'])} ± {trend['standard_error']:.3f}"
        axes.set_title(f"{change}: {trend['verdict']}", fontsize=FONT_SIZE)


def _draw_lines(
    axes: Any, values: Sequence[Sequence[float]], errors: Sequence[Sequence[float]] | None = None
) -> None:
    """Draw a line over the temperatures for each top_p, with two standard errors where known."""
    for column, top_p in enumerate(TOP_PS):
        axes.errorbar(
            # Side by side, so that no bar hides another.
            [temperature + 0.004 * (column - 1) for temperature in TEMPERATURES],
            [row[column] for row in values],
            [2 * row[column] for row in errors] if errors else None,
            color=SHADES[column],
            marker=MARKERS[column],
            markersize=5,
            linewidth=1.5,
            capsize=2,
            label=f"top_p {top_p:g}",
        )
    axes.margins(x=0.1, y=0.15)


def _signed(change: float) -> str:
    return f"{change:+.3f}".replace("-", "−")  # noqa: RUF001 - the sign of matplotlib's own axes


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((WIDTH, height), layout="constrained")


def _colour(name: str) -> str:
    if name in REFERENCES:
        return LIGHT["muted"]
    return {CONTROL: PALE, RAW: LIGHT["second"]}.get(name, LIGHT["first"])
