"""What is in a row?

The one place that names the columns, with `label_columns` for those of judgement: their type, unit,
values, producer and meaning. The parquet schema, the card and the tables in the README follow from
it. A value that does not apply is empty,
never missing and never null, so that every row has every column with one type.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from magpie_steps.column_types import Column, ColumnType, empty_value, type_text
from magpie_steps.label_columns import DECONTAMINATION, LABEL_COLUMNS
from magpie_steps.markup import table

MESSAGES: ColumnType = [{"role": "string", "content": "string"}]
"""The type of a conversation."""

_CONFIG: dict[str, ColumnType] = {
    "temperature": "float64",
    "top_p": "float64",
    "min_p": "float64",
    "top_k": "int64",
    "max_new_tokens": "int64",
    "seed": "int64",
}
_PROMPT: dict[str, ColumnType] = {"chat_template_sha256": "string"}
_USER_PROMPT: dict[str, ColumnType] = {**_PROMPT, "pre_query_form": "string"}

GENERATORS = "InstructionGenerator, ConversationGenerator"
TURN_WRITERS = "ConversationGenerator, ContinueConversation"
RESPONDERS = "ConversationGenerator, GenerateResponse"
BASE = "BaseResponse"
SAMPLERS = "SampleResponses"
SCORER = "RewardScorer"
RECIPE = "ApplyRecipe"
FORMATTERS = "FormatPreference, FormatSFT"
EVERY = (
    f"{GENERATORS}, GenerateResponse, ContinueConversation, {BASE}, {SAMPLERS}, {SCORER},"
    f" {DECONTAMINATION}, {RECIPE}, {FORMATTERS}"
)


COLUMNS: tuple[Column, ...] = (
    Column(
        "uuid",
        "string",
        "",
        "version 5 UUID",
        GENERATORS,
        "The row's id: the same for the same model, settings, seed and row number.",
    ),
    Column("row", "int64", "", ">= 0", GENERATORS, "The row's number in its run."),
    Column(
        "model", "string", "", "hub id or folder name", GENERATORS, "The model that wrote the row."
    ),
    Column(
        "system_prompt_key",
        "string",
        "",
        'a key of the step\'s system prompts, or ""',
        GENERATORS,
        'The system prompt that steered the instruction, "" for none.',
    ),
    Column("instruction", "string", "", "text", GENERATORS, "The first user message, sanitised."),
    Column("response", "string", "", "text", RESPONDERS, "The answer to the instruction."),
    Column(
        "reasoning",
        "string",
        "",
        "text",
        RESPONDERS,
        'What the model thought before the response, "" for nothing.',
    ),
    Column(
        "messages",
        MESSAGES,
        "",
        "roles system, user, assistant",
        f"{RESPONDERS}, ContinueConversation, FormatSFT",
        "The whole conversation, oldest message first.",
    ),
    Column(
        "turns",
        "int64",
        "turns",
        ">= 0",
        TURN_WRITERS,
        "Finished turns of the conversation: a user message and its answer each.",
    ),
    Column(
        "conversation_end",
        "string",
        "",
        'role_forgotten, repetition, closing, empty, truncated, context_full, a rejection, ""',
        TURN_WRITERS,
        'Why the conversation has fewer turns than asked for, "" when it has them all.',
    ),
    Column(
        "follow_up_similarity",
        ["float64"],
        "",
        "0 to 1",
        TURN_WRITERS,
        "For each later turn that was generated, its similarity to what was said before.",
    ),
    Column(
        "follow_up_related",
        ["bool"],
        "",
        "true, false",
        TURN_WRITERS,
        "For each later turn that was generated, whether it belongs to what was said before.",
    ),
    Column(
        "follow_up_reasoning",
        ["string"],
        "",
        "texts",
        TURN_WRITERS,
        'For each later answer that was generated, what the model thought before it, "" for'
        " nothing.",
    ),
    Column(
        "gen_input_configs",
        {**_CONFIG, **_USER_PROMPT, "pre_query_template": "string", "input_generator": "string"},
        "",
        "top_k 0 is off, temperature 0 is greedy",
        GENERATORS,
        "How the instruction was sampled: settings, the attempt's seed, the pre-query template.",
    ),
    Column(
        "gen_response_configs",
        {**_CONFIG, **_PROMPT, "output_generator": "string"},
        "",
        "top_k 0 is off, temperature 0 is greedy",
        RESPONDERS,
        "How the response was sampled.",
    ),
    Column("base_response", "string", "", "text", BASE, "The base model's answer, cut at its end."),
    Column(
        "base_response_raw", "string", "", "text", BASE, "The answer as the base model wrote it."
    ),
    Column(
        "base_response_finish_reason",
        "string",
        "",
        'stop, length, ""',
        BASE,
        "Why the base model ended its answer.",
    ),
    Column(
        "base_response_tokens",
        "int64",
        "tokens",
        ">= 0",
        BASE,
        "Tokens generated for the base response, the stop included.",
    ),
    Column(
        "gen_base_configs",
        {**_CONFIG, "prompt_style": "string", "base_generator": "string"},
        "",
        "top_k 0 is off, temperature 0 is greedy",
        BASE,
        "How the base model was asked: settings, the prompt's style, the model.",
    ),
    Column(
        "responses",
        ["string"],
        "",
        "texts",
        SAMPLERS,
        "The accepted ones of several answers to the same conversation.",
    ),
    Column(
        "responses_tokens",
        ["int64"],
        "tokens",
        ">= 0",
        SAMPLERS,
        "Tokens generated for each of the responses, the stop token included.",
    ),
    Column(
        "responses_rejections",
        ["string"],
        "",
        "response_<reason>",
        SAMPLERS,
        "Why each rejected answer was rejected, in order.",
    ),
    Column(
        "responses_reasoning",
        ["string"],
        "",
        "texts",
        SAMPLERS,
        'What the model thought before each of the responses, "" for nothing.',
    ),
    Column(
        "gen_responses_configs",
        {**_CONFIG, **_PROMPT, "output_generator": "string"},
        "",
        "top_k 0 is off",
        SAMPLERS,
        "How the responses were sampled; the seed is the first answer's.",
    ),
    Column(
        "gen_continuation_configs",
        {**_CONFIG, **_USER_PROMPT, "continuation_generator": "string"},
        "",
        "top_k 0 is off, temperature 0 is greedy",
        "ContinueConversation",
        "How the added user turns were sampled: settings, the step's seed, the model.",
    ),
    Column(
        "instruction_raw",
        "string",
        "",
        "text",
        GENERATORS,
        "The user turn as the model wrote it; of a dropped row, its last attempt.",
    ),
    Column(
        "instruction_finish_reason",
        "string",
        "",
        'stop, length, ""',
        GENERATORS,
        "Why the model ended the user turn.",
    ),
    Column(
        "response_finish_reason",
        "string",
        "",
        'stop, length, ""',
        RESPONDERS,
        "Why the model ended the response.",
    ),
    Column(
        "instruction_tokens",
        "int64",
        "tokens",
        ">= 0",
        GENERATORS,
        "Tokens generated for the user turn, the stop token included.",
    ),
    Column(
        "response_tokens",
        "int64",
        "tokens",
        ">= 0",
        RESPONDERS,
        "Tokens generated for the response, the stop token included.",
    ),
    Column(
        "instruction_attempts",
        "int64",
        "attempts",
        ">= 0",
        f"{GENERATORS}, ContinueConversation",
        "User turns that were generated for the row, in all turns together.",
    ),
    Column(
        "instruction_rejections",
        ["string"],
        "",
        "instruction_<reason>, follow_up_<reason>, response_<reason>",
        f"{GENERATORS}, ContinueConversation",
        "Why each rejected attempt was rejected, in order.",
    ),
    Column(
        "instruction_length",
        "int64",
        "characters",
        ">= 0",
        GENERATORS,
        "Length of the instruction.",
    ),
    Column("response_length", "int64", "characters", ">= 0", RESPONDERS, "Length of the response."),
    *LABEL_COLUMNS,
    Column(
        "reward_model",
        "string",
        "",
        'hub id or folder name, ""',
        SCORER,
        'The model that scored the answers, "" if none did.',
    ),
    Column(
        "instruct_reward",
        "float64",
        "",
        "finite, or NaN for none",
        SCORER,
        "The reward model's score of the response.",
    ),
    Column(
        "base_reward",
        "float64",
        "",
        "finite, or NaN for none",
        SCORER,
        "The reward model's score of the base response.",
    ),
    Column(
        "reward_difference",
        "float64",
        "",
        "finite, or NaN for none",
        SCORER,
        "The response's reward minus the base response's, NaN unless both have one.",
    ),
    Column(
        "responses_rewards",
        ["float64"],
        "",
        "finite, or NaN for none",
        SCORER,
        "The reward model's score of each of the responses, in their order.",
    ),
    Column(
        "prompt",
        MESSAGES,
        "",
        "roles system, user",
        "FormatPreference",
        "What both answers of a preference pair reply to; the user speaks last.",
    ),
    Column(
        "chosen",
        MESSAGES,
        "",
        "role assistant",
        "FormatPreference",
        "The better answer of the pair, one message.",
    ),
    Column(
        "rejected",
        MESSAGES,
        "",
        "role assistant",
        "FormatPreference",
        "The worse answer of the pair, one message.",
    ),
    Column(
        "chosen_score",
        "float64",
        "",
        "any, NaN without a pair",
        "FormatPreference",
        "The reward of the chosen answer.",
    ),
    Column(
        "rejected_score",
        "float64",
        "",
        "any, NaN without a pair",
        "FormatPreference",
        "The reward of the rejected answer.",
    ),
    Column(
        "score_margin",
        "float64",
        "",
        "> 0, NaN without a pair",
        "FormatPreference",
        "The chosen answer's reward less the rejected one's.",
    ),
    Column("keep", "bool", "", "true, false", EVERY, "Whether the row is complete and accepted."),
    Column(
        "drop_reason",
        "string",
        "",
        "instruction_<reason>, response_<reason>, base_response_<reason>, responses_too_few,"
        " reward_<reason>, engine_error, no_instruction, bad_messages, messages_<fault>,"
        " preference_<reason>, sft_no_response, contaminated, dropped_in_review,"
        " recipe_<rule>",
        EVERY,
        'Why the row is not kept, "" when it is.',
    ),
)
"""Every column, in the order of the published files."""

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)

TURN_NAMES: tuple[str, ...] = ("instruction", "response")
"""The columns of the first turn; a later turn's are numbered from 2, in the published files."""

_BY_NAME = {column.name: column for column in COLUMNS}
_TURN_TEXTS = {
    "instruction": 'The user message of turn {turn}, "" when the conversation is shorter.',
    "response": 'The answer in turn {turn}, "" when the conversation is shorter.',
}


def described(name: str) -> Column:
    """Return a column by its name, also one of a later turn such as ``instruction_2``.

    Raises:
        ValueError: If there is no such column.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    first, _, turn = name.rpartition("_")
    if first not in TURN_NAMES or not turn.isdecimal():
        raise ValueError(f"there is no column {name!r}; the columns are {', '.join(NAMES)}")
    return replace(_BY_NAME[first], name=name, description=_TURN_TEXTS[first].format(turn=turn))


def written_by(component: str) -> list[str]:
    """Return the names of the columns that a component writes, in order."""
    return [c.name for c in COLUMNS if component in c.producer.split(", ")]


def empty_row(names: Iterable[str] = NAMES) -> dict[str, Any]:
    """Return a row of empty values for the named columns."""
    wanted = frozenset(names)
    return {c.name: empty_value(c.type) for c in COLUMNS if c.name in wanted}


def markdown_table() -> str:
    """Return the columns as a Markdown table, one row per column, without a newline at its end."""
    header = ["column", "type", "unit", "values", "written by", "what it holds"]
    rows = [
        [f"`{c.name}`", f"`{type_text(c.type)}`", c.unit, c.values, c.producer, c.description]
        for c in COLUMNS
    ]
    return table(header, rows)
