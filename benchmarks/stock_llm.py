"""An LLM for the stock Magpie step that writes with an engine of ours."""

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

from distilabel.models.llms.base import LLM
from distilabel.models.mixins.magpie import MagpieChatTemplateMixin
from distilabel.typing import GenerateOutput
from pydantic import PrivateAttr, validate_call

from magpie_steps.engines.base import Completion, Engine, Sampling
from magpie_steps.steps.settings import ResponseSampling, SamplingSettings
from magpie_steps.templates import ChatTemplateError


class EngineLLM(LLM, MagpieChatTemplateMixin):
    """Writes a user's text or an answer, whichever the conversation waits for.

    All conversations of a batch go to the engine at once, and the batch is done with its last one.
    The prompts and the sampling are those of our own steps; so is the seed of its own that each
    text has, without which all instructions of a batch would be the same.

    Attributes:
        engine: The engine, which must be loaded.
    """

    engine: Engine

    _seeds: Any = PrivateAttr(default_factory=count)

    @property
    def model_name(self) -> str:
        """The engine's model."""
        return str(self.engine.model_name)

    @validate_call
    def generate(self, inputs: list[Any], num_generations: int = 1) -> list[GenerateOutput]:
        """Answer every conversation.

        Args:
            inputs: Conversations.
            num_generations: Answers per conversation, ignored: one each.
        """
        return asyncio.run(self._answer_all(inputs))

    async def _answer_all(self, inputs: list[Any]) -> list[GenerateOutput]:
        return await asyncio.gather(*(self._answer(messages) for messages in inputs))

    async def _answer(self, messages: list[dict[str, str]]) -> GenerateOutput:
        template = self.engine.template
        if messages and messages[-1]["role"] == "user":
            try:
                prompt_ids = template.response_prompt_ids(messages)
            except ChatTemplateError:  # the user's text holds a control token
                return _output(None)
            sampling = ResponseSampling().role_of_answers(template).sampling
            return _output(await self._write(prompt_ids, sampling))
        users = SamplingSettings().role_of_users(template, stop_on_newline=False).sampling
        return _output(await self._write(template.pre_query_ids(messages).ids, users))

    async def _write(self, prompt_ids: tuple[int, ...], sampling: Sampling) -> Completion:
        return await self.engine.complete(prompt_ids, replace(sampling, seed=next(self._seeds)))


def _output(done: Completion | None) -> GenerateOutput:
    if done is None:
        return {
            "generations": [None],
            "statistics": {"input_tokens": [0], "output_tokens": [0]},
        }
    return {
        "generations": [done.text],
        "statistics": {
            "input_tokens": [done.prompt_tokens],
            "output_tokens": [done.completion_tokens],
        },
    }
