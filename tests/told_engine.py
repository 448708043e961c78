"""Engines that do what a test tells them to."""

import asyncio
import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import PrivateAttr
from tiny_tokenizers import llama_style

from magpie_steps.engines.base import Completion, Engine, EngineLostError, Sampling
from magpie_steps.engines.conversation_encoder import ConversationEncoder, Encoded
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.templates import PreQueryTemplate

Script = Callable[[str, Sampling], str]
"""Takes the prompt's text and the sampling; returns a text, which ends in "…" if truncated."""

USER_HEADER = "user<|end_header_id|>"


def question_and_answer(prompt: str, sampling: Sampling) -> str:
    """Ask a question that follows from the seed, or answer."""
    if prompt.rstrip().endswith(USER_HEADER):
        return f"What is {sampling.seed % 1_000_003} plus one?"
    return "It is one more."


class ToldEngine(Engine):
    """Says what its script says, behind a real tokenizer, and remembers what it was asked."""

    script: Script = question_and_answer
    context: int = 4096

    _asked: list[tuple[str, Sampling]] = PrivateAttr(default_factory=list)
    _template: Any = PrivateAttr(default=None)
    _tokenizer: Any = PrivateAttr(default=None)

    def load(self) -> None:
        super().load()
        self._tokenizer = llama_style()
        self._template = PreQueryTemplate.from_tokenizer(self._tokenizer)

    @property
    def asked(self) -> list[tuple[str, Sampling]]:
        return self._asked

    @property
    def model_name(self) -> str:
        return "told"

    @property
    def fingerprint(self) -> str:
        return "told"

    @property
    def template(self) -> PreQueryTemplate:
        return self._template

    @property
    def max_model_len(self) -> int:
        return self.context

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, split_special_tokens=True))

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        prompt = self._tokenizer.decode(list(prompt_ids), skip_special_tokens=False)
        self._asked.append((prompt, sampling))
        text = self.script(prompt, sampling)
        cut = text.endswith("…")
        return Completion(
            text=text.removesuffix("…"),
            token_ids=(1,) * (len(text.split()) + 1),
            finish_reason="length" if cut else "stop",
            stop_reason=None if cut else "<|eot_id|>",
            prompt_tokens=len(prompt_ids),
            completion_tokens=len(text.split()) + 1,
        )


class ObedientEngine(ToldEngine):
    """Has a vocabulary to look tokens up in, and says that it obeys a constraint."""

    @property
    def obeys(self) -> frozenset[str]:
        return frozenset({"first_token_not"})

    def text_of(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def tokens_matching(self, pattern: str) -> tuple[int, ...]:
        tokens = range(len(self._tokenizer))
        return tuple(token for token in tokens if re.fullmatch(pattern, self.text_of(token)))


class DisobedientEngine(ObedientEngine):
    """Has the vocabulary, and obeys something else."""

    @property
    def obeys(self) -> frozenset[str]:
        return frozenset({"logit_bias"})


class BlindEngine(ToldEngine):
    """Would obey, but has no vocabulary."""

    @property
    def obeys(self) -> frozenset[str]:
        return frozenset({"first_token_not"})


class CrowdedEngine(ScriptedEngine):
    """Has few places, or many, and remembers how many requests were there at once."""

    places: int = 4

    _peak: int = PrivateAttr(default=0)

    @property
    def capacity(self) -> int:
        return self.places

    @property
    def peak(self) -> int:
        return self._peak

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        self._peak = max(self._peak, self.stats.in_flight)
        await asyncio.sleep(0.01)
        return await super()._complete(prompt_ids, sampling)


class LostEngine(ScriptedEngine):
    """Is gone after some answers, as when its process was killed."""

    answers: int = 0

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        await asyncio.sleep(0)
        if self.stats.generated >= self.answers:
            raise EngineLostError("the engine's process has ended; run again")
        return await super()._complete(prompt_ids, sampling)


class FormEngine(ToldEngine):
    """Keeps to JSON schemas, as far as it says so: its script does."""

    @property
    def obeys(self) -> frozenset[str]:
        return frozenset({"structure"})


GUARD_TEMPLATE = (
    "{{ '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nCategories:\n"
    "S1: Violent Crimes.\nS2: Sex-Related Crimes.\nS10: Suicide & Self-Harm.\n\n' }}"
    "{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + '\n\n' }}"
    "{% endfor %}{{ 'Is the last message safe?<|eot_id|>' }}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
"""A chat template in the manner of a guard model's."""


class GuardEngine(ToldEngine):
    """A guard model: its template has no place for a user's free text, and is never asked for."""

    _encoder: Any = PrivateAttr(default=None)

    def load(self) -> None:
        super().load()
        self._template = None
        self._tokenizer = copy.deepcopy(self._tokenizer)  # other tests have the same one
        self._tokenizer.chat_template = GUARD_TEMPLATE
        self._encoder = ConversationEncoder(
            self._tokenizer, strip_bos=False, max_tokens=self.context - 1, asks=True
        )

    def encode_conversation(self, messages: Sequence[Any]) -> Encoded:
        return self._encoder.encode([messages])[0]
