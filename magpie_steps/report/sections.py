"""What is in the report, in which order, and in which words?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from magpie_steps.report import beside, repeats
from magpie_steps.report.chart_kinds import Chart, percent
from magpie_steps.report.contamination import Contamination
from magpie_steps.report.costs import Cost
from magpie_steps.report.statistics import QUANTILES, Example, Group, Statistics
from magpie_steps.report.tables import Table, filled, number_text
from magpie_steps.report.tallies import Labels

SHOWN = 5
"""So many rows are shown of those that are kept, and of those that are not."""

_NUMBERS: Mapping[str, str] = {
    "instruction_characters": "instruction, characters",
    "instruction_tokens": "instruction, tokens",
    "response_characters": "response, characters",
    "response_tokens": "response, tokens",
    "responses_characters": "each sampled response, characters",
    "responses_tokens": "each sampled response, tokens",
    "turns": "turns",
    "instruct_reward": "reward",
    "base_reward": "reward of the base model",
    "reward_difference": "reward difference",
    "responses_rewards": "reward of each sampled response",
    "chosen_score": "score of the chosen response",
    "rejected_score": "score of the rejected response",
    "score_margin": "score margin",
    "min_neighbor_distance": "distance to the nearest",
    "repeat_count": "near instructions",
}

_LABELS: Mapping[str, str] = {
    "task_category": "category",
    "difficulty": "difficulty",
    "input_quality": "quality",
    "language": "language",
    "safety": "safety",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        text: Its paragraphs.
        charts: The names of its figures, of which the dataset may lack some.
        tables: Its tables.
        examples: Rows that it shows.
    """

    title: str
    text: Sequence[str] = ()
    charts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to tell about a dataset.

    Attributes:
        statistics: What its rows are like.
        contamination: What it repeats of other datasets, or tells of people.
        cost: What the run that made it took.
        charts: Its figures by name.
    """

    statistics: Statistics
    contamination: Contamination
    cost: Cost = field(default_factory=Cost)
    charts: Mapping[str, Chart] = field(default_factory=dict)


def sections(findings: Findings) -> list[Section]:
    """Return the parts of the page that have something in them."""
    found = (build(findings) for build in _SECTIONS)
    return [each for each in found if _says_something(each, findings)]


def glance(statistics: Statistics) -> list[tuple[str, str]]:
    """Return what the first screen tells, as names and values."""
    final = statistics.final
    nothing = Labels({})
    languages, safety = (final.labels.get(name, nothing) for name in ("language", "safety"))
    kept = [] if statistics.kept is None else [("rows kept", _kept(statistics))]
    about = "" if statistics.tokens_recorded else "about "
    lengths = [
        (f"tokens in {text}, mean", f"{about}{final.number(column).mean:,.1f}")
        for text, column in (
            ("an instruction", "instruction_tokens"),
            ("a response", "response_tokens"),
            ("a sampled response", "responses_tokens"),
        )
        if final.number(column).given
    ]
    return [
        ("rows", f"{statistics.rows:,}"),
        *kept,
        *lengths,
        *([("sampled responses", statistics.a_row)] if statistics.a_row else []),
        *([("languages", _languages(languages))] if languages.given else []),
        *([("safe", f"{safety.share('safe'):.1%}")] if safety.given else []),
    ]


def _removal(findings: Findings) -> Section:
    statistics = findings.statistics
    gone = statistics.rows - statistics.final.rows
    lines = [(r, f"{n:,}", percent(n, statistics.rows)) for r, n in statistics.dropped.items()]
    return Section(
        "What was removed, and why",
        [f"{gone:,} of {statistics.rows:,} rows are not kept."] if statistics.kept else [],
        ["funnel"],
        filled(Table("Reasons", ("reason", "rows", "share of all"), lines)),
    )


def _lengths(findings: Findings) -> Section:
    statistics = findings.statistics
    how = (
        "Tokens are those that the generating model counted for the first turn, with the stop."
        if statistics.tokens_recorded
        else "The dataset does not record tokens. They are estimated as a quarter of a text's bytes"
        " in UTF-8, a rule of thumb for English; in other languages it can be far off."
    )
    kept = [_numbers("Kept rows", statistics.kept)] if statistics.kept else []
    return Section(
        "Lengths",
        [
            how,
            *_several(statistics),
            f"Texts that are empty or missing have no length. {_sampled(statistics)}",
        ],
        ["instruction-lengths", "response-lengths", "sampled-lengths", "turns"],
        filled(_numbers("All rows", statistics.all), *kept),
    )


def _tasks(findings: Findings) -> Section:
    return Section("Kinds of tasks", [], ["categories", "verbs"])


def _levels(findings: Findings) -> Section:
    return Section("Difficulty and quality", [], ["difficulty", "quality"])


def _language_and_safety(findings: Findings) -> Section:
    safety = findings.statistics.all.labels.get("safety")
    text = []
    if safety is not None:
        text = [
            f"Of {safety.given:,} rows with a guard model's verdict"
            f" {percent(safety.counts['safe'], safety.given)} are safe;"
            f" {safety.not_given:,} rows have no verdict."
        ]
    return Section("Languages and safety", text, ["languages", "hazards"])


def _missing(findings: Findings) -> Section:
    statistics = findings.statistics
    lacking = [
        (_LABELS[name], f"{labels.not_given:,}", f"{labels.unknown:,}")
        for name, labels in statistics.all.labels.items()
        if labels.not_given or labels.unknown
    ]
    failures = [(name, f"{n:,}") for name, n in statistics.failures.items()]
    header = ("label", "rows without", "rows with one that is unknown")
    return Section(
        "Labels that are missing",
        tables=filled(
            Table("Missing labels", header, lacking),
            Table("Why", ("label and reason", "rows"), failures),
        ),
    )


def _rewards(findings: Findings) -> Section:
    return Section(
        "Rewards",
        [],
        ["rewards", "reward-difference", "sampled-rewards", "pair-scores", "score-margin"],
    )


def _neighbours(findings: Findings) -> Section:
    return Section(
        "Likeness among the instructions",
        [],
        ["neighbour-distance", "repeats", "coverage"],
    )


def contamination(findings: Findings) -> Section:
    """Return what the dataset repeats of others, and tells of people."""
    found = findings.contamination
    return Section(
        "Contamination and memorisation",
        [repeats.compared(found), repeats.searched(found)],
        tables=filled(*repeats.tables(found)),
    )


def _beside(findings: Findings) -> Section:
    tables = list(beside.tables(findings.statistics, findings.cost))
    text = "What the paper printed about its own datasets, for comparison."
    return Section("Beside the paper", [text] if tables else [], tables=tables)


def _cost(findings: Findings) -> Section:
    lines = findings.cost.lines
    text = "As the run that finished the dataset recorded it; what an earlier run had generated"
    return Section(
        "What it took",
        [f"{text} cost it nothing."] if lines else [],
        tables=filled(Table("The run", ("", "value"), lines)),
    )


def _examples(findings: Findings) -> Section:
    statistics = findings.statistics
    shown = statistics.examples[:SHOWN]
    return Section(
        "Rows",
        [f"{len(shown)} of {statistics.final.rows:,} rows, drawn by chance; long texts are cut."]
        if shown
        else [],
        examples=shown,
    )


def _removed(findings: Findings) -> Section:
    statistics = findings.statistics
    shown, gone = statistics.removed[:SHOWN], statistics.rows - statistics.final.rows
    return Section(
        "Rows that were removed",
        [f"{len(shown)} of {gone:,} rows, drawn by chance; long texts are cut."] if shown else [],
        examples=shown,
    )


_SECTIONS: Sequence[Callable[[Findings], Section]] = (
    _removal,
    _lengths,
    _tasks,
    _levels,
    _language_and_safety,
    _missing,
    _rewards,
    _neighbours,
    contamination,
    _beside,
    _cost,
    _examples,
    _removed,
)


def _says_something(section: Section, findings: Findings) -> bool:
    drawn = any(name in findings.charts for name in section.charts)
    return bool(drawn or section.text or section.tables or section.examples)


def _numbers(title: str, group: Group) -> Table:
    """Return what the columns of numbers come to."""
    return Table(
        title,
        ("", "mean", "sd", "5%", "median", "95%", "without"),
        [
            (
                says,
                number_text(numbers.mean),
                number_text(numbers.deviation),
                *(
                    number_text(group.quantiles[name][QUANTILES.index(q)])
                    for q in (0.05, 0.5, 0.95)
                ),
                f"{numbers.not_given:,}",
            )
            for name, says in _NUMBERS.items()
            if (numbers := group.numbers.get(name)) and name in group.quantiles
        ],
    )


def _several(statistics: Statistics) -> list[str]:
    """Say what is counted of responses of which a row has several, if it has."""
    if not statistics.a_row:
        return []
    number = statistics.all.number("responses_characters").given
    return [
        f"Several responses to each instruction were sampled, {statistics.a_row} where rows are"
        f" kept. Their lengths and rewards are those of all {number:,} responses, one by one."
    ]


def _sampled(statistics: Statistics) -> str:
    """Say what quantiles and histograms are of."""
    if statistics.sampled == statistics.rows:
        return "Every number on this page is of all rows, unless it says otherwise."
    return (
        f"Means and counts are of all rows; quantiles and histograms, here and below, of a random"
        f" sample of {statistics.sampled:,} rows."
    )


def _kept(statistics: Statistics) -> str:
    kept = statistics.final.rows
    return f"{kept:,} ({percent(kept, statistics.rows)})"


def _languages(labels: Labels) -> str:
    names = sorted(labels.counts, key=lambda name: -labels.counts[name])
    first = ", ".join(f"{name[:12]} {labels.share(name):.0%}" for name in names[:2])
    return first if len(names) <= 2 else f"{first}, {len(names) - 2} more"
