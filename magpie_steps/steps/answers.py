"""How does a row get its response?

One coroutine per row on one engine. A response that is not accepted is tried again with another
seed if it is sampled at all; a row that has nothing to answer costs no model call.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from magpie_steps import reasons, seeds
from magpie_steps.conversation import (
    Message,
    append_turn,
    has_messages,
    is_text,
    split_last_turn,
)
from magpie_steps.engines.base import Completion, PromptTooLongError, Sampling
from magpie_steps.reasoning import Reasoned
from magpie_steps.sanitize import sanitize_response
from magpie_steps.steps.progress import Progress
from magpie_steps.templates import ChatTemplateError, PreQueryTemplate

Row = dict[str, Any]
RESPONSE = "response"
"""The role's name in seeds."""

REFUSALS = (PromptTooLongError, ChatTemplateError)
"""Errors of a prompt that no engine answers; they cost no model call."""


class CanComplete(Protocol):
    """What a row needs of an engine."""

    @property
    def model_name(self) -> str:
        """The model's name."""

    @property
    def fingerprint(self) -> str:
        """What decides a completion besides prompt and sampling."""

    @property
    def template(self) -> PreQueryTemplate:
        """The model's template."""

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt."""

    async def complete_all(
        self, prompt_ids: Sequence[int], samplings: Sequence[Sampling]
    ) -> list[Completion]:
        """Continue a prompt several times."""


@dataclass(frozen=True, slots=True)
class Role:
    """How the text of a role is made: what the engine is given and what the row says of it.

    Attributes:
        sampling: How it is drawn.
        columns: What a row says of that.
        keep_reasoning: Whether a row says what was thought before an answer.
    """

    sampling: Sampling
    columns: Mapping[str, Any]
    keep_reasoning: bool = True

    def attempts(self, most: int) -> int:
        """Return how often an answer is worth asking for: a greedy one is always the same."""
        return most if self.sampling.temperature > 0 else 1

    def told(self, thoughts: Iterable[str]) -> list[str]:
        """Return what a row says of the thoughts before answers."""
        return [thought if self.keep_reasoning else "" for thought in thoughts]


@dataclass(frozen=True, slots=True)
class Written:
    """A text that the model wrote; ``reason`` is empty if it was accepted.

    ``reasoning`` is what it thought before an accepted text.
    """

    text: str
    reason: str
    seed: int
    raw: str = ""
    finish_reason: str = ""
    tokens: int = 0
    reasoning: str = ""


class ResponseWriter:
    """Writes the response to rows that have an instruction or messages."""

    def __init__(
        self, engine: CanComplete, role: Role, seed: int, max_attempts: int, progress: Progress
    ) -> None:
        self._engine = engine
        self._role = role
        self._seed = seed
        self._attempts = role.attempts(max_attempts)
        self._progress = progress

    async def write(self, row: Row) -> Row:
        """Return the row with its response; no model call is spent on a row that is not kept."""
        prompt, reason = prompt_of(row)
        if reason:
            return self.drop(row, reason)
        answer = Written("", "", 0)
        for attempt in range(self._attempts):
            seed = seeds.call_seed(self._seed, row_number(row, prompt), RESPONSE, 0, attempt)
            answer = await respond(self._engine, prompt, self._role, seed)
            if not answer.reason:
                break
        if answer.reason:
            return self.drop(row, reasons.response_reason(answer.reason), answer)
        messages = [*prompt, {"role": "assistant", "content": answer.text}]
        return self._finish(row, answer, messages, "")

    def drop(self, row: Row, reason: str, answer: Written | None = None) -> Row:
        """Return the row without a response and with the reason."""
        return self._finish(row, answer or Written("", reason, 0), [], reason)

    def _finish(self, row: Row, answer: Written, messages: list[Message], drop_reason: str) -> Row:
        written = response_columns(answer, messages, self._role, self._engine.model_name)
        finished = {**row, **written, "keep": not drop_reason, "drop_reason": drop_reason}
        self._progress.count(finished)
        return finished


async def respond(
    engine: CanComplete, messages: Sequence[Message], role: Role, seed: int
) -> Written:
    """Return the engine's answer to a conversation that ends with the user."""
    template = engine.template
    try:
        prompt_ids = template.response_prompt_ids(messages)
        done = await engine.complete(prompt_ids, role.sampling.with_seed(seed))
    except REFUSALS as error:
        return Written("", reason_of(error), seed)
    return judged(done, seed, template)


async def respond_all(
    engine: CanComplete, messages: Sequence[Message], role: Role, drawn: Sequence[int]
) -> list[Written]:
    """Return one answer for each seed to a conversation that ends with the user.

    Raises:
        PromptTooLongError, ChatTemplateError: There can be no answer at all, see `REFUSALS`.
    """
    template = engine.template
    prompt_ids = template.response_prompt_ids(messages)
    done = await engine.complete_all(prompt_ids, [role.sampling.with_seed(seed) for seed in drawn])
    return [judged(each, seed, template) for each, seed in zip(done, drawn, strict=True)]


def reason_of(error: PromptTooLongError | ChatTemplateError) -> str:
    """Return why a prompt gets no answer, as a response's reason."""
    if isinstance(error, PromptTooLongError):
        return reasons.PROMPT_TOO_LONG
    # The template refuses these messages: a control token in a text, a role it does not know.
    return reasons.BAD_MESSAGES


def judged(done: Completion, seed: int, template: PreQueryTemplate) -> Written:
    """Return a completion as an accepted or rejected answer, its thought set apart."""
    said = template.split_reasoning(done.text)
    clean = sanitize_response(
        said.answer, finish_reason=done.finish_reason, control_tokens=template.control_tokens
    )
    reason = fault_of_thought(said, template) or clean.reason or ""
    return Written(
        "" if reason else clean.text,
        reason,
        seed,
        done.text,
        done.finish_reason,
        done.completion_tokens,
        "" if reason else said.reasoning,
    )


def fault_of_thought(said: Reasoned, template: PreQueryTemplate) -> str:
    """Return why a thought rejects its answer, as a response's reason, "" if it does not."""
    if not said.closed:
        return reasons.UNFINISHED_REASONING
    if said.stray:
        return "template_tokens"
    if not said.reasoning:
        return ""
    # It stands in the prompts of later turns, where a control token would end or open a turn.
    return sanitize_response(said.reasoning, control_tokens=template.control_tokens).reason or ""


def response_columns(
    answer: Written, messages: list[Message], role: Role, model: str
) -> dict[str, Any]:
    """Return the columns about a response; without messages its text stays empty."""
    text = answer.text if messages else ""
    return {
        "response": text,
        "reasoning": role.told([answer.reasoning])[0] if messages else "",
        "messages": messages,
        "gen_response_configs": {**role.columns, "seed": answer.seed, "output_generator": model},
        "response_finish_reason": answer.finish_reason,
        "response_tokens": answer.tokens,
        "response_length": len(text),
    }


def prompt_of(row: Mapping[str, Any]) -> tuple[list[Message], str]:
    """Return what a row asks, as messages that end with the user, or [] and why it asks nothing.

    The row's messages count if it has any, without an answer to their last user message; else its
    instruction.
    """
    if carried := reasons.carried_by(row):
        return [], carried
    if has_messages(row):
        try:
            last = split_last_turn(row["messages"])
        except (ValueError, TypeError, AttributeError, KeyError):
            # Neither a list nor messages in it is as little a conversation as a wrong order.
            return [], reasons.BAD_MESSAGES
        return append_turn(last.history, last.instruction), ""
    instruction = row.get("instruction")
    if not is_text(instruction):
        return [], reasons.NO_INSTRUCTION
    return append_turn([], instruction), ""


def row_number(row: Mapping[str, Any], prompt: Sequence[Message]) -> int:
    """Return the row's number, or for rows without one a number that follows from the prompt."""
    number = row.get("row")
    if isinstance(number, int):
        return number
    return seeds.call_seed(0, 0, repr([message["content"] for message in prompt]), 0, 0)
