"""An engine that says what a test tells it to, behind a real tokenizer and template."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import PrivateAttr
from tiny_tokenizers import llama_style

from magpie_steps.engines.base import Completion, Engine, Sampling
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
    """Says what its script says and remembers what it was asked."""

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
