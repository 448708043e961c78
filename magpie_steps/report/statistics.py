"""What are the rows of a dataset like, in numbers?

Counts, means and deviations are exact. Quantiles and histograms are those of a random sample of
rows, which for datasets up to its size is all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from magpie_steps.report.binning import Histogram
from magpie_steps.report.coverage import Cloud
from magpie_steps.report.tallies import Labels, Numbers
from magpie_steps.report.verbs import Verb

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Group:
    """What some rows are like.

    Attributes:
        rows: Their number.
        numbers: What a column's values come to, by name in `readings.NUMBERS` and
            `readings.SEVERAL`; only of columns that the dataset has.
        quantiles: Their quantiles at `QUANTILES`, those of the sample; without values none.
        histograms: Their histograms, those of the sample.
        labels: How often each label occurs, by name in `readings.LABELS` and "safety".
        hazards: Rows by what the guard model found in them, the most frequent first.
    """

    rows: int
    numbers: Mapping[str, Numbers]
    quantiles: Mapping[str, tuple[float, ...]]
    histograms: Mapping[str, Histogram]
    labels: Mapping[str, Labels]
    hazards: Mapping[str, int]

    def number(self, name: str) -> Numbers:
        """Return what a column's values come to; without the column as without values."""
        return self.numbers.get(name, Numbers(0, self.rows, 0.0, 0.0, 0.0, 0.0))

    def median(self, name: str) -> float:
        """Return a column's median, NaN without values."""
        found = self.quantiles.get(name, ())
        return found[QUANTILES.index(0.5)] if found else float("nan")


@dataclass(frozen=True, slots=True)
class Setting:
    """What came out at a sampling setting of the instructions.

    Attributes:
        temperature: The temperature.
        top_p: The share of the probability that was sampled from.
        rows: Its rows.
        quality: Their mean quality, 1 (very poor) to 5 (excellent), NaN without labels.
        difficulty: Their mean difficulty, 1 (very easy) to 5 (very hard), NaN without labels.
        distance: Their mean squared distance to the nearest other one, NaN without any.
    """

    temperature: float
    top_p: float
    rows: int
    quality: float
    difficulty: float
    distance: float


@dataclass(frozen=True, slots=True)
class Example:
    """A row to show; its texts are cut.

    Attributes:
        instruction: The first user message.
        response: The answer to it, the first one if several were sampled.
        reason: Why the row is not kept, "" if it is.
        labels: Its labels by column, those that it has.
        sampled: How many were sampled, 0 if the answer is the only one.
    """

    instruction: str
    response: str
    reason: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    sampled: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a dataset's rows are like.

    Attributes:
        name: The dataset's name.
        schema: The name of its schema.
        all: All rows.
        kept: Those that are kept, None if the dataset does not say.
        dropped: Rows that are not kept by their reason, the most frequent first.
        failures: Labels that taggers could not give, by label and reason, the most frequent first.
        settings: What came out at each sampling setting, in order; empty if not recorded.
        tokens_recorded: Whether the dataset says how many tokens its texts have.
        sampled: Rows that quantiles and histograms are of.
        examples: Rows with an instruction, kept ones if the dataset says, in an order by chance; a
            random sample of at most
            `magpie_steps.report.counting.TEXTS_SAMPLE`.
        removed: Some rows that are not kept.
        verbs: The most frequent verbs of the examples' instructions.
        clouds: Where instructions lie on a map, this dataset's first; empty without a map.
    """

    name: str
    schema: str
    all: Group
    kept: Group | None
    dropped: Mapping[str, int]
    failures: Mapping[str, int]
    settings: tuple[Setting, ...]
    tokens_recorded: bool
    sampled: int
    examples: tuple[Example, ...]
    removed: tuple[Example, ...]
    verbs: tuple[Verb, ...] = ()
    clouds: tuple[Cloud, ...] = ()

    @property
    def rows(self) -> int:
        """All rows."""
        return self.all.rows

    @property
    def in_english(self) -> list[str]:
        """The examples' instructions in English, all if the dataset does not say."""
        told = "language" in self.all.labels
        return [
            example.instruction
            for example in self.examples
            if not told or example.labels.get("language") == "EN"
        ]

    @property
    def a_row(self) -> str:
        """How many sampled responses a kept row has, such as "5 a row"; "" without any."""
        found = self.final.number("responses")
        if not found.most:
            return ""
        least = "" if found.least == found.most else f"{found.least:g} to "
        return f"{least}{found.most:g} a row"

    @property
    def final(self) -> Group:
        """The kept rows, or all if the dataset does not say which are kept."""
        return self.all if self.kept is None else self.kept
