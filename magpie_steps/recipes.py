"""Which filters are there?

A recipe is data: rules in order and, last, the longest responses of what is left. `RECIPES` has the
published ones. Where the paper and a dataset's card disagree (rewards above -12 or of at least -10)
there is one of each.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from magpie_steps import columns, reasons
from magpie_steps.rules import (
    FewerNewlines,
    IsTrue,
    LevelAtLeast,
    NotEndingWith,
    NotRepeated,
    NumberAbove,
    NumberAtLeast,
    OneOf,
    Row,
    Rule,
    check_settings,
    is_number,
    rule_as_dict,
    rule_from_dict,
)

PAPER = "Magpie paper (arXiv 2406.08464v2)"
TAU_1 = -12.0
"""The paper's bound of the reward (Table 5)."""
TAU_2 = 0.0
"""The paper's bound of the reward difference (Table 5)."""
MOST_ROWS = 10**12
"""More rows than any dataset has: a larger number is a mistake."""
LONGEST = "longest"
"""The word of the last operation in drop reasons."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the longest responses that comes from rows of one kind.

    Attributes:
        rule: What these rows fulfil.
        share: The part, above 0, at most 1.
    """

    rule: Rule
    share: float

    def __post_init__(self) -> None:
        if not is_number(self.share) or not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share!r}; give a number above 0, at most 1")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A filter.

    Attributes:
        name: A word of letters, digits, dots and dashes, also for a folder's name.
        rules: What a row must fulfil, in order; the first that it fails is its drop reason.
        longest: How many rows to keep of those that fulfil all rules, the ones with the longest
            responses; None for all.
        shares: From which rows these come, and in which parts; empty for any. A part that has too
            few rows is not filled up from the others, and a row that is in none is not kept.
        source: Where the recipe was published.
        description: What is to be known about it.
    """

    name: str
    rules: tuple[Rule, ...]
    longest: int | None = None
    shares: tuple[Share, ...] = ()
    source: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "source", "description"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"{field} is {getattr(self, field)!r}; give a text")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}; use letters, digits, dots, dashes")
        words = [LONGEST, *(rule.name for rule in self.rules)]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise ValueError(
                f"two rules of the recipe {self.name} have the word {twice[0]!r} in drop reasons;"
                " leave one out"
            )
        self._check_longest()

    def _check_longest(self) -> None:
        if self.longest is None:
            if self.shares:
                raise ValueError("shares are parts of the longest responses; give longest as well")
            return
        whole = isinstance(self.longest, int) and not isinstance(self.longest, bool)
        if not whole or not 1 <= self.longest <= MOST_ROWS:
            raise ValueError(
                f"longest is {self.longest!r}; give a whole number of at least 1, at most"
                f" {MOST_ROWS:,}"
            )
        total = sum(share.share for share in self.shares)
        if total > 1 + 1e-9:
            raise ValueError(f"the shares add up to {total:g}; they may be 1 together")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the recipe reads, besides the response's length."""
        read = [name for rule in self.rules for name in rule.columns]
        shared = [name for share in self.shares for name in share.rule.columns]
        return tuple(dict.fromkeys([*read, *shared]))

    def demands(self) -> list[str]:
        """Return what the recipe demands, in words and in order."""
        texts = [rule.text for rule in self.rules]
        if self.longest is None:
            return texts
        parts = [f"{part.share:.0%} of them where {part.rule.text}" for part in self.shares]
        return [*texts, ", ".join([f"the {self.longest:,} longest responses", *parts])]

    def drop_reason(self, row: Row) -> str:
        """Return the drop reason of the first rule that the row fails, "" if it fails none."""
        return next((reasons.recipe_reason(r.name) for r in self.rules if r.fails(row)), "")

    def failing(self, row: Row) -> list[str]:
        """Return the words of all rules that the row fails, in order."""
        return [rule.name for rule in self.rules if rule.fails(row)]

    def part(self, row: Row) -> int:
        """Return which of the shares the row belongs to, -1 for none; 0 if there are no shares."""
        if not self.shares:
            return 0
        parts = (place for place, s in enumerate(self.shares) if not s.rule.fails(row))
        return next(parts, -1)

    def quotas(self) -> list[int]:
        """Return how many of the longest responses each part has at most."""
        if self.longest is None:
            return []
        ends, total = [0], 0.0
        for share in [part.share for part in self.shares] or [1.0]:
            total += share
            ends.append(round(self.longest * total))
        return [end - start for start, end in pairwise(ends)]

    def without(self, *names: str) -> "Recipe":
        """Return the recipe without the rules and shares that read any of these columns.

        Raises:
            ValueError: If there is no such column.
        """
        absent = {columns.described(name).name for name in names}
        rules = tuple(rule for rule in self.rules if absent.isdisjoint(rule.columns))
        shares = tuple(s for s in self.shares if absent.isdisjoint(s.rule.columns))
        return replace(self, rules=rules, shares=shares)

    def with_longest(self, longest: int | None) -> "Recipe":
        """Return the recipe with another number of longest responses; None leaves it as it is."""
        return self if longest is None else replace(self, longest=longest)

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as YAML can hold it."""
        return {
            "name": self.name,
            "rules": [rule_as_dict(rule) for rule in self.rules],
            "longest": self.longest,
            "shares": [
                {"rule": rule_as_dict(share.rule), "share": share.share} for share in self.shares
            ],
            "source": self.source,
            "description": self.description,
        }


def recipe_from_dict(data: object) -> Recipe:
    """Return the recipe that `Recipe.as_dict` wrote; all but name and rules may be left out.

    Raises:
        ValueError: If something is missing, unknown or wrong.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"a recipe is {data!r}; write it as a name and rules")
    check_settings(Recipe, data, "a recipe")
    rules = [rule_from_dict(rule) for rule in _list(data["rules"], "rules")]
    shares = [_share(share) for share in _list(data.get("shares") or [], "shares")]
    return Recipe(**{**data, "rules": tuple(rules), "shares": tuple(shares)})


def recipe_named(name: str) -> Recipe:
    """Return a published recipe.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; the recipes are {', '.join(RECIPES)}")
    return RECIPES[name]


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{what} are {value!r}; write them as a list")
    return list(value)


def _share(data: object) -> Share:
    if not isinstance(data, Mapping):
        raise ValueError(f"a share is {data!r}; write it as a rule and a share")
    check_settings(Share, data, "a share")
    return Share(rule_from_dict(data["rule"]), data["share"])


_DISTANT = NumberAbove("min_neighbor_distance", 0.0)
_REWARD = NumberAbove("instruct_reward", TAU_1)
_GAIN = NumberAbove("reward_difference", TAU_2)
_CARD_REWARD = NumberAtLeast("instruct_reward", -10.0)
_GOOD = LevelAtLeast("input_quality", "good")
_AVERAGE = LevelAtLeast("input_quality", "average")
_EASY = LevelAtLeast("difficulty", "easy")
_MEDIUM = LevelAtLeast("difficulty", "medium")
_COMPLETE = (NotRepeated(), NotEndingWith())
_FEW_LINES = FewerNewlines(5)

_PUBLISHED = (
    Recipe(
        "air",
        (_GOOD, _MEDIUM, _DISTANT, _GAIN),
        longest=300_000,
        source=f"{PAPER}, Table 5, Filter for Air",
        description="A distance above 0 only removes the exact copies, all of them.",
    ),
    Recipe(
        "pro",
        (_AVERAGE, _DISTANT, _REWARD),
        longest=300_000,
        source=f"{PAPER}, Table 5, Filter for Pro",
    ),
    Recipe(
        "pro-filter2",
        (_GOOD, _EASY, _DISTANT, _REWARD),
        longest=300_000,
        source=f"{PAPER}, Table 5, Filter2 for Pro",
    ),
    Recipe(
        "pro-filter3",
        (_DISTANT, _REWARD),
        longest=300_000,
        source=f"{PAPER}, Table 5, Filter3 for Pro",
    ),
    Recipe(
        "pro-filter4",
        (_GOOD, _EASY, _DISTANT, _GAIN),
        longest=300_000,
        source=f"{PAPER}, Table 5, Filter4 for Pro",
    ),
    Recipe(
        "pro-filter5",
        (_GOOD, _EASY, _DISTANT, _REWARD),
        source=f"{PAPER}, Table 5, Filter5 for Pro",
        description="All that fulfil the rules: 338K rows of Pro.",
    ),
    Recipe(
        "pro-filter6",
        (_EASY, _DISTANT, _REWARD),
        longest=200_000,
        shares=(
            Share(OneOf("difficulty", ("easy",)), 0.5),
            Share(_MEDIUM, 0.5),
        ),
        source=f"{PAPER}, Table 5, Filter6 for Pro",
        description="Half of the rows are easy, half are harder.",
    ),
    Recipe(
        "pro-card",
        (_AVERAGE, _CARD_REWARD, *_COMPLETE),
        longest=300_000,
        source="card of Magpie-Pro-300K-Filtered",
        description="Of rows that repeat each other the earliest is kept.",
    ),
    Recipe(
        "air-card",
        (_GOOD, _MEDIUM, _GAIN, *_COMPLETE),
        longest=300_000,
        source="card of Magpie-Air-300K-Filtered, as far as it is known",
        description="Quality, difficulty and length are the card's. The reward difference is from"
        " the paper's Table 5; how repeats and unfinished instructions are told is from the card of"
        " Magpie-Pro-300K-Filtered.",
    ),
    Recipe(
        "pro-mt-card",
        (_GOOD, _EASY, _CARD_REWARD, *_COMPLETE),
        longest=300_000,
        source="card of Magpie-Pro-MT-300K-v0.1, as far as it is known",
        description="First turns of two. Quality and difficulty are the card's; the other rules are"
        " from the card of Magpie-Pro-300K-Filtered. Rows may be in both datasets.",
    ),
    Recipe(
        "llama-3.1-pro-500k",
        (_GOOD, _CARD_REWARD, *_COMPLETE, _FEW_LINES),
        longest=500_000,
        source="card of Magpie-Llama-3.1-Pro-500K, as far as it is known",
        description="Quality, newlines and length are the card's; the other rules are from the card"
        " of Magpie-Llama-3.3-Pro-500K-Filtered.",
    ),
    Recipe(
        "llama-3.3-pro-500k",
        (_GOOD, _CARD_REWARD, *_COMPLETE, _FEW_LINES),
        longest=500_000,
        source="card of Magpie-Llama-3.3-Pro-500K-Filtered, as far as it is known",
        description="The quality is from the card of Magpie-Llama-3.1-Pro-500K.",
    ),
    Recipe(
        "qwen2-pro-200k-chinese",
        (_AVERAGE, _CARD_REWARD, OneOf("language", ("ZH",)), *_COMPLETE),
        longest=200_000,
        source="card of Magpie-Qwen2-Pro-200K-Chinese",
        description="The card once said a quality of at least good, and was corrected.",
    ),
    Recipe(
        "qwen2-pro-200k-english",
        (_AVERAGE, _CARD_REWARD, OneOf("language", ("EN",)), *_COMPLETE),
        longest=200_000,
        source="card of Magpie-Qwen2-Pro-200K-English",
    ),
    Recipe(
        "notebook",
        (_GOOD, NumberAbove("instruct_reward", -10.0), NotEndingWith(), NotRepeated()),
        longest=300_000,
        source="Magpie repository, data_sft/data_filter.ipynb",
        description="Probably how Magpie-Qwen2-Pro-300K-Filtered was made.",
    ),
    Recipe(
        "dpo",
        (_MEDIUM, _GOOD, NumberAtLeast("instruct_reward", -5.0)),
        source="Magpie repository, issue 36, on Magpie-Llama-3.1-Pro-DPO-100K",
        description="100K rows were then drawn by hand, with a number for each category. These"
        " numbers are not published in full and left out here.",
    ),
    Recipe(
        "ultra",
        (IsTrue("safe"), NotRepeated(), _GOOD, _EASY, NumberAtLeast("instruct_reward", 0.1)),
        longest=500_000,
        source="what the filter of Magpie Ultra 1.0 intends; the levels and the bound are ours",
        description="Its thresholds are not published. The bound of the reward is for ArmoRM, which"
        " gives Magpie's example pairs 0.088 to 0.168. Levels are compared by rank, not by the"
        " alphabet, and one row of each group of repeats is kept. 500,000 is the size of its larger"
        " subset; length is in characters, not in tokens.",
    ),
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _PUBLISHED}
"""Every published recipe by its name."""
