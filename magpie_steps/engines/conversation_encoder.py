"""Which token ids does a model read that judges a whole conversation?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from magpie_steps.conversation import ASSISTANT, Message, append_turn, start, validate
from magpie_steps.probes import REASONING_TAGS
from magpie_steps.rendering import ChatRenderer, ChatTemplateError
from magpie_steps.stops import special_texts, vocabulary_of

TOO_LONG = "too_long"
CONTROL_TOKENS = "control_tokens"
BAD_MESSAGES = "bad_messages"

PROBE = append_turn(append_turn([], "Hi", "Hello"), "How are you?", "Fine.")
"""A conversation that every chat template takes."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation's token ids and their text, or why it has none."""

    ids: tuple[int, ...]
    reason: str = ""
    text: str = ""


class ConversationEncoder:
    """Renders conversations with a tokenizer's chat template and encodes them.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        strip_bos: Take the template's BOS off the text and let the tokenizer add its own special
            tokens, as a text-classification pipeline does; else the text is encoded as it is.
        max_tokens: Tokens of the longest conversation that the model reads.
        asks: Whether the model writes its judgement, so that its turn is opened behind the
            conversation; such a model also judges what has not been answered yet.

    Raises:
        ValueError: The tokenizer has no chat template.
        ChatTemplateError: The template takes no conversation at all.
    """

    def __init__(
        self, tokenizer: Any, *, strip_bos: bool, max_tokens: int, asks: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._asks = asks
        self._strip_bos = strip_bos
        self._max_tokens = max_tokens
        self._bos = str(tokenizer.special_tokens_map.get("bos_token") or "")
        self._renderer = ChatRenderer(
            tokenizer.get_chat_template(), dict(tokenizer.special_tokens_map), {}, datetime.now()
        )
        rendered = self._render(PROBE)
        if not rendered.strip():
            raise ChatTemplateError(
                "render_error", "The chat template makes nothing of a conversation; give another"
            )
        self._probe = rendered + self._system_probe()
        self._has_bos = bool(self._bos) and self._probe.startswith(self._bos)
        self._control = _any_of(_control_tokens(tokenizer, self._probe))

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Return each conversation's ids, or the reason why the model cannot read it.

        The reasons: `bad_messages` (not a conversation that ends with an answer, unless the model
        asks, or one that the template refuses), `control_tokens` (a text holds one, which would end
        or open a turn) and `too_long`.
        """
        encoded = [Encoded((), self._refusal(messages)) for messages in conversations]
        texts: dict[int, str] = {}
        for place, messages in enumerate(conversations):
            if encoded[place].reason:
                continue
            try:
                texts[place] = self._render(messages)
            except ChatTemplateError:
                encoded[place] = Encoded((), BAD_MESSAGES)
        for place, ids in zip(texts, self._ids(list(texts.values())), strict=True):
            fits = len(ids) <= self._max_tokens
            encoded[place] = Encoded(ids, text=texts[place]) if fits else Encoded((), TOO_LONG)
        return encoded

    def unused_token(self, vocabulary: int) -> int | None:
        """Return the id of a token that no conversation holds, for padding; None if there is none.

        Args:
            vocabulary: Number of ids that the model knows.
        """
        # Special tokens are refused in texts, so what the template does not write does not occur.
        known = vocabulary_of(self._tokenizer)
        special = sorted(known[text] for text in special_texts(self._tokenizer) if text in known)
        written = set(self._tokenizer.encode(self._probe, add_special_tokens=True))
        return next((i for i in special if i < vocabulary and i not in written), None)

    def _refusal(self, messages: Sequence[Message]) -> str:
        try:
            validate(messages)
        except ValueError:
            return BAD_MESSAGES
        if messages[-1]["role"] != ASSISTANT and not self._asks:
            return BAD_MESSAGES
        held = any(self._control.search(message["content"]) for message in messages)
        return CONTROL_TOKENS if held else ""

    def _render(self, messages: Sequence[Message]) -> str:
        return self._renderer.render(messages, add_generation_prompt=self._asks)

    def _ids(self, texts: list[str]) -> list[tuple[int, ...]]:
        if not texts:
            return []
        if self._strip_bos:
            texts = [text.removeprefix(self._bos) for text in texts]
        found = self._tokenizer(texts, add_special_tokens=self._strip_bos, verbose=False)
        return [self._bos_once(ids) for ids in found["input_ids"]]

    def _bos_once(self, ids: list[int]) -> tuple[int, ...]:
        """Return the ids with one BOS if the template or the tokenizer begins with any."""
        bos = self._tokenizer.bos_token_id
        if bos is None:
            return tuple(ids)
        first = next((place for place, i in enumerate(ids) if i != bos), len(ids))
        return (bos, *ids[first:]) if first or self._has_bos else tuple(ids)

    def _system_probe(self) -> str:
        """Return a conversation with a system message, "" if the template takes none."""
        try:
            return self._render([*start("Be brief."), *PROBE])
        except ChatTemplateError:
            return ""


def _control_tokens(tokenizer: Any, written: str) -> set[str]:
    """Return the special tokens, and the added ones that the template itself writes."""
    tokens = special_texts(tokenizer)
    tokens |= {token for token in vocabulary_of(tokenizer) if token in written}
    return {t for t in tokens - REASONING_TAGS if t.strip() and not t.isalnum()}


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(tokens))) or "(?!)")
