"""Who says what in a column of conversations?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from magpie_steps.conversation import ASSISTANT, USER
from magpie_steps.filtering.origins import as_flags, as_texts
from magpie_steps.report.tallies import Floats

_SPEAKERS = {USER: (USER, "human"), ASSISTANT: (ASSISTANT, "gpt")}
"""How conversations name their speakers, in the manner of chat templates and of ShareGPT."""


@dataclass(frozen=True, slots=True)
class Talk:
    """A column of conversations, laid out flat.

    Attributes:
        size: The number of rows.
        rows: The place of each message's row.
        roles: Who says it, an Arrow array of texts.
        texts: What is said, an Arrow array of texts.
    """

    size: int
    rows: NDArray[np.int64]
    roles: Any
    texts: Any

    @classmethod
    def of(cls, lists: Any) -> "Talk":
        """Return what an Arrow array of conversations holds; what is none has no messages."""
        rows, messages = flat(lists)
        for names in (("role", "content"), ("from", "value")):
            if pa.types.is_struct(messages.type) and set(names) <= set(fields(messages.type)):
                roles, texts = (as_texts(pc.struct_field(messages, name)) for name in names)
                return cls(len(lists), rows, roles, texts)
        nothing = pa.nulls(0, pa.string())
        return cls(len(lists), np.empty(0, np.int64), nothing, nothing)

    def said(self, speaker: str) -> NDArray[np.bool_]:
        """Return which messages a speaker says, by the role in chat templates."""
        names = pa.array(_SPEAKERS[speaker], pa.string())
        spoken: NDArray[np.bool_] = as_flags(pc.is_in(self.roles, names))
        return spoken

    def first(self, speaker: str) -> Any:
        """Return each row's first message of a speaker, null without one."""
        said = np.flatnonzero(self.said(speaker))
        rows, places = np.unique(self.rows[said], return_index=True)
        taken = np.full(self.size, -1, np.int64)
        taken[rows] = said[places]
        return self.texts.take(pa.array(taken, mask=taken < 0))

    def answers(self) -> Floats:
        """Return the number of each row's answers."""
        return np.bincount(self.rows[self.said(ASSISTANT)], minlength=self.size).astype(float)


def fields(struct: Any) -> list[str]:
    """Return the names of the fields of an Arrow type of structs."""
    return [struct.field(number).name for number in range(struct.num_fields)]


def flat(lists: Any) -> tuple[NDArray[np.int64], Any]:
    """Return for each item of an array of lists which row it is of, then the items."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(lists.type) for is_kind in kinds):
        lists = pa.nulls(len(lists), pa.list_(pa.null()))
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return rows.astype(np.int64), pc.list_flatten(lists)
