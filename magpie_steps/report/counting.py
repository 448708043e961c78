"""How are a dataset's rows counted in one pass over its files?"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.labels import Category, Difficulty, Level, Quality
from magpie_steps.report.binning import edges_for, histogram
from magpie_steps.report.readings import LABELS, NUMBERS, SEVERAL, Reader, Reading, decoded
from magpie_steps.report.several import Values
from magpie_steps.report.statistics import QUANTILES, Example, Group, Setting, Statistics
from magpie_steps.report.tallies import Floats, LabelTally, NumberTally, Sample

NUMBERS_SAMPLE = 200_000
"""Rows whose numbers are held for quantiles and histograms."""

TEXTS_SAMPLE = 10_000
"""Rows whose texts are held, for verbs, the coverage map and rows to show."""

SHOWN_REMOVED = 5
TEXT_CHARACTERS = 2000
"""A text that is held is cut here; an embedding model reads less than that."""

LABEL_CHARACTERS = 100
"""A label or a reason is cut here."""

SETTINGS = 64
"""So many sampling settings are told apart; rows of those that turn up later are not."""

OTHERS = "(others)"
NO_REASON = "no reason given"

TOGETHER = (("instruct_reward", "base_reward"), ("chosen_score", "rejected_score"))
"""What is drawn over each other."""

_SCALES: Mapping[str, Sequence[str] | None] = {
    "task_category": tuple(Category),
    "difficulty": tuple(Difficulty),
    "input_quality": tuple(Quality),
    "language": None,
    "safety": ("safe", "unsafe"),
}


def statistics_of(name: str, paths: Sequence[Path], seed: int = 0) -> Statistics:
    """Return what the rows of parquet files are like.

    Args:
        name: The dataset's name.
        paths: Its files, in the rows' order.
        seed: Chooses the samples.

    Raises:
        ValueError: If the files have neither instructions nor conversations, or are no parquet.
        OSError: If a file cannot be read.
    """
    reader = Reader(schema_of_files(paths).names)
    counting = _Counting(reader, seed)
    for batch in batches(paths, reader.columns):
        counting.add(reader.read(batch))
    return counting.end(name)


class _Tally:
    """Counts a group's rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.numbers: defaultdict[str, NumberTally] = defaultdict(NumberTally)
        self.labels = {name: LabelTally(scale) for name, scale in _SCALES.items()}
        self.hazards = LabelTally()

    def add(self, reading: Reading, mask: NDArray[np.bool_]) -> None:
        self.rows += int(mask.sum())
        for name, values in reading.numbers.items():
            self.numbers[name].add(values[mask])
        for name, several in reading.several.items():
            self.numbers[name].add(several.inside(mask))
        for name, labels in reading.labels.items():
            self.labels[name].add(_counted(labels.filter(pa.array(mask))))
        self.hazards.add(Counter(reading.hazards.of(mask)).items())

    def end(self, present: Iterable[str], sample: Mapping[str, Floats], edges: Any) -> Group:
        """Return the group; `sample` are the sampled values, `edges` those of histograms."""
        finite = {name: values[np.isfinite(values)] for name, values in sample.items()}
        return Group(
            rows=self.rows,
            numbers={name: tally.end() for name, tally in self.numbers.items()},
            quantiles={
                name: tuple(map(float, np.quantile(values, QUANTILES)))
                for name, values in finite.items()
                if len(values)
            },
            histograms={name: histogram(values, edges[name]) for name, values in finite.items()},
            labels={name: self.labels[name].end() for name in present},
            hazards=_words(self.hazards),
        )


class _Counting:
    """Counts a dataset's rows."""

    def __init__(self, reader: Reader, seed: int) -> None:
        self._reader = reader
        self._chance = np.random.default_rng(seed)
        self._all, self._kept = _Tally(), _Tally()
        self._marked = False
        self._present: dict[str, None] = {}
        self._dropped, self._failures = LabelTally(), LabelTally()
        self._settings: dict[tuple[float, float], _SettingTally] = {}
        self._numbers = Sample(NUMBERS_SAMPLE)
        self._several = {name: _SeveralSample(seed) for name in SEVERAL}
        self._examples, self._removed = Sample(TEXTS_SAMPLE), Sample(SHOWN_REMOVED)

    def add(self, reading: Reading) -> None:
        keep = np.ones(reading.rows, bool) if reading.keep is None else reading.keep
        self._marked = self._marked or reading.keep is not None
        self._present |= dict.fromkeys(reading.labels)
        everything = np.ones(reading.rows, bool)
        self._all.add(reading, everything)
        self._kept.add(reading, keep)
        self._failures.add(Counter(reading.failures.of(everything)).items())
        if reading.reasons is not None:
            gone = reading.reasons.filter(pa.array(~keep))
            self._dropped.add((word or NO_REASON, n) for word, n in _counted(gone))
        self._add_settings(reading)
        keys = self._chance.random(reading.rows)
        self._numbers.add(keys, _matrix(reading, keep))
        for name, several in reading.several.items():
            self._several[name].add(several, keep)
        named = np.isfinite(reading.numbers["instruction_characters"])
        for sample, mask in ((self._examples, keep & named), (self._removed, ~keep)):
            places = np.flatnonzero(mask)
            places = places[sample.places(keys[places])]
            sample.add(keys[places], _examples(reading, places))

    def end(self, name: str) -> Statistics:
        matrix = self._numbers.end(len(NUMBERS) + 1)
        drawn = {name: matrix[:, [at, -1]] for at, name in enumerate(NUMBERS)}
        drawn |= {name: each.sample.end(2) for name, each in self._several.items()}
        # Of each name the values, and whether their rows are kept.
        drawn = {name: each for name, each in drawn.items() if name in self._all.numbers}
        values = {name: each[:, 0] for name, each in drawn.items()}
        of_kept = {name: each[each[:, 1] == 1, 0] for name, each in drawn.items()}
        edges = {name: edges_for(name, _drawn_with(name, values)) for name in values}
        return Statistics(
            name=name,
            schema=self._reader.schema.name,
            all=self._all.end(self._present, values, edges),
            kept=self._kept.end(self._present, of_kept, edges) if self._marked else None,
            dropped=_words(self._dropped),
            failures=_words(self._failures),
            settings=tuple(tally.end() for _, tally in sorted(self._settings.items())),
            tokens_recorded=self._reader.tokens_recorded,
            sampled=len(matrix),
            examples=tuple(self._examples.end(1)[:, 0]),
            removed=tuple(self._removed.end(1)[:, 0]),
        )

    def _add_settings(self, reading: Reading) -> None:
        pairs = np.stack([reading.temperature, reading.top_p], axis=1)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        for temperature, top_p in np.unique(pairs, axis=0).tolist():
            key = (temperature, top_p)
            if key in self._settings or len(self._settings) < SETTINGS:
                tally = self._settings.setdefault(key, _SettingTally(*key))
                tally.add(reading, (reading.temperature == temperature) & (reading.top_p == top_p))


class _SeveralSample:
    """Samples numbers of which a row can have several, whichever parts they come in."""

    def __init__(self, seed: int) -> None:
        self.sample = Sample(NUMBERS_SAMPLE)
        self._chance = np.random.default_rng(seed)

    def add(self, several: Values, keep: NDArray[np.bool_]) -> None:
        kept = keep[several.rows].astype(float)
        keys = self._chance.random(len(several.values))
        self.sample.add(keys, np.stack([several.values, kept], axis=1))


@dataclass(slots=True)
class _SettingTally:
    """Adds up the rows of a sampling setting."""

    temperature: float
    top_p: float
    rows: int = 0
    quality: NumberTally = field(default_factory=NumberTally)
    difficulty: NumberTally = field(default_factory=NumberTally)
    distance: NumberTally = field(default_factory=NumberTally)

    def add(self, reading: Reading, mask: NDArray[np.bool_]) -> None:
        self.rows += int(mask.sum())
        self.quality.add(_ranks(reading, "input_quality", Quality)[mask])
        self.difficulty.add(_ranks(reading, "difficulty", Difficulty)[mask])
        nothing = np.full(reading.rows, np.nan)
        self.distance.add(reading.numbers.get("min_neighbor_distance", nothing)[mask])

    def end(self) -> Setting:
        means = (_mean(tally) for tally in (self.quality, self.difficulty, self.distance))
        return Setting(self.temperature, self.top_p, self.rows, *means)


def _words(tally: LabelTally) -> dict[str, int]:
    """Return rows by word; those of the words that are too many stand together."""
    found = tally.end()
    return {**found.counts, **({OTHERS: found.unknown} if found.unknown else {})}


def _drawn_with(name: str, values: Mapping[str, Floats]) -> Floats:
    """Return the finite values that a histogram's edges are for, with those drawn beside them."""
    names = next((names for names in TOGETHER if name in names), (name,))
    together = np.concatenate([values[each] for each in names if each in values])
    finite: Floats = together[np.isfinite(together)]
    return finite


def _mean(tally: NumberTally) -> float:
    return tally.mean if tally.given else float("nan")


def _ranks(reading: Reading, name: str, scale: type[Level]) -> Floats:
    """Return the rows' ranks on a scale, NaN for those without a label of it."""
    if name not in reading.labels:
        return np.full(reading.rows, np.nan)
    place = pc.index_in(reading.labels[name], pa.array(list(map(str, scale))))
    ranks: Floats = 1 + place.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return ranks


def _counted(texts: Any) -> list[tuple[str | None, int]]:
    """Return each different text of an Arrow array with its number."""
    found = texts.value_counts()
    nulls = found.field("values").is_valid().to_pylist()
    words, numbers = decoded(found.field("values")), found.field("counts").to_pylist()
    return [
        (word[:LABEL_CHARACTERS] if given else None, number)
        for word, number, given in zip(words, numbers, nulls, strict=True)
    ]


def _matrix(reading: Reading, keep: NDArray[np.bool_]) -> Floats:
    """Return the rows' numbers side by side, then whether each is kept."""
    nothing = np.full(reading.rows, np.nan)
    columns = [reading.numbers.get(name, nothing) for name in NUMBERS]
    return np.stack([*columns, keep.astype(float)], axis=1)


def _examples(reading: Reading, places: NDArray[np.intp]) -> NDArray[Any]:
    """Return rows to show, one to a line."""
    taken = pa.array(places)
    said, answered, first = (
        _cut(texts.take(taken))
        for texts in (reading.instruction, reading.response, reading.answers.first())
    )
    counts = reading.answers.counts()[places]
    nothing = pa.nulls(reading.rows, pa.string())
    reasons = _cut((nothing if reading.reasons is None else reading.reasons).take(taken))
    labels = {name: _cut(reading.labels.get(name, nothing).take(taken)) for name in LABELS}
    rows = np.empty((len(places), 1), object)
    for line in range(len(places)):
        given = {name: words[line] for name, words in labels.items() if words[line]}
        sampled = 0 if answered[line] else int(counts[line])
        answer = answered[line] or first[line]
        rows[line, 0] = Example(said[line], answer, reasons[line], given, sampled)
    return rows


def _cut(texts: Any) -> list[str]:
    return [
        text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]}…"
        for text in decoded(texts)
    ]
