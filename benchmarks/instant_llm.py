"""An LLM for the stock Magpie step that answers at once, from the grammar of `ScriptedEngine`."""

from hashlib import blake2b
from typing import Any

from distilabel.models.llms.base import LLM
from distilabel.models.mixins.magpie import MagpieChatTemplateMixin
from distilabel.typing import GenerateOutput
from pydantic import PrivateAttr, validate_call

from magpie_steps.engines.scripted_text import Dice, make_instruction, make_response


class InstantLLM(LLM, MagpieChatTemplateMixin):
    """Writes a user's text or an answer, whichever the conversation waits for."""

    _calls: int = PrivateAttr(default=0)

    def load(self) -> None:
        """Start counting."""
        super().load()
        self._calls = 0

    @property
    def model_name(self) -> str:
        """Always "instant"."""
        return "instant"

    @validate_call
    def generate(self, inputs: list[Any], num_generations: int = 1) -> list[GenerateOutput]:
        """Answer every conversation.

        Args:
            inputs: Conversations.
            num_generations: Answers per conversation, ignored: one each.
        """
        return [self._answer(messages) for messages in inputs]

    def _answer(self, messages: list[dict[str, str]]) -> Any:
        self._calls += 1
        digest = blake2b(self._calls.to_bytes(8, "big"), digest_size=64).digest()
        dice = Dice(int.from_bytes(digest, "big"))
        answered = messages and messages[-1]["role"] == "user"
        text = make_response(dice) if answered else make_instruction(dice)
        return {
            "generations": [text],
            "statistics": {"input_tokens": [1], "output_tokens": [len(text)]},
        }
