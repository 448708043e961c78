"""How does plain text become a prompt, without a chat template?"""

from copy import deepcopy
from typing import Any

PROBE = "a"
"""Any text: what a tokenizer puts before this one it puts before all."""


class PlainTextEncoder:
    """Encodes texts for a model to continue, as it met documents in training.

    Args:
        tokenizer: a transformers tokenizer, or anything that encodes like one. It is copied: how it
            reads special tokens is switched inside it, while another thread may decode with it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = deepcopy(tokenizer)
        self._front = self._find_front()

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text, after BOS where the tokenizer puts one.

        A special token that is written in the text is encoded as the characters that it looks like.
        """
        return (*self._front, *self._bare(text))

    def _find_front(self) -> tuple[int, ...]:
        """What the tokenizer puts before a text; what it puts behind one would end the prompt."""
        bare, whole = self._bare(PROBE), list(self._tokenizer.encode(PROBE))
        places = range(len(whole) - len(bare) + 1)
        front = next((n for n in places if whole[n : n + len(bare)] == bare), 0)
        return tuple(whole[:front])

    def _bare(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return ids
