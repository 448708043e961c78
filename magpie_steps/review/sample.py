"""Which rows do people look at?

A sample over strata: kept and removed rows apart, each by category and difficulty in the dataset's
own proportions. It depends on the seed and the rows alone, not on their order.

The rows that the machine is least sure of come from each kind of doubt in turn. Kinds are never
added up: a reward's distance and a missing label have no common unit.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

from magpie_steps.labels import Quality
from magpie_steps.reasons import is_recipe_reason
from magpie_steps.review.values import NO_TEXT, NO_UUID, finite

COLUMNS = (
    "uuid",
    "keep",
    "drop_reason",
    "task_category",
    "other_task_category",
    "difficulty",
    "input_quality",
    "instruct_reward",
    "reward_difference",
    "language_score",
    "tag_failures",
)
"""What is read of the rows to choose among them; columns may be missing."""

NEAR_BOUND = "reward_near_bound"
"""The doubt that half of the unsure rows come from: the bound is what a review tries."""

OTHER_DOUBTS = (
    "small_margin",
    "unclear_language",
    "missing_label",
    "several_categories",
    "contradicted_quality",
)
"""The doubts that the other half comes from, the same number of rows each."""

HAS_TEXT = "has_text"
"""Beside them: whether a row has anything to show."""

Stratum = tuple[bool, str, str]
"""Whether the rows are kept, their category and their difficulty."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sample should be.

    Attributes:
        rows: How many rows, at least 1.
        removed_share: Which part of them are rows that the filter removed, 0 to 1; at least one row
            if it is above 0.
        uncertain: Which part of each stratum are the rows that the machine is least sure of, 0 to
            1; the others are chosen by chance. See `doubts`.
        seed: What chance depends on.
        threshold: The reward that the filter asks for, None if it asks for none.
    """

    rows: int
    removed_share: float = 0.2
    uncertain: float = 0.0
    seed: int = 0
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"the sample has {self.rows} rows; give at least 1")
        for name, share in (("removed_share", self.removed_share), ("uncertain", self.uncertain)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; give a part between 0 and 1")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sample.

    Attributes:
        uuids: Its rows.
        rows: How many rows were looked at.
        left_out: Rows that cannot be in a sample, by reason.
    """

    uuids: frozenset[str]
    rows: int
    left_out: Mapping[str, int]


def choose(rows: Iterable[Mapping[str, Any]], plan: Plan) -> Chosen:
    """Choose a sample.

    In memory are at most `plan.rows` ids of each stratum, of unsure rows by each kind of doubt.

    Args:
        rows: All rows with `COLUMNS` and `HAS_TEXT`, gone through once.
        plan: What the sample should be.
    """
    strata: dict[Stratum, _Candidates] = {}
    left_out: Counter[str] = Counter()
    for row in rows:
        if flaw := _flaw(row):
            left_out[flaw] += 1
        else:
            strata.setdefault(_stratum(row), _Candidates(plan)).add(row)
    quotas = _quotas({stratum: found.rows for stratum, found in strata.items()}, plan)
    uuids = frozenset(
        uuid for stratum, quota in quotas.items() for uuid in strata[stratum].drawn(quota)
    )
    looked_at = sum(found.rows for found in strata.values()) + left_out.total()
    return Chosen(uuids, looked_at, dict(left_out))


def doubts(row: Mapping[str, Any], threshold: float | None = None) -> dict[str, float]:
    """Return why the machine is unsure of a row, by kind of doubt; {} if it is sure.

    Numbers of the same kind can be compared, greater ones are greater doubts: less the reward's
    distance from the filter's bound, less the difference of the two answers' rewards, 1 less the
    language's score, and 1 for a label that is missing, a second category that fits or a quality
    that contradicts the decision.

    Args:
        row: The row; a column that it lacks raises no doubt.
        threshold: The reward that the filter asks for, None for none.
    """
    language = finite(row.get("language_score"))
    found = {
        NEAR_BOUND: _nearness(row.get("instruct_reward"), threshold),
        "small_margin": _nearness(row.get("reward_difference"), 0.0),
        "unclear_language": None if language is None or language >= 1 else 1 - language,
        "missing_label": 1.0 if row.get("tag_failures") else None,
        "several_categories": 1.0 if row.get("other_task_category") else None,
        "contradicted_quality": 1.0 if _contradicts(row) else None,
    }
    return {kind: doubt for kind, doubt in found.items() if doubt is not None}


def shares(total: int, sizes: Mapping[Any, int]) -> dict[Any, int]:
    """Return how many of a total each part gets, in proportion to sizes, by largest remainders.

    Args:
        total: What is shared; more than there is shares out all there is.
        sizes: The parts; none gets more than its size.
    """
    there = sum(sizes.values())
    total = min(total, there)
    exact = {part: total * size / there for part, size in sizes.items() if size}
    given = {part: int(share) for part, share in exact.items()}
    order = sorted(exact, key=lambda part: (given[part] - exact[part], str(part)))
    for part in order[: total - sum(given.values())]:
        given[part] += 1
    return given


def _quotas(sizes: Mapping[Stratum, int], plan: Plan) -> dict[Stratum, int]:
    """Return how many rows of each stratum there should be; one side fills up for the other."""
    kept = {stratum: size for stratum, size in sizes.items() if stratum[0]}
    removed = {stratum: size for stratum, size in sizes.items() if not stratum[0]}
    wanted = max(round(plan.rows * plan.removed_share), plan.removed_share > 0)
    from_removed = min(wanted, sum(removed.values()))
    from_kept = min(plan.rows - from_removed, sum(kept.values()))
    if plan.removed_share:
        from_removed = min(plan.rows - from_kept, sum(removed.values()))
    return {**shares(from_kept, kept), **shares(from_removed, removed)}


def _flaw(row: Mapping[str, Any]) -> str:
    uuid = row.get("uuid")
    if not isinstance(uuid, str) or not uuid:
        return NO_UUID
    return "" if row.get(HAS_TEXT, True) else NO_TEXT


def _stratum(row: Mapping[str, Any]) -> Stratum:
    keep = row.get("keep") is not False
    return keep, str(row.get("task_category") or ""), str(row.get("difficulty") or "")


def _chance(seed: int, uuid: str) -> float:
    """Return a number of 0 to 1 that is the same for the same row on every machine."""
    digest = hashlib.blake2b(f"{seed}:{uuid}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _nearness(value: object, point: float | None) -> float | None:
    """Return a number's distance from a point as a negative number, None without either."""
    number = finite(value)
    return None if number is None or point is None else -abs(number - point)


def _contradicts(row: Mapping[str, Any]) -> bool:
    """Return whether a row is kept though its quality is poor, or removed though it is good."""
    try:
        quality = Quality.of(row.get("input_quality"))
    except (ValueError, TypeError):
        return False
    if row.get("keep") is not False:
        return quality <= Quality.POOR
    return quality >= Quality.GOOD and is_recipe_reason(row.get("drop_reason") or "")


class _Candidates:
    """The rows of a stratum that may be drawn: the first by chance, and by each kind of doubt."""

    def __init__(self, plan: Plan) -> None:
        self.rows = 0
        self._plan = plan
        self._by_chance = _Greatest(plan.rows)
        self._by_doubt = {kind: _Greatest(plan.rows) for kind in (NEAR_BOUND, *OTHER_DOUBTS)}

    def add(self, row: Mapping[str, Any]) -> None:
        """Consider a row."""
        self.rows += 1
        chance = _chance(self._plan.seed, row["uuid"])
        self._by_chance.add((chance,), row["uuid"])
        if self._plan.uncertain:
            for kind, doubt in doubts(row, self._plan.threshold).items():
                # Rows of equal doubt are in the order of chance.
                self._by_doubt[kind].add((doubt, chance), row["uuid"])

    def drawn(self, quota: int) -> set[str]:
        """Return so many rows, those that the machine is unsure of before others."""
        found = self._unsure(round(quota * self._plan.uncertain))
        others = (uuid for uuid in self._by_chance.sorted() if uuid not in found)
        return found | set(islice(others, quota - len(found)))

    def _unsure(self, number: int) -> set[str]:
        """Return up to so many rows, one of each kind of doubt in turn, the greatest first."""
        near, *others = (iter(found.sorted()) for found in self._by_doubt.values())
        turns = zip_longest(*(kind for other in others for kind in (near, other)))
        in_turn = dict.fromkeys(uuid for turn in turns for uuid in turn if uuid is not None)
        return set(islice(in_turn, number))


class _Greatest:
    """The ids with the greatest numbers, each once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[tuple[float, ...], str]] = []
        self._there: set[str] = set()

    def add(self, number: tuple[float, ...], uuid: str) -> None:
        """Consider an id; one that comes again counts once."""
        if uuid in self._there:
            return
        self._there.add(uuid)
        heapq.heappush(self._heap, (number, uuid))
        if len(self._heap) > self._most:
            self._there.remove(heapq.heappop(self._heap)[1])

    def sorted(self) -> list[str]:
        """Return the ids, greatest number first."""
        return [uuid for _, uuid in sorted(self._heap, reverse=True)]
