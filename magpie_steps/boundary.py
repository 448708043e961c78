"""Turn prompt text into the token ids that a model met before a user's text in training.

Encoding a prompt that ends with a space leaves a lone space token, which in training was part of
the first word. The right ids are those that every continuation shares: the longest common prefix
over many probes. The rest of the prompt (the healed suffix) is left to the model to write.
"""

import re
from dataclasses import dataclass
from typing import Any, Protocol

from magpie_steps.rendering import ChatTemplateError

# How instructions may begin. Words come first: the ids must be right for them, while a header like
# `<user>` may merge with a following `<` in some vocabularies.
_WORD_PROBES = tuple(
    "What how Can Explain I Write a the Give You Zero quick x Is Let's Design my Jack Käse 你好 请 "
    "こんにちは Привет Ünlü नमस्ते مرحبا 3 42".split()
)
_SIGN_PROBES = (
    "(a",
    '"Hi',
    "'s",
    "`x",
    "```",
    "$x$",
    "<p>",
    "[1]",
    "#1",
    "- a",
    "*b*",
    "/x",
    "🙂 ok",
)

# Half of a character outside Unicode's first plane, as broken JSON has it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer(Protocol):
    """What is asked of a tokenizer: transformers' tokenizers have it, slow and fast ones."""

    chat_template: Any
    special_tokens_map: Any

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the ids of `text`."""

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of `token_ids`, special tokens kept."""


@dataclass(frozen=True)
class PromptIds:
    """A prompt for an engine.

    Attributes:
        ids: Token ids, to be used as they are: BOS is in them if the template writes one.
        healed_suffix: White space at the end of the prompt text that is not in `ids`, since the
            model writes it as part of its first token; `clean_query` takes it off again.
    """

    ids: tuple[int, ...]
    healed_suffix: str


class PromptEncoder:
    """Encodes prompts of one tokenizer and one chat template.

    Args:
        tokenizer: A transformers tokenizer, or anything that encodes and decodes like one.
        pre_query: A text that ends where a user's text begins; its boundary is probed thoroughly.
        user_header: The end of later prompts. Where `pre_query` ends with it too, those cost two
            encodings, of the two probes that settled the boundary.

    Raises:
        ChatTemplateError: `boundary_merge` or `bos_doubled`.
    """

    def __init__(self, tokenizer: Tokenizer, pre_query: str, user_header: str) -> None:
        self._tokenizer = tokenizer
        self._bos_id = getattr(tokenizer, "bos_token_id", None)
        # In the first turn, a system prompt of the template's own may stand behind the header.
        self._header = user_header if pre_query.endswith(user_header) else None
        self._settled = self._settle(pre_query)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a rendered prompt, without adding any special token.

        Raises:
            ChatTemplateError: `bos_doubled` or `unreadable_text`.
        """
        broken = _LONE_SURROGATE.search(text)
        if broken:
            raise ChatTemplateError(
                "unreadable_text",
                f"A text of the prompt holds {broken.group()!a}, half of a character, which no"
                " tokenizer can read. Drop the row, or take that out.",
            )
        ids = tuple(self._tokenizer.encode(text, add_special_tokens=False))
        if self._bos_id is not None and ids[:2] == (self._bos_id, self._bos_id):
            raise ChatTemplateError(
                "bos_doubled",
                f"The prompt starts with two BOS tokens (id {self._bos_id}): the chat template"
                " writes one and the tokenizer adds another although it is told not to, or the"
                " template writes two. Fix either one.",
            )
        return ids

    def stable_prefix(self, text: str) -> PromptIds:
        """Return the ids that `text` has before any user text.

        Raises:
            ChatTemplateError: `boundary_merge`, `bos_doubled` or `unreadable_text`.
        """
        if self._header is None or not text.endswith(self._header):
            return self._settle(text).prompt
        low, high = (self.encode(text + probe) for probe in self._settled.probes)
        return PromptIds(_common_prefix(low, high), self._settled.prompt.healed_suffix)

    def _settle(self, text: str) -> "_Settled":
        words = {probe: self.encode(text + probe) for probe in _WORD_PROBES}
        signs = {probe: self.encode(text + probe) for probe in _SIGN_PROBES}
        # Signs may only shorten the ids by white space; a header that merges with one of them is
        # still right for nearly every instruction.
        for encodings in ({**words, **signs}, words):
            # Whatever the smallest and the largest of them share, all share.
            low = min(encodings, key=encodings.__getitem__)
            high = max(encodings, key=encodings.__getitem__)
            ids = _common_prefix(encodings[low], encodings[high])
            if self._covers(ids, text):
                return _Settled(PromptIds(ids, self._healed_suffix(ids, text)), (low, high))
        raise ChatTemplateError(
            "boundary_merge",
            f"The tokenizer merges the end of the pre-query text {text[-40:]!r} with the user's"
            f" first characters: only {self._decode(ids)[-40:]!r} has ids of its own. A prompt"
            " cannot end there; is this the tokenizer that the template is for?",
        )

    def _covers(self, ids: tuple[int, ...], text: str) -> bool:
        """Say whether `ids` hold all of `text` but white space at its end."""
        if _squash(self._decode(ids)) == _squash(text):
            return True
        # Decoding may lose characters that encoding keeps (normalisation): compare ids as well.
        return bool(ids) and ids in (self.encode(text.rstrip()), self.encode(text))

    def _healed_suffix(self, ids: tuple[int, ...], text: str) -> str:
        # A token may eat the white space after it (Phi-3): then nothing is missing.
        if ids == self.encode(text):
            return ""
        decoded = self._decode(ids)
        missing, present = text[len(text.rstrip()) :], decoded[len(decoded.rstrip()) :]
        return missing.removeprefix(present)

    def _decode(self, ids: tuple[int, ...]) -> str:
        return self._tokenizer.decode(list(ids)) if ids else ""


@dataclass(frozen=True)
class _Settled:
    """A boundary, and the two probes whose encodings alone give it."""

    prompt: PromptIds
    probes: tuple[str, str]


def _common_prefix(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return left[:index]
    return min(left, right, key=len)


def _squash(text: str) -> str:
    return "".join(text.split())
