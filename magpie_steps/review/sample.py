"""Which rows do people look at?

A sample over strata: kept and removed rows apart, each by category and difficulty in the dataset's
own proportions. It depends on the seed and the rows alone, not on their order.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
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
            1; the others are chosen by chance.
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
    """Choose a sample; in memory are at most `plan.rows` ids of each stratum, twice.

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


def uncertainty(row: Mapping[str, Any], threshold: float | None = None) -> float:
    """Return how unsure the machine is of a row, 0 for sure; for comparing rows.

    The sum of doubts of 0 to 1 each: the reward is near the filter's threshold, the response is
    hardly better than the base response, the language is not clear, a label is missing, several
    categories fit, and the quality label contradicts the decision.

    Args:
        row: The row; a column that it lacks raises no doubt.
        threshold: The reward that the filter asks for, None for none.
    """
    language = finite(row.get("language_score"))
    return (
        _nearness(row.get("instruct_reward"), threshold)
        + _nearness(row.get("reward_difference"), 0.0)
        + (0.0 if language is None else 1.0 - language)
        + bool(row.get("tag_failures"))
        + 0.5 * bool(row.get("other_task_category"))
        + _contradiction(row)
    )


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


def _nearness(value: object, point: float | None) -> float:
    """Return 1 at a point, 1/2 at a distance of 1, towards 0 far away; 0 without either."""
    number = finite(value)
    return 0.0 if number is None or point is None else 1.0 / (1.0 + abs(number - point))


def _contradiction(row: Mapping[str, Any]) -> float:
    """Return 1 for a kept row of poor quality or one of good quality that the recipe removed."""
    try:
        good = Quality.of(row.get("input_quality")) >= Quality.GOOD
        poor = Quality.of(row.get("input_quality")) <= Quality.POOR
    except (ValueError, TypeError):
        return 0.0
    if row.get("keep") is not False:
        return float(poor)
    return float(good and is_recipe_reason(row.get("drop_reason") or ""))


class _Candidates:
    """The rows of a stratum that may be drawn: the first by chance, the first by doubt."""

    def __init__(self, plan: Plan) -> None:
        self.rows = 0
        self._plan = plan
        self._by_chance = _Greatest(plan.rows)
        self._by_doubt = _Greatest(plan.rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Consider a row."""
        self.rows += 1
        chance = _chance(self._plan.seed, row["uuid"])
        self._by_chance.add(chance, row["uuid"])
        if self._plan.uncertain:
            # Rows of equal doubt are in the order of chance.
            doubt = uncertainty(row, self._plan.threshold) + chance * 1e-9
            self._by_doubt.add(doubt, row["uuid"])

    def drawn(self, quota: int) -> set[str]:
        """Return so many rows, the most doubtful ones before others."""
        found = set(self._by_doubt.sorted()[: round(quota * self._plan.uncertain)])
        others = (uuid for uuid in self._by_chance.sorted() if uuid not in found)
        return found | set(islice(others, quota - len(found)))


class _Greatest:
    """The ids with the greatest numbers, each once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, str]] = []
        self._there: set[str] = set()

    def add(self, number: float, uuid: str) -> None:
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
