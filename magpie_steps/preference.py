"""Which training examples does a row make?

In TRL's conversational formats: a preference pair with an explicit prompt (`find_pair`), the two
unpaired examples that a pair falls into (`kto_rows`) and a conversation to imitate (`sft_row`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import isfinite, nan
from typing import Any, Literal

from magpie_steps import reasons
from magpie_steps.conversation import (
    ASSISTANT,
    SYSTEM,
    Message,
    append_turn,
    has_messages,
    is_text,
    validate,
)
from magpie_steps.rules import is_number

SourceName = Literal["sampled", "instruct_vs_base"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the answers of a row and their scores stand.

    Attributes:
        answers: The columns of the answers; one of lists holds several.
        scores: The columns of their scores, in the same order.
        expected: Position of the only answer that may be chosen without a swap, None for any.
    """

    answers: tuple[str, ...]
    scores: tuple[str, ...]
    expected: int | None = None


SOURCES: Mapping[SourceName, Source] = {
    # Best against worst of k answers, as in the Magpie DPO sets (k = 5, temperature 0.8).
    "sampled": Source(("responses",), ("responses_rewards",)),
    # An aligned model's answer against its base model's, the pair behind reward_difference.
    "instruct_vs_base": Source(
        ("response", "base_response"), ("instruct_reward", "base_reward"), expected=0
    ),
}
"""Every source of pairs by its name."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair, or the reason why a row makes none.

    Attributes:
        prompt: The messages that both answers reply to; () without a pair.
        chosen: The better answer, "" without a pair.
        rejected: The worse answer, "" without a pair.
        chosen_score: The better answer's score, NaN without a pair.
        rejected_score: The worse answer's score, NaN without a pair.
        reason: A word of `reasons.DROP_REASONS`, "" with a pair.
    """

    prompt: tuple[Message, ...] = ()
    chosen: str = ""
    rejected: str = ""
    chosen_score: float = nan
    rejected_score: float = nan
    reason: str = ""

    @property
    def margin(self) -> float:
        """The chosen answer's score less the rejected one's, NaN without a pair."""
        return self.chosen_score - self.rejected_score

    def columns(self) -> dict[str, Any]:
        """Return the pair as a row carries it; every value is empty without a pair."""
        return {
            "prompt": list(self.prompt),
            "chosen": [] if self.reason else answer(self.chosen),
            "rejected": [] if self.reason else answer(self.rejected),
            "chosen_score": self.chosen_score,
            "rejected_score": self.rejected_score,
            "score_margin": self.margin,
        }


def find_pair(
    row: Mapping[str, Any],
    source: SourceName,
    min_margin: float = 0.0,
    *,
    allow_swap: bool = False,
) -> Pair:
    """Return a row's best answer against its worst, the first ones among equals.

    Answers without text do not count.

    Args:
        row: The row; columns that it lacks count as empty.
        source: Which answers are compared.
        min_margin: Least difference of the two scores, at least 0.
        allow_swap: Whether an answer may be chosen that its source expects to be rejected.
    """
    prompt, reason = first_prompt(row)
    if reason:
        return Pair(reason=reason)
    where = SOURCES[source]
    answers, scores = _values(row, where.answers), _values(row, where.scores)
    there = [position for position, text in enumerate(answers) if is_text(text)]
    if len(there) < 2:
        return _no_pair("too_few")
    if len(scores) != len(answers) or not all(_is_score(scores[position]) for position in there):
        return _no_pair("missing_reward")
    best, worst = max(there, key=scores.__getitem__), min(there, key=scores.__getitem__)
    pair = Pair(
        tuple(prompt), answers[best], answers[worst], float(scores[best]), float(scores[worst])
    )
    expected = allow_swap or where.expected in (None, best)
    flaw = _flaw(pair, expected, min_margin)
    return _no_pair(flaw) if flaw else pair


def first_prompt(row: Mapping[str, Any]) -> tuple[list[Message], str]:
    """Return what a row's first answer replies to, or [] and why there is nothing.

    The row's messages count up to their first answer if it has any, else its instruction.
    """
    messages, reason = _conversation(row)
    return list(takewhile(lambda message: message["role"] != ASSISTANT, messages)), reason


def preference_rows(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row's pair with its scores as a list of one; [] if it has none."""
    return [{name: row[name] for name in Pair().columns()}] if row["chosen"] else []


def kto_rows(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the two unpaired examples of a row's pair: prompt, completion, label."""
    if not row["chosen"]:
        return []
    return [
        {"prompt": row["prompt"], "completion": row["chosen"], "label": True},
        {"prompt": row["prompt"], "completion": row["rejected"], "label": False},
    ]


def sft_row(row: Mapping[str, Any]) -> dict[str, list[Message]]:
    """Return the conversation that a row teaches, as ``messages``; [] if it lacks an answer."""
    return {"messages": answered_messages(row)[0]}


def answered_messages(
    row: Mapping[str, Any], *, drop_system: bool = False
) -> tuple[list[Message], str]:
    """Return a row's conversation if it ends with an answer, or [] and why it does not.

    Args:
        row: The row; its messages count if it has any, else its instruction and response.
        drop_system: Whether to leave the system message out.
    """
    messages, reason = _conversation(row)
    if reason:
        return [], reason
    if messages[-1]["role"] != ASSISTANT:
        return [], reasons.SFT_NO_RESPONSE
    return messages[drop_system and messages[0]["role"] == SYSTEM :], ""


def answer(text: str) -> list[Message]:
    """Return an answer as TRL wants it: a conversation of one message."""
    return [{"role": ASSISTANT, "content": text}]


def _conversation(row: Mapping[str, Any]) -> tuple[list[Message], str]:
    """Return a row's messages, or its instruction with the response if there is one."""
    if has_messages(row):
        messages = row["messages"]
        try:
            validate(messages)
        except (ValueError, TypeError, AttributeError):
            # Neither a list nor messages in it is as little a conversation as a wrong order.
            return [], reasons.BAD_MESSAGES
        return [
            {"role": message["role"], "content": message["content"]} for message in messages
        ], ""
    instruction, response = row.get("instruction"), row.get("response")
    if not is_text(instruction):
        return [], reasons.NO_INSTRUCTION
    return append_turn([], instruction, response if is_text(response) else None), ""


def _flaw(pair: Pair, expected: bool, min_margin: float) -> str:
    """Return why a pair is none, "" if it is one."""
    if pair.margin == 0:
        return "tie"
    if not expected:
        return "base_better"
    if pair.chosen.strip() == pair.rejected.strip():
        return "same_text"
    return "small_margin" if pair.margin < min_margin else ""


def _no_pair(reason: str) -> Pair:
    return Pair(reason=reasons.preference_reason(reason))


def _values(row: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return the values of some columns as one list, those of a list column one by one."""
    values: list[Any] = []
    for name in names:
        value = row.get(name)
        values += value if isinstance(value, list) else [value]
    return values


def _is_score(value: object) -> bool:
    return is_number(value) and isfinite(value)
