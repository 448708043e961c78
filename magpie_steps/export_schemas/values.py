"""How are a published column's values computed from our columns?

Each function here takes a record batch of our rows and the name of a column, and returns an Arrow
array. What a row does not have is null, as in the published datasets; our files write it as "", NaN
or an empty list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from magpie_steps.conversation import ASSISTANT, SYSTEM, USER, Message
from magpie_steps.filtering.origins import as_numbers, as_texts, is_numeric
from magpie_steps.safety import read_verdict

How = Callable[[Any, str], Any]

TEXT = pa.string()
MESSAGES = pa.list_(pa.struct([("content", TEXT), ("role", TEXT)]))
CONVERSATIONS = pa.list_(pa.struct([("from", TEXT), ("value", TEXT)]))
SPEAKERS = {SYSTEM: "system", USER: "human", ASSISTANT: "gpt"}
"""ShareGPT's names of the roles."""

FIRST_TURN = {USER: "instruction", ASSISTANT: "response"}
"""Our columns of the first turn."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a published dataset.

    Attributes:
        name: Its name.
        type: Its Arrow type.
        how: What computes it.
        source: Our column that it is computed from, a struct's field behind a dot; "" for none.
        beside: Our other columns that `how` reads.
    """

    name: str
    type: Any
    how: How
    source: str = ""
    beside: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Our columns that have to be read."""
        return (self.source.partition(".")[0], *self.beside)

    def values(self, batch: Any) -> Any:
        """Return the column for a record batch of our rows.

        Raises:
            ValueError: If our column holds something that it cannot be computed from.
        """
        try:
            return self.how(batch, self.source).cast(self.type)
        except pa.ArrowException as error:
            raise ValueError(
                f"{self.name} cannot be made of the column {self.source}: {error}; export a dataset"
                " whose columns have the types of magpie-steps"
            ) from None


def nothing(batch: Any, source: str) -> Any:
    """Return nulls."""
    return pa.nulls(len(batch))


def text(batch: Any, source: str) -> Any:
    """Return texts."""
    texts = _texts(batch, source)
    return pc.if_else(pc.equal(texts, ""), None, texts)


def number(batch: Any, source: str) -> Any:
    """Return finite numbers."""
    numbers = _numbers(batch, source)
    return pa.array(numbers, mask=~np.isfinite(numbers))


def length(batch: Any, source: str) -> Any:
    """Return the lengths of texts in characters, 0 without a text."""
    return pc.utf8_length(_texts(batch, source)).fill_null(0)


def compared_count(batch: Any, source: str) -> Any:
    """Return whole numbers of the rows that were compared with others."""
    numbers = _numbers(batch, source)
    compared = np.isfinite(numbers) & np.isfinite(_numbers(batch, "min_neighbor_distance"))
    return pa.array(np.where(compared, numbers, 0).astype(np.int64), mask=~compared)


def other_tags(batch: Any, source: str) -> Any:
    """Return lists of categories of the rows that have a category."""
    tagged = pc.is_valid(text(batch, "task_category"))
    return pc.if_else(tagged, _column(batch, source), None)


def input_configs(batch: Any, source: str) -> Any:
    """Return how instructions were sampled, as Magpie-Align writes it; it never has a seed."""
    given = _column(batch, source)
    fields = {
        "temperature": number(batch, f"{source}.temperature"),
        "top_p": number(batch, f"{source}.top_p"),
        "input_generator": text(batch, f"{source}.input_generator"),
        "seed": pa.nulls(len(batch)),
        "pre_query_template": text(batch, f"{source}.pre_query_template"),
    }
    return pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=pc.is_null(given))


def guard_2_answer(batch: Any, source: str) -> Any:
    """Return Llama Guard 2's verdicts as it writes them: safe, or unsafe and categories' codes."""
    return _translated(_texts_of_guard(batch, source, 2), _guard_answer, TEXT)


def is_safe(batch: Any, source: str) -> Any:
    """Return verdicts as flags."""
    return _translated(_texts(batch, source), _is_safe, pa.bool_())


def guard_3_hazard(batch: Any, source: str) -> Any:
    """Return the code of Llama Guard 3's first category that an unsafe row falls into."""
    return _translated(_texts_of_guard(batch, source, 3), _hazard, TEXT)


def guard_metadata(batch: Any, source: str) -> Any:
    """Return what the guard model wrote, as distilabel keeps it."""
    answers = text(batch, source)
    return pa.StructArray.from_arrays(
        [answers], ["raw_output_chat_generation_0"], mask=pc.is_null(answers)
    )


def conversations(batch: Any, source: str) -> Any:
    """Return conversations as ShareGPT writes them."""
    turned = ([each and _spoken(each) for each in row] for row in _conversations(batch, source))
    return pa.array([row or None for row in turned], CONVERSATIONS)


def messages(batch: Any, source: str) -> Any:
    """Return conversations as distilabel writes them."""
    return pa.array([row or None for row in _conversations(batch, source)], MESSAGES)


def _column(batch: Any, source: str) -> Any:
    """Return a column or a struct's field, nulls if the batch has none of that name."""
    name, _, field = source.partition(".")
    if name not in batch.schema.names:
        return pa.nulls(len(batch))
    column = batch.column(name)
    if not field:
        return column
    if not pa.types.is_struct(column.type) or column.type.get_field_index(field) < 0:
        return pa.nulls(len(batch))
    return pc.struct_field(column, field)


def _texts(batch: Any, source: str) -> Any:
    column = _column(batch, source)
    texts = as_texts(column)
    if texts.null_count > column.null_count:
        raise pa.ArrowTypeError(f"it holds {column.type}, not texts")
    return texts


def _texts_of_guard(batch: Any, source: str, release: int) -> Any:
    """Return texts, but only those that a release of Llama Guard wrote: its codes are its own."""
    name = rf"(?i)(^|/)(meta-)?llama-guard-{release}(-[^/]*)?/*$"
    own = pc.match_substring_regex(_texts(batch, "guard_generator"), name)
    return pc.if_else(own, _texts(batch, source), None)


def _numbers(batch: Any, source: str) -> Any:
    column = _column(batch, source)
    if not is_numeric(column.type) and not pa.types.is_null(column.type):
        raise pa.ArrowTypeError(f"it holds {column.type}, not numbers")
    return as_numbers(column)


def _conversations(batch: Any, source: str) -> list[list[Message]]:
    """Return each row's messages, of one without any its instruction and its response."""
    column = _column(batch, source)
    if not pa.types.is_null(column.type) and not _has_messages(column.type):
        raise pa.ArrowTypeError(f"it holds {column.type}, not messages with role and content")
    given: list[list[Message]] = column.to_pylist()
    if all(given):
        return given
    turns = zip(*(text(batch, name).to_pylist() for name in FIRST_TURN.values()), strict=True)
    return [row or _first_turn(turn) for row, turn in zip(given, turns, strict=True)]


def _spoken(message: Message) -> dict[str, str]:
    role = message["role"]
    return {"from": SPEAKERS.get(role, role), "value": message["content"]}


def _first_turn(texts: Sequence[str | None]) -> list[Message]:
    pairs = zip(FIRST_TURN, texts, strict=True)
    return [{"role": role, "content": content} for role, content in pairs if content]


def _has_messages(kind: Any) -> bool:
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    return {"role", "content"} <= {field.name for field in kind.value_type}


def _translated(texts: Any, translate: Callable[[str], Any], kind: Any) -> Any:
    """Return what becomes of each text; that of a text that comes often is looked at once."""
    found = texts.dictionary_encode()
    values = pa.array([translate(each) for each in found.dictionary.to_pylist()], kind)
    return values.take(found.indices)


def _guard_answer(answer: str) -> str | None:
    verdict = read_verdict(answer, {})
    if verdict.reason:
        return None
    return "safe" if verdict.safe else "\n".join(["unsafe", ",".join(verdict.categories)]).rstrip()


def _is_safe(answer: str) -> bool | None:
    verdict = read_verdict(answer, {})
    return None if verdict.reason else verdict.safe


def _hazard(answer: str) -> str | None:
    return next(iter(read_verdict(answer, {}).categories), None)
