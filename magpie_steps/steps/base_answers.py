"""How does a row get its base response?

One greedy answer as a rule, in a prompt of one of several styles. A base model knows no end of
turn: what it writes beyond its answer is cut off, and an answer that ran out of tokens is kept.
"""

from collections.abc import Sequence
from typing import Protocol

from magpie_steps import reasons, seeds
from magpie_steps.base_prompts import TextStyle
from magpie_steps.conversation import Message
from magpie_steps.engines.base import Engine
from magpie_steps.sanitize import sanitize_response
from magpie_steps.steps.answers import (
    REFUSALS,
    Role,
    Row,
    Written,
    prompt_of,
    reason_of,
    row_number,
)
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import BaseSampling

BASE_RESPONSE = "base_response"
"""The role's name in seeds."""


class Asking(Protocol):
    """What a prompt style means on an engine: how the answer is sampled, and what it may hold."""

    @property
    def role(self) -> Role:
        """How the answer is sampled and where it stops."""

    @property
    def control_tokens(self) -> frozenset[str]:
        """Texts that no answer may hold."""

    def asked_by(self, row: Row) -> tuple[list[Message], str]:
        """Return what a row asks as messages, or [] and why it asks nothing."""

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt that asks it."""

    def cut(self, text: str) -> str:
        """Return an answer without what follows it."""


class AskInText:
    """Asks in plain text: the instruction alone, since a document holds no earlier turns."""

    def __init__(self, engine: Engine, style: TextStyle, settings: BaseSampling) -> None:
        self._engine = engine
        self._style = style
        self.role = Role(settings.sampling((), style.stop_strings), settings.columns())
        self.control_tokens = engine.special_tokens

    def asked_by(self, row: Row) -> tuple[list[Message], str]:
        """Return the row's instruction, or the last user message if it has none."""
        prompt, reason = prompt_of({**row, "messages": []})
        return prompt_of(row) if reason == reasons.NO_INSTRUCTION else (prompt, reason)

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the document around the last message."""
        return self._engine.encode(self._style.prompt(messages[-1]["content"]))

    def cut(self, text: str) -> str:
        """Return an answer without the further questions that the model makes up."""
        return self._style.cut(text)


class AskInChat:
    """Asks in the chat template that the base model's tokenizer has: the whole conversation."""

    def __init__(self, engine: Engine, settings: BaseSampling) -> None:
        template = self._template = engine.template
        ids, texts = template.assistant_stop_token_ids, template.assistant_stop_strings
        self.role = Role(settings.sampling(tuple(ids), tuple(texts)), settings.columns())
        self.control_tokens = template.control_tokens

    def asked_by(self, row: Row) -> tuple[list[Message], str]:
        """Return the row's messages up to the last user's, or its instruction."""
        return prompt_of(row)

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the conversation up to where the answer begins."""
        return self._template.response_prompt_ids(messages)

    def cut(self, text: str) -> str:
        """Return the answer: its end is a control token, after which nothing was generated."""
        return text


class BaseResponseWriter:
    """Writes the base response to rows that have an instruction or messages."""

    def __init__(
        self, engine: Engine, asking: Asking, prompt_style: str, seed: int, progress: Progress
    ) -> None:
        self._engine = engine
        self._asking = asking
        self._config = {
            **asking.role.columns,
            "prompt_style": prompt_style,
            "base_generator": engine.model_name,
        }
        self._seed = seed
        self._progress = progress

    async def write(self, row: Row) -> Row:
        """Return the row with its base response; a row that is not kept costs no model call."""
        messages, reason = self._asking.asked_by(row)
        if reason:
            return self.drop(row, reason)
        number = row_number(row, messages)
        answer = await self._answer(
            messages, seeds.call_seed(self._seed, number, BASE_RESPONSE, 0, 0)
        )
        reason = answer.reason and reasons.base_response_reason(answer.reason)
        return self._finish(row, answer, reason)

    def drop(self, row: Row, reason: str) -> Row:
        """Return the row without a base response and with the reason."""
        return self._finish(row, Written("", reason, 0), reason)

    async def _answer(self, messages: Sequence[Message], seed: int) -> Written:
        asking = self._asking
        try:
            done = await self._engine.complete(
                asking.prompt_ids(messages), asking.role.sampling.with_seed(seed)
            )
        except REFUSALS as error:
            return Written("", reason_of(error), seed)
        clean = sanitize_response(asking.cut(done.text), control_tokens=asking.control_tokens)
        reason = clean.reason or ""
        tokens = done.completion_tokens
        return Written(clean.text, reason, seed, done.text, done.finish_reason, tokens)

    def _finish(self, row: Row, answer: Written, drop_reason: str) -> Row:
        finished = {
            **row,
            "base_response": answer.text,
            "base_response_raw": answer.raw,
            "base_response_finish_reason": answer.finish_reason,
            "base_response_tokens": answer.tokens,
            "gen_base_configs": {**self._config, "seed": answer.seed},
            "keep": not drop_reason,
            "drop_reason": drop_reason,
        }
        self._progress.count(finished)
        return finished
