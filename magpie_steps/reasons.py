"""In which words does a row say why an attempt was rejected, why it ended early, why it is dropped?

The one place that names the reasons; `magpie_steps.columns` has the columns that hold them.
"""

from collections.abc import Mapping
from typing import Any

INSTRUCTION_REASONS = (
    "empty",
    "whitespace",
    "template_tokens",
    "assistant_voice",
    "answer_attached",
    "truncated",
    "control_characters",
    "too_short",
    "too_long",
)
"""Why a user turn is rejected, as `magpie_steps.sanitize` names it."""

RESPONSE_REASONS = ("empty", "whitespace", "template_tokens", "truncated", "control_characters")
"""Why a response is rejected, as `magpie_steps.sanitize` names it."""

FOLLOW_UP_REASONS = ("role_forgotten", "repetition", "closing")
"""Why a later user turn is rejected, as `magpie_steps.follow_ups` names it."""
BASE_RESPONSE_REASONS = ("empty", "whitespace", "template_tokens", "control_characters")
"""Why a base response is rejected; one that ran out of tokens is kept, as base models ramble."""
REWARD_REASONS = ("too_long", "control_tokens", "bad_messages", "missing_response", "not_finite")
"""Why a response has no reward, as `magpie_steps.engines.reward` and the scorer name it."""
PREFERENCE_REASONS = (
    "too_few",
    "missing_reward",
    "tie",
    "base_better",
    "same_text",
    "small_margin",
)
"""Why a row makes no preference pair, as `magpie_steps.preference` checks it, in this order."""

TAG_REASONS = (
    "empty",
    "truncated",
    "no_object",
    "missing_key",
    "unknown_label",
    "several_labels",
)
"""Why an answer of a tagger gives no label, as `magpie_steps.tag_answers` names it."""

PROMPT_TOO_LONG = "prompt_too_long"
UNFINISHED_REASONING = "unfinished_reasoning"
ENGINE_ERROR = "engine_error"
NO_INSTRUCTION = "no_instruction"
BAD_MESSAGES = "bad_messages"
MESSAGE_FAULTS = (
    "messages_missing",
    "messages_unknown_role",
    "messages_out_of_order",
    "messages_without_text",
)
"""Why given messages are no conversation, as `magpie_steps.conversation` names it."""
RESPONSES_TOO_FEW = "responses_too_few"
SFT_NO_RESPONSE = "sft_no_response"
CONTAMINATED = "contaminated"
DROPPED_IN_REVIEW = "dropped_in_review"


def instruction_reason(reason: str) -> str:
    """Return the word for a rejected user turn, as rows carry it."""
    return f"instruction_{reason}"


def response_reason(reason: str) -> str:
    """Return the word for a rejected response, as rows carry it."""
    return f"response_{reason}"


def follow_up_reason(reason: str) -> str:
    """Return the word for a rejected later user turn, as rows carry it."""
    return f"follow_up_{reason}"


def base_response_reason(reason: str) -> str:
    """Return the word for a rejected base response, as rows carry it."""
    return f"base_response_{reason}"


def reward_reason(reason: str) -> str:
    """Return the word for a response without a reward, as rows carry it."""
    return reason if reason == ENGINE_ERROR else f"reward_{reason}"


def recipe_reason(rule: str) -> str:
    """Return the word for a row that a recipe's rule removes, as rows carry it."""
    return f"recipe_{rule}"


def is_recipe_reason(reason: str) -> bool:
    """Return whether a row was dropped by a recipe, and not by a step before it."""
    return reason.startswith(recipe_reason(""))


def preference_reason(reason: str) -> str:
    """Return the word for a row that makes no preference pair, as rows carry it."""
    return f"preference_{reason}"


REJECTIONS: tuple[str, ...] = (
    *(
        instruction_reason(reason)
        for reason in (*INSTRUCTION_REASONS, PROMPT_TOO_LONG, BAD_MESSAGES)
    ),
    *(follow_up_reason(reason) for reason in FOLLOW_UP_REASONS),
    *(
        response_reason(reason)
        for reason in (*RESPONSE_REASONS, UNFINISHED_REASONING, PROMPT_TOO_LONG, BAD_MESSAGES)
    ),
)
"""Why an attempt at a turn is rejected."""

BASE_REJECTIONS: tuple[str, ...] = tuple(
    base_response_reason(reason)
    for reason in (*BASE_RESPONSE_REASONS, PROMPT_TOO_LONG, BAD_MESSAGES)
)
"""Why a row has no base response."""

DROP_REASONS: tuple[str, ...] = (
    *REJECTIONS,
    *BASE_REJECTIONS,
    RESPONSES_TOO_FEW,
    *map(reward_reason, REWARD_REASONS),
    ENGINE_ERROR,
    NO_INSTRUCTION,
    BAD_MESSAGES,
    *MESSAGE_FAULTS,
    *map(preference_reason, PREFERENCE_REASONS),
    SFT_NO_RESPONSE,
    CONTAMINATED,
    DROPPED_IN_REVIEW,
)
"""Why a row is not kept."""


def carried_by(row: Mapping[str, Any]) -> str:
    """Return why a step before dropped the row, "" for a row that is kept."""
    if row.get("keep") is not False:
        return ""
    reason = row.get("drop_reason")
    return reason if isinstance(reason, str) and reason else NO_INSTRUCTION


_ENDS = {
    instruction_reason("assistant_voice"): "role_forgotten",
    **{follow_up_reason(reason): reason for reason in FOLLOW_UP_REASONS},
    **{
        word(reason): end
        for word in (instruction_reason, response_reason)
        for reason, end in (
            ("empty", "empty"),
            ("whitespace", "empty"),
            ("truncated", "truncated"),
            (UNFINISHED_REASONING, "truncated"),
            (PROMPT_TOO_LONG, "context_full"),
        )
    },
}
"""Why a conversation ends early, by the reason why its last attempt at a turn was rejected."""


def conversation_end(reason: str) -> str:
    """Return why a conversation ended, by why its last attempt at a turn was rejected.

    That is role_forgotten, repetition, closing, empty, truncated or context_full, and else the
    rejection itself.
    """
    return _ENDS.get(reason, reason)
