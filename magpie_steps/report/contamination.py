"""What does a dataset repeat of other datasets, or tell of people?

Its instructions are compared with evaluation sets, whose prompts must not be trained on, and with
public training sets, which a model may have learned by heart: prompted with nothing, it writes what
it was tuned on (arXiv 2510.18554). Three measures: runs of eight words (`magpie_steps.overlap`) and
equality for all rows, nearness of embeddings for a sample, as these find many more.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from magpie_steps import prompt_sets
from magpie_steps.filtering.files import batches, schema_of_files
from magpie_steps.overlap import THRESHOLD, Index, Match
from magpie_steps.personal_data import KINDS, Kind, find, mask
from magpie_steps.report.readings import Reader, decoded

NEAR = 0.95
"""The cosine from which two texts say the same (arXiv 2510.18554)."""

MOST_PROMPTS = 100_000
"""Prompts of a set that are compared, its first; the words of more would take too much memory."""

SAMPLE = 1000
"""Instructions, and prompts of a set, whose embeddings are compared."""

EXAMPLES = 3
"""Rows that are shown of each set, and findings of each kind."""

SHOWN_CHARACTERS = 200

EMBEDDED_CHARACTERS = 300
"""The beginning of each text that is embedded, which bounds the time for long ones."""

PERSONAL_CHARACTERS = 50_000
"""Of each text so much is searched for personal data."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row that overlaps a prompt.

    Attributes:
        row: The row's number in the dataset, from 0.
        instruction: Its instruction, shortened, with personal data masked.
        prompt: The prompt, likewise.
        share: The share of the prompt's words that the instruction repeats, 0 to 1.
    """

    row: int
    instruction: str
    prompt: str
    share: float


@dataclass(frozen=True, slots=True)
class Near:
    """What the embeddings of the texts' first `EMBEDDED_CHARACTERS` tell of a set.

    Attributes:
        rows: Instructions of the sample that are as near as `NEAR` to a prompt.
        of_rows: Instructions in the sample.
        of_prompts: Prompts that they are compared with, a sample if the set has more.
    """

    rows: int
    of_rows: int
    of_prompts: int


@dataclass(frozen=True, slots=True)
class SetOverlap:
    """What a dataset repeats of a set.

    Attributes:
        name: The set's name.
        known: Whether it is a public training set; else an evaluation set.
        prompts: Its prompts that all rows are compared with.
        empty: Its rows without a prompt.
        complete: Whether these are all; else they are its first `MOST_PROMPTS`.
        rows: Rows that repeat more than half of a prompt's words in runs of eight, or are equal.
        kept: Those of them that are kept.
        equal: Rows that are equal to a prompt but for case, punctuation and white space.
        near: What embeddings tell.
        examples: Some of these rows, those that repeat most first.
    """

    name: str
    known: bool
    prompts: int
    empty: int
    complete: bool
    rows: int
    kept: int
    equal: int
    near: Near
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Texts that seem to hold personal data of one kind.

    Attributes:
        kind: The kind.
        instructions: Rows with some in their instruction.
        responses: Rows with some in their response, or in one of several.
        examples: Some of what was found, masked.
    """

    kind: Kind
    instructions: int
    responses: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contamination:
    """What a dataset repeats, and what it tells of people.

    How often rows repeat each other is a statistic of its own, `repeat_count`.

    Attributes:
        rows: Rows that were looked at, all of the dataset's.
        without: Those of them without an instruction.
        sets: What they repeat, the evaluation sets first, in the order they were given.
        personal_data: What was found in their first turns; kinds of which there is none left out.
    """

    rows: int
    without: int
    sets: tuple[SetOverlap, ...]
    personal_data: tuple[PersonalData, ...]


def contamination(
    paths: Sequence[Path],
    sample: Sequence[str],
    *,
    evaluation: Sequence[str] = (),
    known: Sequence[str] = (),
    seed: int = 0,
) -> Contamination:
    """Return what a dataset repeats, and what it tells of people.

    Args:
        paths: The dataset's parquet files, in the rows' order.
        sample: Some of its instructions, in an order by chance; the first `SAMPLE` are embedded.
        evaluation: Evaluation sets: files, folders or ids on the Hub, see `prompt_sets`.
        known: Public training sets, likewise.
        seed: Chooses the sample of a set's prompts.

    Raises:
        FileNotFoundError: If one of the sets is not there.
        ValueError: If one cannot be read or has no prompts, or the dataset has no instructions.
    """
    sets = prompt_sets.named([*evaluation, *known])
    sources = {name: _Source(given, seed) for name, given in sets.items()}
    looking = _Looking(Index({name: source.prompts() for name, source in sources.items()}))
    reader = Reader(schema_of_files(paths).names)
    for batch in batches(paths, reader.columns):
        looking.add(reader.read(batch))
    nears = _near(sample[:SAMPLE], {name: each.sample for name, each in sources.items()})
    return Contamination(
        rows=looking.rows,
        without=looking.without,
        sets=tuple(
            looking.set_overlap(name, source, nears[name], known=source.given not in evaluation)
            for name, source in sources.items()
        ),
        personal_data=tuple(looking.personal_data()),
    )


@dataclass(slots=True)
class _Source:
    """A set's prompts as they pass by, and a random sample of them."""

    given: str
    seed: int
    complete: bool = True
    sample: list[str] = field(default_factory=list)

    def prompts(self) -> Iterator[str]:
        """Yield the prompts that are compared, and sample them (Vitter's algorithm R)."""
        chance = np.random.default_rng(self.seed)
        prompts = prompt_sets.prompts_of(self.given)
        for number, prompt in enumerate(islice(prompts, MOST_PROMPTS)):
            place = number if number < SAMPLE else int(chance.integers(number + 1))
            self.sample[place : place + 1] = [prompt] if place < SAMPLE else []
            yield prompt
        self.complete = next(prompts, None) is None

    def texts(self, numbers: Iterable[int]) -> dict[int, str]:
        """Return some prompts by their number."""
        wanted = frozenset(numbers)
        numbered = enumerate(prompt_sets.prompts_of(self.given)) if wanted else ()
        last = max(wanted, default=-1) + 1
        return {number: text for number, text in islice(numbered, last) if number in wanted}


@dataclass(slots=True)
class _Repeated:
    """The rows that repeat prompts of one set."""

    rows: int = 0
    kept: int = 0
    equal: int = 0
    most: list[tuple[Match, int, str]] = field(default_factory=list)

    def add(self, match: Match, row: int, text: str, *, kept: bool) -> None:
        self.rows += 1
        self.kept += kept
        self.equal += match.equal
        self.most.append((match, row, shortened(text)))
        self.most.sort(key=lambda each: (-each[0].share, each[1]))
        del self.most[EXAMPLES:]


class _Looking:
    """Looks at the rows, a batch at a time."""

    def __init__(self, index: Index) -> None:
        self.rows = self.without = 0
        self._index = index
        self._repeated: defaultdict[str, _Repeated] = defaultdict(_Repeated)
        self._holding: dict[str, Counter[Kind]] = {"instruction": Counter(), "response": Counter()}
        self._masked: defaultdict[Kind, dict[str, None]] = defaultdict(dict)

    def add(self, reading: Any) -> None:
        """Look at a batch's rows."""
        keep = [True] * reading.rows if reading.keep is None else reading.keep.tolist()
        instructions = decoded(reading.instruction)
        responses = [[text] for text in decoded(reading.response)]
        sampled = zip(reading.answers.rows, decoded(reading.answers.texts), strict=True)
        for row, text in sampled:
            responses[row].append(text)
        for instruction, answers, kept in zip(instructions, responses, keep, strict=True):
            self._compare(instruction, kept=kept)
            self._search("instruction", [instruction])
            self._search("response", answers)
            self.without += not instruction.strip()
            self.rows += 1

    def set_overlap(self, name: str, source: _Source, near: Near, *, known: bool) -> SetOverlap:
        """Return what was found of a set."""
        found, size = self._repeated[name], self._index.sizes[name]
        return SetOverlap(
            name=name,
            known=known,
            prompts=size.prompts,
            empty=size.empty,
            complete=source.complete,
            rows=found.rows,
            kept=found.kept,
            equal=found.equal,
            near=near,
            examples=tuple(_examples(found.most, source)),
        )

    def personal_data(self) -> Iterator[PersonalData]:
        """Yield what was found of each kind."""
        for kind in KINDS:
            told, answered = (self._holding[name][kind] for name in ("instruction", "response"))
            if told or answered:
                yield PersonalData(kind, told, answered, tuple(self._masked[kind]))

    def _compare(self, instruction: str, *, kept: bool) -> None:
        for match in self._index.matches(instruction):
            if match.share > THRESHOLD:
                self._repeated[match.name].add(match, self.rows, instruction, kept=kept)

    def _search(self, name: str, texts: Iterable[str]) -> None:
        found = [each for text in texts for each in find(text[:PERSONAL_CHARACTERS])]
        self._holding[name].update({each.kind for each in found})
        for each in found:
            if len(self._masked[each.kind]) < EXAMPLES:
                self._masked[each.kind][each.masked] = None


def shortened(text: str) -> str:
    """Return a text on one line with personal data masked, cut after `SHOWN_CHARACTERS`."""
    line = mask(" ".join(text[:PERSONAL_CHARACTERS].split()))
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"


def _examples(most: Sequence[tuple[Match, int, str]], source: _Source) -> Iterator[Example]:
    prompts = source.texts(match.prompt for match, _, _ in most)
    for match, row, text in most:
        yield Example(row, text, shortened(prompts[match.prompt]), match.share)


def _near(sample: Sequence[str], prompts: Mapping[str, Sequence[str]]) -> dict[str, Near]:
    """Return how many texts of the sample are near a prompt, for each set."""
    if not prompts:
        return {}
    from magpie_steps.engines.embedder import Embedder

    embedder = Embedder()
    embedder.load()
    try:
        rows = embedder.embed(_cut(sample))
        return {name: _near_one(rows, embedder.embed(_cut(p))) for name, p in prompts.items()}
    finally:
        embedder.unload()


def _cut(texts: Sequence[str]) -> list[str]:
    return [text[:EMBEDDED_CHARACTERS] for text in texts]


def _near_one(rows: Any, prompts: Any) -> Near:
    nearest = (rows @ prompts.T).max(axis=1, initial=-1.0)
    return Near(int((nearest >= NEAR).sum()), len(rows), len(prompts))
