"""Under which names do published Magpie datasets carry our columns?

There are the schemas of this package, of Magpie-Align (the first Llama-3 sets name their texts
input and output, the later ones instruction and response) and of Magpie Ultra.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

How = Literal[
    "copy",
    "characters",
    "answer_characters",
    "says_safe",
    "distance",
    "row_number",
    "earliest_near",
]
"""How a column of ours is computed.

- copy: it is the column.
- characters: the length of a text.
- answer_characters: the length of all answers in a conversation.
- says_safe: whether a guard model's answer is "safe".
- distance: 2 - 2c, the squared distance of unit vectors, from the nearest one's cosine c.
- row_number: the place in the dataset, from 0, as a text.
- earliest_near: the earliest row nearer than the paper's 0.05, as a row number, "" without any;
  from the neighbours' cosines and row numbers.
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a column of ours comes from.

    Attributes:
        columns: Their columns that are read.
        how: How it is computed from them.
    """

    columns: tuple[str, ...] = ()
    how: How = "copy"


@dataclass(frozen=True, slots=True)
class Schema:
    """How datasets of one kind name their columns.

    Attributes:
        name: The kind, for messages.
        marks: The columns by which it is recognised.
        origins: Where our columns come from, by our name; the first of which they have the columns
            counts.
    """

    name: str
    marks: tuple[str, ...]
    origins: Mapping[str, tuple[Origin, ...]]

    def origin(self, column: str, present: Collection[str]) -> Origin | None:
        """Return where a column of ours comes from in a dataset with these columns, None if none.

        Args:
            column: Our column.
            present: The dataset's columns.
        """
        origins = self.origins.get(column, ())
        return next((each for each in origins if set(each.columns) <= set(present)), None)

    def names(self, column: str) -> str:
        """Return the names under which the schema may carry a column of ours, for messages."""
        origins = self.origins.get(column, ())
        return " or ".join(" and ".join(each.columns) for each in origins) or "nothing"


def _copied(*names: str) -> dict[str, tuple[Origin, ...]]:
    return {name: (Origin((name,)),) for name in names}


_LABELS = _copied(
    "task_category",
    "difficulty",
    "input_quality",
    "instruct_reward",
    "base_reward",
    "reward_difference",
    "min_neighbor_distance",
    "repeat_count",
    "language",
    "gen_input_configs",
    "instruction_tokens",
    "response_tokens",
)
_LENGTH = (Origin(("response_length",)), Origin(("response",), "characters"))
_MESSAGES = tuple(Origin((name,)) for name in ("messages", "conversations", "conversation"))
_GUARD = (Origin(("llama_guard_2",)),)
_SAFE = (Origin(("safe",)), Origin(("llama_guard_2",), "says_safe"))

OURS = Schema(
    "magpie_steps",
    ("instruction", "keep", "drop_reason"),
    {
        **_LABELS,
        **_copied(
            *("uuid", "instruction", "response", "messages", "turns", "min_similar_uuid"),
            *("safe", "unsafe_categories", "guard_raw", "language_score"),
            *("tag_failures", "keep", "drop_reason"),
        ),
        "response_length": _LENGTH,
    },
)

MAGPIE_ULTRA = Schema(
    "Magpie Ultra",
    ("instruction", "quality", "difficulty"),
    {
        **_copied("instruction", "response", "difficulty", "safe"),
        "messages": _MESSAGES,
        "input_quality": (Origin(("quality",)),),
        "task_category": (Origin(("primary_tag",)),),
        "instruct_reward": (Origin(("score",)),),
        "base_reward": (Origin(("score_base",)),),
        "min_neighbor_distance": (Origin(("nn_scores",), "distance"),),
        # It has no ids: its neighbours are row numbers of the whole dataset.
        "uuid": (Origin(how="row_number"),),
        "min_similar_uuid": (Origin(("nn_scores", "nn_indices"), "earliest_near"),),
        "response_length": (*_LENGTH, Origin(("conversation",), "answer_characters")),
    },
)

MAGPIE_ALIGN_LLAMA_3 = Schema(
    "Magpie-Align's first Llama-3 datasets",
    ("input", "output"),
    {
        **_LABELS,
        **_copied("uuid", "min_similar_uuid"),
        "instruction": (Origin(("input",)),),
        "response": (Origin(("output",)),),
        "messages": _MESSAGES,
        "gen_input_configs": (Origin(("gen_input_config",)), Origin(("gen_input_configs",))),
        "guard_raw": _GUARD,
        "response_length": (Origin(("output_length",)), Origin(("output",), "characters")),
        "safe": _SAFE,
    },
)

MAGPIE_ALIGN = Schema(
    "Magpie-Align",
    ("instruction", "response"),
    {
        **_LABELS,
        **_copied("instruction", "response"),
        "messages": _MESSAGES,
        "guard_raw": _GUARD,
        "uuid": (Origin(("uuid",)), Origin(("conversation_id",))),
        "min_similar_uuid": (
            Origin(("min_similar_uuid",)),
            Origin(("min_similar_conversation_id",)),
        ),
        "response_length": _LENGTH,
        "safe": _SAFE,
    },
)

CONVERSATIONS = Schema(
    "conversations alone",
    (),
    {**_LABELS, **_copied("uuid"), "messages": _MESSAGES, "safe": _SAFE, "guard_raw": _GUARD},
)
"""Datasets that have texts nowhere else than in conversations, such as Magpie-Pro-300K-Filtered.

A recipe needs more than that, so it is none of `SCHEMAS`.
"""

SCHEMAS = (OURS, MAGPIE_ULTRA, MAGPIE_ALIGN_LLAMA_3, MAGPIE_ALIGN)
"""Every schema; the first whose marks a dataset has is its own."""


def schema_of(present: Iterable[str]) -> Schema:
    """Return the schema of a dataset by its column names.

    Raises:
        ValueError: If it has none of the schemas.
    """
    names = list(present)
    for schema in SCHEMAS:
        if set(schema.marks) <= set(names):
            return schema
    lacks = "; ".join(
        f"for {schema.name} {', '.join(m for m in schema.marks if m not in names)}"
        for schema in SCHEMAS
    )
    raise ValueError(
        f"the columns {', '.join(names) or 'none'} are of no schema that is known; missing are"
        f" {lacks}; rename columns to one of them"
    )
