"""What can a filter recipe ask of a row?

A rule is a small value, so that a recipe can be printed, compared and written as YAML. A row that
lacks what a rule reads fails it: nothing passes because it was not looked at. The same rules on
whole columns are in `magpie_steps.filtering.masks`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from math import isfinite
from numbers import Real
from typing import Any, ClassVar, TypeGuard

from magpie_steps import columns
from magpie_steps.labels import Category, Difficulty, Level, Quality

Row = Mapping[str, Any]

LEVELS: Mapping[str, type[Level]] = {"difficulty": Difficulty, "input_quality": Quality}
"""The columns that hold a level, each with its scale."""

WHITE_SPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
"""Every character that Python strips, named so that Arrow strips the same ones."""

_WORDS = {
    "input_quality": "quality",
    "instruct_reward": "reward",
    "min_neighbor_distance": "distance",
}
"""The words of the paper's Table 5 for columns, as drop reasons carry them."""


@dataclass(frozen=True, slots=True)
class Rule(ABC):
    """What a row must fulfil.

    Attributes:
        kind: The word for rules of this kind in a dict or in YAML.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """The rule's word in drop reasons; a recipe has each word once."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads."""

    @property
    @abstractmethod
    def text(self) -> str:
        """What the rule demands, in words."""

    @abstractmethod
    def _accepts(self, row: Row) -> bool:
        """Return whether a row that has the columns fulfils the rule."""

    def fails(self, row: Row) -> bool:
        """Return whether the row does not fulfil the rule, or lacks a column that it reads."""
        return any(name not in row for name in self.columns) or not self._accepts(row)


@dataclass(frozen=True, slots=True)
class ColumnRule(Rule):
    """A rule on the value of one column.

    Attributes:
        column: The column.
    """

    column: str

    @property
    def name(self) -> str:
        """The rule's word in drop reasons."""
        return _WORDS.get(self.column, self.column)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads."""
        return (self.column,)


@dataclass(frozen=True, slots=True)
class LevelAtLeast(ColumnRule):
    """The difficulty or the quality is at least a level, by its rank on the scale.

    A row without a label, or with one that is not of the scale, fails.

    Attributes:
        column: "difficulty" or "input_quality".
        least: The lowest level that passes.
    """

    kind = "level_at_least"
    least: str

    def __post_init__(self) -> None:
        _check_column(self.column, LEVELS)
        object.__setattr__(self, "least", LEVELS[self.column].of(self.least).value)

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return f"{self.column} is at least {self.least}"

    @property
    def accepted(self) -> tuple[str, ...]:
        """The levels that pass, lowest first."""
        return _from(self.column, self.least)

    def _accepts(self, row: Row) -> bool:
        return _is_one_of(row[self.column], self.accepted)


@dataclass(frozen=True, slots=True)
class NumberAbove(ColumnRule):
    """A number is greater than a bound; NaN, None and what is no number fail.

    Attributes:
        column: A column of numbers.
        bound: The bound, which itself fails.
    """

    kind = "number_above"
    bound: float

    def __post_init__(self) -> None:
        _check_column(self.column, _columns_of("float64", "int64"))
        object.__setattr__(self, "bound", _number(self.bound))

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return f"{self.column} > {self.bound:g}"

    def _accepts(self, row: Row) -> bool:
        value = row[self.column]
        return is_number(value) and float(value) > self.bound


@dataclass(frozen=True, slots=True)
class NumberAtLeast(ColumnRule):
    """A number is greater than a bound or equal to it; NaN, None and what is no number fail.

    Attributes:
        column: A column of numbers.
        bound: The least number that passes.
    """

    kind = "number_at_least"
    bound: float

    def __post_init__(self) -> None:
        _check_column(self.column, _columns_of("float64", "int64"))
        object.__setattr__(self, "bound", _number(self.bound))

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return f"{self.column} >= {self.bound:g}"

    def _accepts(self, row: Row) -> bool:
        value = row[self.column]
        return is_number(value) and float(value) >= self.bound


@dataclass(frozen=True, slots=True)
class NotRepeated(Rule):
    """No other row stands for the instruction: of near ones only the one that does passes."""

    kind = "not_repeated"

    @property
    def name(self) -> str:
        """The rule's word in drop reasons."""
        return "repeated"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads."""
        return ("min_similar_uuid", "uuid")

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return "min_similar_uuid is empty or the row's own uuid"

    def _accepts(self, row: Row) -> bool:
        similar = row["min_similar_uuid"]
        return similar is None or (isinstance(similar, str) and similar in ("", row["uuid"]))


@dataclass(frozen=True, slots=True)
class NotEndingWith(Rule):
    """The instruction does not end with a text, as an unfinished one ends with a colon.

    White space at the instruction's end is ignored. A row without an instruction fails.

    Attributes:
        ending: The text, by default ":".
    """

    kind = "not_ending_with"
    ending: str = ":"

    def __post_init__(self) -> None:
        if not isinstance(self.ending, str) or self.ending.rstrip(WHITE_SPACE) == "":
            raise ValueError(f"ending is {self.ending!r}; give a text such as ':'")
        if self.ending != self.ending.rstrip(WHITE_SPACE):
            raise ValueError(
                f"ending is {self.ending!r}, but white space at an instruction's end is ignored;"
                " leave it out at the end"
            )

    @property
    def name(self) -> str:
        """The rule's word in drop reasons."""
        return "incomplete"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads."""
        return ("instruction",)

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return f"instruction does not end with {self.ending!r}"

    def _accepts(self, row: Row) -> bool:
        text = row["instruction"]
        return isinstance(text, str) and not text.rstrip(WHITE_SPACE).endswith(self.ending)


@dataclass(frozen=True, slots=True)
class FewerNewlines(Rule):
    """The instruction has fewer newlines than a bound, unless it is of one category.

    A row without an instruction fails.

    Attributes:
        below: The least number of newlines that fails, at least 1.
        except_category: The category of which any number passes, by default "Coding & Debugging";
            "" for none.
    """

    kind = "fewer_newlines"
    below: int
    except_category: str = Category.CODING_DEBUGGING.value

    def __post_init__(self) -> None:
        if isinstance(self.below, bool) or not isinstance(self.below, int) or self.below < 1:
            raise ValueError(f"below is {self.below!r}; give a whole number of at least 1")
        categories = [category.value for category in Category]
        if self.except_category not in ("", *categories):
            raise ValueError(
                f"there is no category {self.except_category!r}; the categories are"
                f' {", ".join(categories)}, and "" is for none'
            )

    @property
    def name(self) -> str:
        """The rule's word in drop reasons."""
        return "newlines"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads."""
        return ("instruction", "task_category") if self.except_category else ("instruction",)

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        demand = f"instruction has fewer than {self.below} newlines"
        if not self.except_category:
            return demand
        return f"{demand} or task_category is {self.except_category}"

    def _accepts(self, row: Row) -> bool:
        text = row["instruction"]
        if not isinstance(text, str):
            return False
        excepted = bool(self.except_category) and row["task_category"] == self.except_category
        return excepted or text.count("\n") < self.below


@dataclass(frozen=True, slots=True)
class OneOf(ColumnRule):
    """A text is one of some.

    Attributes:
        column: A column of texts.
        values: The texts that pass.
    """

    kind = "one_of"
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_column(self.column, _columns_of("string"))
        object.__setattr__(self, "values", _texts(self.values))

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return f"{self.column} is {' or '.join(self.values)}"

    def _accepts(self, row: Row) -> bool:
        return _is_one_of(row[self.column], self.values)


@dataclass(frozen=True, slots=True)
class IsTrue(ColumnRule):
    """A flag is set.

    Attributes:
        column: A column of flags, such as "safe".
    """

    kind = "is_true"

    def __post_init__(self) -> None:
        _check_column(self.column, _columns_of("bool"))

    @property
    def text(self) -> str:
        """What the rule demands, in words."""
        return f"{self.column} is true"

    def _accepts(self, row: Row) -> bool:
        return row[self.column] is True


KINDS: Mapping[str, type[Rule]] = {
    kind.kind: kind
    for kind in (
        LevelAtLeast,
        NumberAbove,
        NumberAtLeast,
        NotRepeated,
        NotEndingWith,
        FewerNewlines,
        OneOf,
        IsTrue,
    )
}
"""Every kind of rule by its word."""


def rule_as_dict(rule: Rule) -> dict[str, Any]:
    """Return a rule as YAML can hold it: its kind and its settings."""
    settings = asdict(rule).items()
    return {"kind": rule.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in settings}


def rule_from_dict(data: object) -> Rule:
    """Return the rule that `rule_as_dict` wrote.

    Raises:
        ValueError: If there is no such kind, or a setting is missing, unknown or wrong.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"a rule is {data!r}; write it as a kind and its settings: {_usage()}")
    settings = {name: value for name, value in data.items() if name != "kind"}
    kind = KINDS.get(str(data.get("kind")))
    if kind is None:
        raise ValueError(f"there is no rule of the kind {data.get('kind')!r}; write {_usage()}")
    check_settings(kind, settings, f"the rule {kind.kind}")
    return kind(**settings)


def check_settings(kind: type, settings: Mapping[Any, Any], what: str) -> None:
    """Check that a dataclass can be built from these settings.

    Args:
        kind: The dataclass.
        settings: Values by name.
        what: What is built, for the error.

    Raises:
        ValueError: If one that it needs is missing, or one is unknown.
    """
    known = [field.name for field in fields(kind)]
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(
            f"{what} has no {unknown[0]!r}; it has {', '.join(known) or 'no settings'}"
        )
    if missing := [name for name in needed if name not in settings]:
        raise ValueError(f"{what} lacks {missing[0]!r}; it needs {', '.join(needed)}")


def _usage() -> str:
    """Return every kind of rule with its settings."""
    kinds = (", ".join(["kind: " + word, *_settings(kind)]) for word, kind in KINDS.items())
    return "; ".join(f"{{{each}}}" for each in kinds)


def _settings(kind: type) -> Iterable[str]:
    return (f"{field.name}: ..." for field in fields(kind))


@cache
def _from(column: str, least: str) -> tuple[str, ...]:
    """Return the levels from one up; kept, as it is asked for every row."""
    scale = LEVELS[column]
    return tuple(level.value for level in scale if level >= scale.of(least))


def _columns_of(*types: str) -> tuple[str, ...]:
    return tuple(column.name for column in columns.COLUMNS if column.type in types)


def _check_column(name: object, allowed: Iterable[str]) -> None:
    if name not in tuple(allowed):
        raise ValueError(
            f"such a rule cannot read the column {name!r}; it reads {', '.join(allowed)}"
        )


def _texts(values: object) -> tuple[str, ...]:
    """Return several texts as a tuple; refuse what is none, and a list without any."""
    given = tuple(values) if isinstance(values, list | tuple) else ()
    if not given or not all(isinstance(value, str) for value in given):
        raise ValueError(
            f"values are {values!r}; give a list of texts, in YAML in quotes where they could be"
            ' read as something else, such as "NO"'
        )
    return given


def _number(value: object) -> float:
    if not is_number(value) or not isfinite(value):
        raise ValueError(f"bound is {value!r}; give a finite number")
    return float(value)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number, NumPy's included; no flag, and none beyond a float's."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _is_one_of(value: object, accepted: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in accepted
