"""Which of a row's answers are scored, and what do the rewards say of the row?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from magpie_steps import reasons
from magpie_steps.conversation import ASSISTANT, Message, has_messages, is_text
from magpie_steps.engines.reward import Reward
from magpie_steps.steps.answers import Row, prompt_of

MISSING = Reward(nan, "missing_response")


@dataclass(frozen=True, slots=True)
class Answers:
    """A row's answers to what it asks; an answer without text is "".

    Attributes:
        prompt: What is answered, as messages that end with the user.
        response: The response.
        base_response: The base model's.
        responses: The others.
        reason: Why none of them is scored, "" if they are.
    """

    prompt: tuple[Message, ...] = ()
    response: str = ""
    base_response: str = ""
    responses: tuple[str, ...] = ()
    reason: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """All answers, empty ones too."""
        return (self.response, self.base_response, *self.responses)

    @property
    def conversations(self) -> list[list[Message]]:
        """The prompt with each answer that has a text."""
        return [[*self.prompt, {"role": ASSISTANT, "content": text}] for text in self.texts if text]


def answers_of(row: Mapping[str, Any]) -> Answers:
    """Return a row's answers, or none of them and why."""
    prompt, reason = prompt_of(row)
    if reason:
        return Answers(reason=reason)
    response = _text(row.get("response"))
    others = row.get("responses")
    responses = tuple(map(_text, others)) if isinstance(others, list | tuple) else ()
    if not response and not any(responses):
        return Answers(reason=reasons.reward_reason(MISSING.reason))
    asked = _before(row["messages"] if has_messages(row) else (), response) or prompt
    return Answers(
        tuple({"role": message["role"], "content": message["content"]} for message in asked),
        response,
        _text(row.get("base_response")),
        responses,
    )


def scored(row: Row, answers: Answers, rewards: Iterator[Reward], model: str) -> Row:
    """Return the row with its rewards.

    Args:
        row: The row.
        answers: Its answers.
        rewards: Gives the rewards of the answers' conversations next.
        model: The name of the reward model.
    """
    if answers.reason:
        own, base, others, reason = MISSING, MISSING, [], answers.reason
    else:
        own, base, *others = [next(rewards) if text else MISSING for text in answers.texts]
        reason = _drop_reason(answers, own, base, others)
    return {
        **row,
        "reward_model": "" if answers.reason else model,
        "instruct_reward": own.value,
        "base_reward": base.value,
        "reward_difference": own.value - base.value,
        "responses_rewards": [reward.value for reward in others],
        "keep": not reason,
        "drop_reason": reason,
    }


def _before(messages: Any, response: str) -> list[Message]:
    """Return what a response answers: of several turns the first one that it ends, [] if none."""
    for place, message in enumerate(messages):
        if message["role"] == ASSISTANT and message["content"] == response:
            return list(messages[:place])
    return []


def _drop_reason(answers: Answers, own: Reward, base: Reward, others: list[Reward]) -> str:
    """Return why the row is of no use.

    Its response or base response, if it has them, has no reward; without a response, no other has.
    """
    for text, reward in ((answers.response, own), (answers.base_response, base)):
        if text and reward.reason:
            return reasons.reward_reason(reward.reason)
    if answers.response:
        return ""
    if any(isfinite(reward.value) for reward in others):
        return ""
    reason = next(r.reason for r, text in zip(others, answers.responses, strict=True) if text)
    return reasons.reward_reason(reason)


def _text(value: object) -> str:
    """Return a text that says something, "" for anything else."""
    return value if is_text(value) else ""
