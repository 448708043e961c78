"""Which columns do published Magpie datasets have?"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from magpie_steps.export_schemas import values
from magpie_steps.export_schemas.values import CONVERSATIONS, MESSAGES, TEXT, Column

NUMBER = pa.float64()
COUNT = pa.int64()
TEXTS = pa.list_(TEXT)

_LATER_TURN = re.compile(r"(instruction|response)_(\d+)")


@dataclass(frozen=True, slots=True)
class PublishedSchema:
    """The columns of published datasets.

    Attributes:
        used_by: Which datasets have them, for the card.
        columns: The columns, in their order.
        remark: Which of our values have no place in them, for the card, in Markdown.
        later_turns_after: The column after which those of later turns stand, as ``instruction_2``;
            "" for nowhere.
    """

    used_by: str
    columns: tuple[Column, ...]
    remark: str
    later_turns_after: str = ""

    def columns_for(self, present: Iterable[str]) -> list[Column]:
        """Return the columns of a dataset, with those of later turns if it has any.

        Args:
            present: Our columns that the dataset has.
        """
        found = sorted(filter(None, map(_LATER_TURN.fullmatch, present)), key=_place)
        later = [Column(match[0], TEXT, values.text, match[0]) for match in found]
        whole: list[Column] = []
        for column in self.columns:
            whole.append(column)
            if column.name == self.later_turns_after:
                whole += later
        return whole


def _place(match: re.Match[str]) -> tuple[int, str]:
    """Return where a later turn's column stands: by turn, the instruction first."""
    return int(match[2]), match[1]


_INPUT_CONFIGS = pa.struct(
    [
        ("temperature", NUMBER),
        ("top_p", NUMBER),
        ("input_generator", TEXT),
        ("seed", pa.null()),
        ("pre_query_template", TEXT),
    ]
)

MAGPIE_ALIGN = PublishedSchema(
    used_by="Magpie-Align's datasets from Qwen2 on, such as Magpie-Qwen2-Pro-1M-v0.1",
    columns=(
        Column("uuid", TEXT, values.text, "uuid"),
        Column("model", TEXT, values.text, "model"),
        Column("gen_input_configs", _INPUT_CONFIGS, values.input_configs, "gen_input_configs"),
        Column("instruction", TEXT, values.text, "instruction"),
        Column("response", TEXT, values.text, "response"),
        Column(
            *("conversations", CONVERSATIONS, values.conversations, "messages"),
            beside=("instruction", "response"),
        ),
        Column("task_category", TEXT, values.text, "task_category"),
        Column(
            *("other_task_category", TEXTS, values.other_tags, "other_task_category"),
            beside=("task_category",),
        ),
        Column("task_category_generator", TEXT, values.text, "task_category_generator"),
        Column("difficulty", TEXT, values.text, "difficulty"),
        Column("intent", TEXT, values.text, "intent"),
        Column("knowledge", TEXT, values.text, "knowledge"),
        Column("difficulty_generator", TEXT, values.text, "difficulty_generator"),
        Column("input_quality", TEXT, values.text, "input_quality"),
        Column("quality_explanation", TEXT, values.text, "quality_explanation"),
        Column("quality_generator", TEXT, values.text, "quality_generator"),
        Column(
            *("llama_guard_2", TEXT, values.guard_2_answer, "guard_raw"),
            beside=("guard_generator",),
        ),
        Column("reward_model", TEXT, values.text, "reward_model"),
        Column("instruct_reward", NUMBER, values.number, "instruct_reward"),
        Column("min_neighbor_distance", NUMBER, values.number, "min_neighbor_distance"),
        Column(
            *("repeat_count", COUNT, values.compared_count, "repeat_count"),
            beside=("min_neighbor_distance",),
        ),
        Column("min_similar_uuid", TEXT, values.text, "min_similar_uuid"),
        Column("instruction_length", COUNT, values.length, "instruction"),
        Column("response_length", COUNT, values.length, "response"),
        Column("language", TEXT, values.text, "language"),
    ),
    remark="`llama_guard_2` holds verdicts of Llama Guard 2 alone: those of another guard model,"
    " whose codes mean other things, are left out.",
    later_turns_after="response",
)
"""The 25 columns of the datasets' cards; conversations of several turns have more of them, as in
Magpie-Llama-3.1-Pro-MT-500K-v0.1."""

MAGPIE_ULTRA = PublishedSchema(
    used_by="argilla/magpie-ultra-v0.1",
    columns=(
        Column(
            *("model_name_response_base", TEXT, values.text),
            "gen_base_configs.base_generator",
        ),
        Column("instruction", TEXT, values.text, "instruction"),
        Column("response", TEXT, values.text, "response"),
        Column("response_base", TEXT, values.text, "base_response"),
        Column("intent", TEXT, values.text, "intent"),
        Column("knowledge", TEXT, values.text, "knowledge"),
        Column("difficulty", TEXT, values.text, "difficulty"),
        Column("model_name_difficulty", TEXT, values.text, "difficulty_generator"),
        Column("explanation", TEXT, values.text, "quality_explanation"),
        Column("quality", TEXT, values.text, "input_quality"),
        Column("model_name_quality", TEXT, values.text, "quality_generator"),
        Column("primary_tag", TEXT, values.text, "task_category"),
        Column(
            *("other_tags", TEXTS, values.other_tags, "other_task_category"),
            beside=("task_category",),
        ),
        Column("model_name_classification", TEXT, values.text, "task_category_generator"),
        Column("embedding", pa.list_(NUMBER), values.nothing),
        Column("model_name_embeddings", TEXT, values.nothing),
        Column("score", NUMBER, values.number, "instruct_reward"),
        Column("score_base", NUMBER, values.number, "base_reward"),
        Column(
            "distilabel_metadata",
            pa.struct([("raw_output_chat_generation_0", TEXT)]),
            values.guard_metadata,
            "guard_raw",
        ),
        Column("nn_indices", pa.list_(COUNT), values.nothing),
        Column("nn_scores", pa.list_(NUMBER), values.nothing),
        Column(
            *("messages", MESSAGES, values.messages, "messages"),
            beside=("instruction", "response"),
        ),
        Column("guard", TEXT, values.text, "guard_raw"),
        Column("model_name_guard", TEXT, values.text, "guard_generator"),
        Column("safe", pa.bool_(), values.is_safe, "guard_raw"),
        Column(
            *("hazard_category", TEXT, values.guard_3_hazard, "guard_raw"),
            beside=("guard_generator",),
        ),
        Column("score_difference", NUMBER, values.number, "reward_difference"),
    ),
    remark="`guard` and `safe` are what the guard model in `model_name_guard` said;"
    " `hazard_category` holds codes of Llama Guard 3 alone: another one's mean other things.",
)
"""The columns of the dataset's card.

Its list of types is known up to ``hazard_category``; that ``score_difference``, the last one that
the card describes, stands behind that is taken from the card's text. Embeddings and neighbours are
null: our rows name the row that stands for others, not the nearest ones by their row numbers.
"""

SCHEMAS: Mapping[str, PublishedSchema] = {
    "magpie-align": MAGPIE_ALIGN,
    "magpie-ultra": MAGPIE_ULTRA,
}
"""Every published schema by its name."""
