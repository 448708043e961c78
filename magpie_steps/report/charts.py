"""Which figures does a dataset's report have?"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from magpie_steps.filtering.origins import REPEAT_DISTANCE
from magpie_steps.report import figures
from magpie_steps.report.chart_kinds import (
    BARS,
    Chart,
    bins,
    histogram_chart,
    labels_chart,
    of_sample,
    percent,
    said,
)
from magpie_steps.report.figures import Mark, Part
from magpie_steps.report.funnel import stages
from magpie_steps.report.statistics import Statistics
from magpie_steps.report.tables import Table, number_text

NAMES = (
    "funnel",
    "instruction-lengths",
    "response-lengths",
    "sampled-lengths",
    "turns",
    "categories",
    "verbs",
    "difficulty",
    "quality",
    "languages",
    "hazards",
    "rewards",
    "reward-difference",
    "sampled-rewards",
    "pair-scores",
    "score-margin",
    "neighbour-distance",
    "repeats",
    "coverage",
)
"""The figures that there can be, in the page's order."""


def charts_of(statistics: Statistics) -> list[Chart]:
    """Return the figures of a dataset, of which it has the columns, in the page's order."""
    return [chart for build in _CHARTS for chart in build(statistics)]


def figure_names(statistics: Statistics) -> list[tuple[str, str]]:
    """Return the figures' files as paths from the report's folder, each with its caption."""
    return [(f"figures/{chart.name}.png", chart.caption) for chart in charts_of(statistics)]


def _funnel(statistics: Statistics) -> Iterator[Chart]:
    if statistics.kept is None or not statistics.dropped:
        return
    found = stages(statistics)
    names, rows = [stage.name for stage in found], [stage.left for stage in found]
    shares = [percent(each, statistics.rows) for each in rows]
    yield Chart(
        "funnel",
        f"From generated to kept: {statistics.rows:,} rows were generated,"
        f" {statistics.kept.rows:,} are kept.",
        said("Rows that are left after each stage", names, [f"{n:,}" for n in rows]),
        Table(
            "Rows left",
            ("stage", "rows left", "share"),
            [(n, f"{r:,}", s) for n, r, s in zip(names, rows, shares, strict=True)],
        ),
        lambda: figures.bars(
            "Rows left after each stage",
            "rows",
            "stage",
            names,
            [Part("rows", rows)],
            [f"{each:,} ({each / statistics.rows:.0%})" for each in rows],
        ),
    )


def _lengths(statistics: Statistics) -> Iterator[Chart]:
    unit = "tokens" if statistics.tokens_recorded else "tokens, estimated"
    for text in ("instruction", "response"):
        yield from histogram_chart(
            statistics,
            f"{text}_tokens",
            f"{text}-lengths",
            f"Length of {text}s",
            f"{text} length ({unit})",
            [Mark(statistics.all.median(f"{text}_tokens"), "median")],
        )
    yield from histogram_chart(
        statistics,
        "responses_tokens",
        "sampled-lengths",
        f"Length of sampled responses, {statistics.a_row}",
        f"response length ({unit})",
        [Mark(statistics.all.median("responses_tokens"), "median")],
        counted="responses",
    )


def _turns(statistics: Statistics) -> Iterator[Chart]:
    turns = statistics.all.numbers.get("turns")
    if turns is not None and turns.most > 1:
        yield from histogram_chart(
            statistics, "turns", "turns", "Turns of a conversation", "turns", as_columns=True
        )


def _categories(statistics: Statistics) -> Iterator[Chart]:
    yield from labels_chart(
        statistics, "task_category", "categories", "Kinds of tasks", "category", ranked=True
    )


def _levels(statistics: Statistics) -> Iterator[Chart]:
    yield from labels_chart(
        statistics, "difficulty", "difficulty", "Difficulty of instructions", "level"
    )
    yield from labels_chart(
        statistics, "input_quality", "quality", "Quality of instructions", "level"
    )


def _languages(statistics: Statistics) -> Iterator[Chart]:
    yield from labels_chart(
        statistics, "language", "languages", "Languages of instructions", "language", ranked=True
    )


def _hazards(statistics: Statistics) -> Iterator[Chart]:
    safety, hazards = statistics.all.labels.get("safety"), statistics.all.hazards
    if safety is None or not hazards:
        return
    names = list(hazards)[:BARS]
    yield Chart(
        "hazards",
        f"What the guard model found in the {safety.counts['unsafe']:,} unsafe rows of"
        f" {safety.given:,} that it judged; a row can be in several categories.",
        said("Unsafe rows by category", names, [f"{hazards[name]:,}" for name in names]),
        Table(
            "Unsafe rows",
            ("category", "rows", "share of judged rows"),
            [(name, f"{n:,}", percent(n, safety.given)) for name, n in hazards.items()],
        ),
        lambda: figures.bars(
            "Unsafe rows by category",
            "rows",
            "category",
            names,
            [Part("rows", [hazards[name] for name in names])],
        ),
    )


def _outlines(
    statistics: Statistics, name: str, what: str, named: Mapping[str, str]
) -> Iterator[Chart]:
    """Yield one figure of several columns of the same kind, if they have values."""
    histograms = statistics.all.histograms
    found = [
        (says, histograms[column])
        for column, says in named.items()
        if column in histograms and any(histograms[column].counts)
    ]
    if found:
        title = f"{what.capitalize()}s"
        yield Chart(
            name,
            f"{title} of the {' and of the '.join(says for says, _ in found)}"
            f"{of_sample(statistics)}.",
            said(f"Mean {what}s", *_means(statistics, named)),
            Table(title, (what, *(says for says, _ in found)), bins([each for _, each in found])),
            lambda: figures.outlines(title, f"{what} (no unit)", found),
        )


def _rewards(statistics: Statistics) -> Iterator[Chart]:
    named = {"instruct_reward": "response", "base_reward": "base model's response"}
    yield from _outlines(statistics, "rewards", "reward", named)
    yield from histogram_chart(
        statistics,
        "reward_difference",
        "reward-difference",
        "Reward above the base model's",
        "reward difference (no unit)",
        [Mark(0.0, "no better")],
    )
    yield from histogram_chart(
        statistics,
        "responses_rewards",
        "sampled-rewards",
        f"Rewards of sampled responses, {statistics.a_row}",
        "reward (no unit)",
        counted="responses",
    )


def _pairs(statistics: Statistics) -> Iterator[Chart]:
    named = {"chosen_score": "chosen response", "rejected_score": "rejected response"}
    yield from _outlines(statistics, "pair-scores", "score", named)
    yield from histogram_chart(
        statistics,
        "score_margin",
        "score-margin",
        "Score of the chosen above the rejected",
        "score margin (no unit)",
        [Mark(statistics.all.median("score_margin"), "median")],
    )


def _neighbours(statistics: Statistics) -> Iterator[Chart]:
    yield from histogram_chart(
        statistics,
        "min_neighbor_distance",
        "neighbour-distance",
        "Distance to the nearest instruction",
        "squared distance (no unit)",
        [Mark(REPEAT_DISTANCE, "repeats are nearer")],
    )
    yield from histogram_chart(
        statistics,
        "repeat_count",
        "repeats",
        "How often instructions repeat",
        "other instructions that are near",
        as_columns=True,
    )


def _verbs(statistics: Statistics) -> Iterator[Chart]:
    if not statistics.verbs:
        return
    shown = statistics.verbs[:BARS]
    objects = [", ".join(thing for thing, _ in verb.objects) for verb in statistics.verbs]
    yield Chart(
        "verbs",
        f"The most frequent verbs of {len(statistics.in_english):,} instructions in English and"
        " their direct objects.",
        said("Verbs", [v.verb for v in shown], [f"{v.count:,}" for v in shown]),
        Table(
            "Verbs",
            ("verb", "instructions", "objects"),
            [(v.verb, f"{v.count:,}", o) for v, o in zip(statistics.verbs, objects, strict=True)],
            texts=("objects",),
        ),
        lambda: figures.bars(
            "What instructions ask for",
            "instructions",
            "verb",
            [verb.verb for verb in shown],
            [Part("instructions", [verb.count for verb in shown])],
            objects[:BARS],
        ),
    )


def _map(statistics: Statistics) -> Iterator[Chart]:
    clouds = [(cloud.name, cloud.xs, cloud.ys) for cloud in statistics.clouds]
    if any(len(xs) for _, xs, _ in clouds):
        yield Chart(
            "coverage",
            "Instructions by meaning: near points mean similar things. A t-SNE map of the"
            f" embeddings of a random sample of {sum(len(xs) for _, xs, _ in clouds):,}"
            " instructions; its axes have no unit.",
            said("Points on the map", *_sizes(clouds)),
            Table(
                "On the map",
                ("dataset", "instructions"),
                [(name, f"{len(xs):,}") for name, xs, _ in clouds],
            ),
            lambda: figures.scatter("Map of instructions", clouds),
        )


def _means(statistics: Statistics, names: Mapping[str, str]) -> tuple[list[str], list[str]]:
    numbers = statistics.all.numbers
    found = [(says, numbers[n]) for n, says in names.items() if n in numbers and numbers[n].given]
    return [says for says, _ in found], [number_text(each.mean) for _, each in found]


def _sizes(
    clouds: Sequence[tuple[str, Sequence[float], Sequence[float]]],
) -> tuple[list[str], list[str]]:
    return [name for name, _, _ in clouds], [f"{len(xs):,}" for _, xs, _ in clouds]


_CHARTS: Sequence[Callable[[Statistics], Iterator[Chart]]] = (
    _funnel,
    _lengths,
    _turns,
    _categories,
    _verbs,
    _levels,
    _languages,
    _hazards,
    _rewards,
    _pairs,
    _neighbours,
    _map,
)
