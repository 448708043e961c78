"""Which labels can a row have, and in which order do they stand?

Difficulty and quality are levels: "good" is more than "average", though it comes later in the
alphabet. Comparing them as texts is the bug of Magpie Ultra's published filter; these types compare
by rank, and refuse what is no level.
"""

from enum import StrEnum
from typing import Any, Self


class Level(StrEnum):
    """A label of an ordered scale, lowest first; its text is what rows carry.

    Compares by rank with other levels of its scale and with their texts. A text that is no level of
    the scale raises a ValueError that lists the levels, another scale's level a TypeError.
    """

    @property
    def rank(self) -> int:
        """The place on the scale: 1 is the lowest, as in the paper's figures."""
        return list(type(self)).index(self) + 1

    @classmethod
    def of(cls, text: Any) -> Self:
        """Return the level with this text, which must be written as rows carry it.

        Raises:
            ValueError: there is no such level.
        """
        if isinstance(text, Level) and not isinstance(text, cls):
            raise TypeError(f"{text!r} is a level of another scale than {cls.__name__}")
        try:
            return cls(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is no {cls.__name__.lower()}; the levels are, lowest first,"
                f" {', '.join(cls)}"
            ) from None

    def __lt__(self, other: object) -> bool:
        return self.rank < self.of(other).rank

    def __le__(self, other: object) -> bool:
        return self.rank <= self.of(other).rank

    def __gt__(self, other: object) -> bool:
        return self.rank > self.of(other).rank

    def __ge__(self, other: object) -> bool:
        return self.rank >= self.of(other).rank


class Difficulty(Level):
    """How hard a request is to answer (the paper's five levels, section 3.2)."""

    VERY_EASY = "very easy"
    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"
    VERY_HARD = "very hard"


class Quality(Level):
    """How clear, specific and coherent a request is (the paper's five levels, section 3.2)."""

    VERY_POOR = "very poor"
    POOR = "poor"
    AVERAGE = "average"
    GOOD = "good"
    EXCELLENT = "excellent"


class Category(StrEnum):
    """What kind of task a request is (the paper's twelve, figure 9)."""

    INFORMATION_SEEKING = "Information seeking"
    REASONING = "Reasoning"
    PLANNING = "Planning"
    EDITING = "Editing"
    CODING_DEBUGGING = "Coding & Debugging"
    MATH = "Math"
    ROLE_PLAYING = "Role playing"
    DATA_ANALYSIS = "Data analysis"
    CREATIVE_WRITING = "Creative writing"
    ADVICE_SEEKING = "Advice seeking"
    BRAINSTORMING = "Brainstorming"
    OTHERS = "Others"
