"""An engine without a model: instant, deterministic answers from a small grammar."""

import asyncio
import re
from array import array
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator

from magpie_steps.conversation import Message, validate
from magpie_steps.engines.base import Completion, Engine, Sampling
from magpie_steps.engines.conversation_encoder import BAD_MESSAGES, Encoded
from magpie_steps.engines.scripted_text import (
    END_ID,
    FIRST_CHARACTER_ID,
    RESPONSE_SPOILABLE,
    SPOILABLE,
    USER_ID,
    Dice,
    ScriptedTokenizer,
    make_instruction,
    make_response,
    spoil,
)

if TYPE_CHECKING:
    from magpie_steps.templates import PreQueryTemplate


class ScriptedEngine(Engine):
    """Write varied questions and answers without any model, for tests and dry runs.

    After the user header it writes a user's text, after anything else an answer. A text depends on
    the engine's seed, the prompt and the sampling's seed only. Its chat template and its tokens,
    one per character, are its own.

    Attributes:
        seed: other seeds write other texts.
        delay_seconds: how long each completion takes, >= 0; other completions go on meanwhile.
        bad_fraction: per reason of the instruction sanitiser the share of user texts that it must
            reject for that reason, together at most 1.
        bad_response_fraction: the same for answers.
        failure_fraction: share of completions that raise an error instead, in [0, 1]. Whether one
            does depends on the same things as its text, so a failing request fails again.
        context_tokens: most tokens of prompt and completion together, >= 2.

    Icon:
        `:performing_arts:`

    Examples:
        Write a question

        ```python
        import asyncio

        from magpie_steps.engines.base import Sampling
        from magpie_steps.engines.scripted import ScriptedEngine

        engine = ScriptedEngine()
        engine.load()
        prompt = engine.template.pre_query_ids().ids
        print(asyncio.run(engine.complete(prompt, Sampling(seed=1))).text)
        ```
    """

    seed: int = Field(default=0, ge=0)
    delay_seconds: float = Field(default=0.0, ge=0.0)
    bad_fraction: dict[str, float] = Field(default_factory=dict)
    bad_response_fraction: dict[str, float] = Field(default_factory=dict)
    failure_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    context_tokens: int = Field(default=32_768, ge=2)

    @field_validator("bad_fraction", "bad_response_fraction")
    @classmethod
    def _check_fractions(
        cls, fractions: dict[str, float], info: ValidationInfo
    ) -> dict[str, float]:
        reasons = SPOILABLE if info.field_name == "bad_fraction" else RESPONSE_SPOILABLE
        for reason, fraction in fractions.items():
            if reason not in reasons or not 0 <= fraction <= 1:
                raise ValueError(
                    f"{reason!r}: {fraction} is not a reason with a share in [0, 1]; the reasons"
                    f" are {', '.join(reasons)}"
                )
        if sum(fractions.values()) > 1 + 1e-9:
            raise ValueError(f"the shares {fractions} add up to more than 1")
        return fractions

    @property
    def model_name(self) -> str:
        """Always "scripted"."""
        return "scripted"

    @cached_property
    def fingerprint(self) -> str:
        """Seed and everything else that changes a text; settled by the first look at it."""
        bad = sorted(self.bad_fraction.items()), sorted(self.bad_response_fraction.items())
        return f"scripted-1/{self.seed}/{bad}/{self.failure_fraction}"

    @cached_property
    def template(self) -> "PreQueryTemplate":
        """The pre-query template of the engine's own chat template."""
        from magpie_steps.templates import PreQueryTemplate

        return PreQueryTemplate.from_tokenizer(ScriptedTokenizer())

    @property
    def max_model_len(self) -> int:
        """Most tokens that prompt and completion may have together."""
        return self.context_tokens

    def encode(self, text: str) -> tuple[int, ...]:
        """A plain text as prompt ids: BOS, then one for each character."""
        return tuple(ScriptedTokenizer().encode(text, split_special_tokens=True))

    def encode_conversation(self, messages: Sequence[Message]) -> Encoded:
        """A conversation's texts as prompt ids, one message a line."""
        try:
            validate(messages)
        except ValueError:
            return Encoded((), BAD_MESSAGES)
        text = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
        return Encoded(self.encode(text), text=text)

    @property
    def obeys(self) -> frozenset[str]:
        """A first token that may not come is left out of the text."""
        return frozenset({"first_token_not"})

    def tokens_matching(self, pattern: str) -> tuple[int, ...]:
        """The ids of the ASCII characters that match a regular expression."""
        characters = (code for code in range(128) if re.fullmatch(pattern, chr(code)))
        return tuple(code + FIRST_CHARACTER_ID for code in characters)

    @property
    def calls(self) -> int:
        """Completions asked for since `load()`, those from the journal not counted."""
        return self.stats.generated + self.stats.failed

    def load(self) -> None:
        """Reset the counters; from here on the fields stand for the engine's texts."""
        super().load()
        self.__dict__.pop("fingerprint", None)

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        dice = Dice(self._number(prompt_ids, sampling))
        if self.failure_fraction and dice.chance() < self.failure_fraction:
            raise RuntimeError("the scripted engine fails on this request, as it was told to")
        if prompt_ids[-1] == USER_ID:
            text, reason = make_instruction(dice), _drawn(self.bad_fraction, dice)
        else:
            text, reason = make_response(dice), _drawn(self.bad_response_fraction, dice)
        return _finish(
            spoil(text, reason, dice) if reason else text, reason, len(prompt_ids), sampling
        )

    def _number(self, prompt_ids: Sequence[int], sampling: Sampling) -> int:
        seed = sampling.seed if sampling.temperature > 0 else -1
        digest = blake2b(f"{self.fingerprint}|{seed}|".encode(), digest_size=64)
        digest.update(array("i", prompt_ids).tobytes())
        return int.from_bytes(digest.digest(), "big")


def _drawn(fractions: dict[str, float], dice: Dice) -> str:
    if not fractions:
        return ""
    chance = dice.chance()
    for reason, fraction in fractions.items():
        chance -= fraction
        if chance < 0:
            return reason
    return ""


def _finish(text: str, reason: str, prompt_tokens: int, sampling: Sampling) -> Completion:
    """Cut the text where the sampling says so, and close it."""
    limit = sampling.max_new_tokens
    while text and ord(text[0]) + FIRST_CHARACTER_ID in sampling.first_token_not:
        text = text[1:]
    if reason == "truncated":
        limit = min(limit, len(text) // 2 + 1)
    stop: int | str | None = END_ID
    for stop_string in sampling.stop_strings:
        head, found, _ = text.partition(stop_string)
        if found:
            text, stop = head, stop_string
    ids = ScriptedTokenizer().encode(text, add_special_tokens=False)
    closing = [END_ID] if stop == END_ID else [ord(c) + FIRST_CHARACTER_ID for c in str(stop)]
    ids += closing
    if len(ids) > limit:
        ids, stop = ids[:limit], None
        text = ScriptedTokenizer().decode(ids)
    return Completion(
        text=text,
        token_ids=tuple(ids),
        finish_reason="length" if stop is None else "stop",
        stop_reason=stop,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(ids),
    )
