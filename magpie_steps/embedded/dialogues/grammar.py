"""How a family of questions is written, read back, answered and judged."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Protocol

Values = Mapping[str, str]

HELD_OUT_SHARE = 10
"""One combination of slot values in this many is never trained on."""

MAX_DRAWS = 1000
"""Draws after which a family counts as wrongly declared; the rarest valid draw is 1 in 20."""


class Slot(Protocol):
    """A place in a phrasing: what may stand there."""

    @property
    def pattern(self) -> str:
        """A regular expression without groups that matches every text of the slot."""

    def draw(self, rng: Random) -> str:
        """Draw one text."""


@dataclass(frozen=True)
class Pool:
    """One of a fixed set of texts."""

    items: tuple[str, ...]

    @property
    def pattern(self) -> str:
        """Longest first, so that no item hides a longer one that it begins."""
        return "|".join(re.escape(item) for item in sorted(self.items, key=len, reverse=True))

    def draw(self, rng: Random) -> str:
        """Draw uniformly."""
        return rng.choice(self.items)


@dataclass(frozen=True)
class Number:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    pattern: str = r"\d+"

    def draw(self, rng: Random) -> str:
        """Draw uniformly."""
        return str(rng.randint(self.low, self.high))


@dataclass(frozen=True)
class Drawn:
    """A text that a function composes: a sentence, a sequence, a word list with one odd word."""

    pattern: str
    compose: Callable[[Random], str]

    def draw(self, rng: Random) -> str:
        """Compose one text."""
        return self.compose(rng)


@dataclass(frozen=True)
class Several:
    """`low` to `high` different draws of one slot, joined by `joint`."""

    slot: Pool | Number
    low: int
    high: int
    joint: str = ", "

    @property
    def pattern(self) -> str:
        """One item, then one or more behind the joint."""
        item = f"(?:{self.slot.pattern})"
        return f"{item}(?:{re.escape(self.joint)}{item})+"

    def draw(self, rng: Random) -> str:
        """Draw the count, then that many different items in random order."""
        wanted = rng.randint(self.low, self.high)
        items: list[str] = []
        while len(items) < wanted:
            item = self.slot.draw(rng)
            if item not in items:
                items.append(item)
        return self.joint.join(items)

    def split(self, text: str) -> list[str]:
        """Split the slot's text into its items."""
        return text.split(self.joint)


@dataclass(frozen=True)
class FollowUp:
    """A later user turn that changes some slots of the turn before and keeps the rest."""

    phrasing: str
    fixed: Mapping[str, str] = field(default_factory=dict)


def _always(_: Values) -> bool:
    return True


def _as_it_is(_: Values, answer: str) -> str:
    return answer


@dataclass(frozen=True)
class Family:
    """Questions of one kind: phrasings with slots, a way to answer, a way to judge an answer.

    Attributes:
        name: Unique name, snake_case.
        category: One of the twelve Magpie categories, as a key of the category prompts.
        phrasings: Texts with `{slot}` places. The first draw picks one uniformly.
        slots: What may stand in each place.
        answer: A correct answer to the question with these values.
        is_correct: Whether an answer is correct. Never raises, whatever the text.
        valid: Which combinations of values make sense.
        follow_ups: Later user turns of the same kind.
        statement: The answer as a sentence that makes sense without its question.
        holds_out: Whether a tenth of the combinations is kept out of training. False for small
            tables of facts, which can only be known and not worked out.
    """

    name: str
    category: str
    phrasings: tuple[str, ...]
    slots: Mapping[str, Slot]
    answer: Callable[[Values, Random], str]
    is_correct: Callable[[Values, str], bool]
    valid: Callable[[Values], bool] = _always
    follow_ups: tuple[FollowUp, ...] = ()
    statement: Callable[[Values, str], str] = _as_it_is
    holds_out: bool = True

    def draw(self, rng: Random, *, held_out: bool = False) -> dict[str, str]:
        """Draw valid values, all from training or all from what is held out."""
        for _ in range(MAX_DRAWS):
            values = {name: slot.draw(rng) for name, slot in self.slots.items()}
            if self.accepts(values) and self.is_held_out(values) == held_out:
                return values
        raise ValueError(
            f"family {self.name!r} gave no valid values in {MAX_DRAWS} draws (held_out={held_out});"
            " loosen `valid` or set holds_out"
        )

    def accepts(self, values: Values) -> bool:
        """Whether these values make a sensible question (numbers in range, order, difference)."""
        return all(
            int(slot.low) <= int(values[name]) <= int(slot.high)
            for name, slot in self.slots.items()
            if isinstance(slot, Number)
        ) and self.valid(values)

    def is_held_out(self, values: Values) -> bool:
        """Whether this combination is kept out of training: a stable hash of its values."""
        if not self.holds_out:
            return False
        key = "|".join([self.name, *(values[name] for name in sorted(self.slots))])
        return hashlib.sha256(key.encode()).digest()[0] % HELD_OUT_SHARE == 0

    def ask(self, values: Values, rng: Random) -> str:
        """The question in one of its phrasings."""
        return rng.choice(self.phrasings).format(**values)

    def read(self, text: str) -> dict[str, str] | None:
        """The values of a question in one of this family's phrasings, or None."""
        for pattern in self._patterns:
            match = pattern.fullmatch(text)
            if match and self.accepts(match.groupdict()):
                return match.groupdict()
        return None

    def recognises(self, text: str) -> bool:
        """Whether a question has one of this family's phrasings, whatever its values."""
        return any(pattern.fullmatch(text) for pattern in self._patterns)

    def follow(self, values: Values, rng: Random) -> tuple[str, dict[str, str]] | None:
        """A follow-up to a question with `values`: its text and the values it now asks about."""
        if not self.follow_ups:
            return None
        for _ in range(MAX_DRAWS):
            follow_up = rng.choice(self.follow_ups)
            fresh = self.draw(rng)
            changed = {name: fresh[name] for name in _places(follow_up.phrasing)}
            merged = {**values, **changed, **follow_up.fixed}
            if merged != dict(values) and self.accepts(merged) and not self.is_held_out(merged):
                return follow_up.phrasing.format(**merged), merged
        return None

    def read_follow_up(self, values: Values, text: str) -> dict[str, str] | None:
        """The values that a follow-up asks about after a turn with `values`, or None."""
        for follow_up, pattern in zip(self.follow_ups, self._follow_up_patterns, strict=True):
            match = pattern.fullmatch(text)
            if match:
                merged = {**values, **match.groupdict(), **follow_up.fixed}
                if self.accepts(merged):
                    return merged
        return None

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [self._compile(phrasing) for phrasing in self.phrasings]

    @cached_property
    def _follow_up_patterns(self) -> list[re.Pattern[str]]:
        return [self._compile(follow_up.phrasing) for follow_up in self.follow_ups]

    def _compile(self, phrasing: str) -> re.Pattern[str]:
        """A phrasing as a pattern: a slot's first place captures, later ones must repeat it."""
        parts: list[str] = []
        seen: set[str] = set()
        for literal, name in _pieces(phrasing):
            parts.append(re.escape(literal))
            if name in seen:
                parts.append(f"(?P={name})")
            elif name:
                parts.append(f"(?P<{name}>{self.slots[name].pattern})")
                seen.add(name)
        return re.compile("".join(parts))


def _pieces(phrasing: str) -> list[tuple[str, str]]:
    """Split `"a {x} b"` into literals, each with the slot name that follows it ("" at the end)."""
    pieces = re.split(r"\{(\w+)\}", phrasing)
    return [
        (pieces[i], pieces[i + 1] if i + 1 < len(pieces) else "") for i in range(0, len(pieces), 2)
    ]


def _places(phrasing: str) -> list[str]:
    return [name for _, name in _pieces(phrasing) if name]
