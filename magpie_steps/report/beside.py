"""How do a dataset's numbers stand beside those that the paper printed?"""

from collections.abc import Iterator
from math import isfinite

from magpie_steps.report.costs import Cost
from magpie_steps.report.paper import (
    COSTS,
    FIGURE_11,
    LLAMA_GUARD_2,
    SOURCE,
    TABLE_4,
    TABLE_6,
    Decoding,
)
from magpie_steps.report.statistics import Setting, Statistics
from magpie_steps.report.tables import Table

_HERE = "this dataset"


def tables(statistics: Statistics, cost: Cost) -> Iterator[Table]:
    """Yield the tables that the dataset has the columns for."""
    yield from _sizes(statistics)
    yield from _safety(statistics)
    yield from _decoding(statistics)
    yield from _gpu_hours(cost)


def _sizes(statistics: Statistics) -> Iterator[Table]:
    tokens, turns = (statistics.final.number(name) for name in ("turn_tokens", "turns"))
    if not tokens.given:
        return
    counted = "as recorded" if statistics.tokens_recorded else "estimated from the texts' bytes"
    yield Table(
        "Size and length",
        ("dataset", "rows", "turns", "tokens per turn", "tokens in all"),
        (
            (
                _HERE,
                f"{statistics.final.rows:,}",
                f"{turns.mean:.2f}" if turns.given else "-",
                f"{tokens.mean:.1f} ± {tokens.deviation:.1f}",
                _millions(tokens.total),
            ),
            *(
                (
                    size.name,
                    f"{size.conversations:,}",
                    f"{size.turns:g}",
                    f"{size.tokens:.1f}"
                    + (f" ± {size.deviation:.1f}" if size.deviation is not None else ""),
                    _millions(size.conversations * size.turns * size.tokens),
                )
                for size in TABLE_4
            ),
        ),
        f"{SOURCE}, Table 4, counted there with tiktoken; its totals are conversations by turns by"
        f" tokens. Here the tokens are those of the first turn, {counted}.",
    )


def _safety(statistics: Statistics) -> Iterator[Table]:
    safety, hazards = statistics.final.labels.get("safety"), statistics.final.hazards
    if safety is None or not safety.given:
        return
    names = [*LLAMA_GUARD_2.values(), *(name for name in hazards if name not in _KNOWN_HAZARDS)]
    yield Table(
        "Safety",
        ("per cent of rows", _HERE, *(each.name for each in TABLE_6)),
        (
            ("safe", _percent(safety.share("safe")), *(f"{each.safe:.3f}" for each in TABLE_6)),
            *(
                (
                    name.replace("_", " "),
                    _percent(hazards.get(name, 0) / safety.given),
                    *(f"{each.hazard(name):.3f}" for each in TABLE_6 if name in _KNOWN_HAZARDS),
                    *("-" for _ in TABLE_6 if name not in _KNOWN_HAZARDS),
                )
                for name in names
            ),
        ),
        f"{SOURCE}, Table 6, judged by Llama-Guard-2. Guard models differ in what they call unsafe"
        " and in their categories.",
    )


def _decoding(statistics: Statistics) -> Iterator[Table]:
    measured = [
        each
        for each in statistics.settings
        if any(map(isfinite, (each.quality, each.difficulty, each.distance)))
    ]
    if not measured:
        return
    there = {(each.temperature, each.top_p): each for each in FIGURE_11}
    yield Table(
        "Sampling settings",
        ("temperature", "top p", "rows", *(f"{name}, here / Air" for name in _MEASURED)),
        [_setting(each, there.get((each.temperature, each.top_p))) for each in measured],
        f"{SOURCE}, Figure 11, on Magpie-Air: means of quality and difficulty as ranks from 1 to 5"
        " and of the squared distance to the nearest instruction. What labels and embeds differs"
        " from there, so compare the trend, not the values: hotter sampling lowers quality and"
        " raises difficulty and distance.",
    )


def _setting(here: Setting, air: Decoding | None) -> tuple[str, ...]:
    nothing = float("nan")
    pairs = (
        (here.quality, air.quality if air else nothing),
        (here.difficulty, air.difficulty if air else nothing),
        (here.distance, air.distance if air else nothing),
    )
    return (
        f"{here.temperature:g}",
        f"{here.top_p:g}",
        f"{here.rows:,}",
        *(f"{_number(value)} / {_number(other)}" for value, other in pairs),
    )


def _gpu_hours(cost: Cost) -> Iterator[Table]:
    if cost.gpu_hours_per_thousand is None:
        return
    yield Table(
        "GPU time",
        ("dataset", "GPU hours per 1,000 rows"),
        (
            (_HERE, f"{cost.gpu_hours_per_thousand:.3f}"),
            *((each.name, f"{each.gpu_hours_per_thousand:.3f}") for each in COSTS),
        ),
        f"{SOURCE}, section 3.4: instructions and responses, on four A100 with 80 GB.",
    )


_MEASURED = ("quality", "difficulty", "distance")
_KNOWN_HAZARDS = frozenset(LLAMA_GUARD_2.values())


def _millions(count: float) -> str:
    return f"{count:,.0f}" if count < 1e6 else f"{count / 1e6:,.1f}M"


def _percent(share: float) -> str:
    return f"{100 * share:.3f}"


def _number(value: float) -> str:
    return f"{value:.3f}" if isfinite(value) else "-"
