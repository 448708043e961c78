"""What is a completion asked for with, and what comes back?"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Literal

MAX_SEED = 2**63 - 1
MAX_BIAS = 100.0
"""vLLM and OpenAI take no larger bias; it makes a token certain, or impossible if negative."""

CONSTRAINTS = ("logit_bias", "allowed_token_ids", "bad_words", "first_token_not", "structure")
"""The fields of `Sampling` that say which tokens may come; not every engine obeys each of them."""


class UnsupportedSamplingError(ValueError):
    """The engine cannot draw, or constrain, as the sampling asks."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The form that a completion must have.

    Attributes:
        kind: "json" (a JSON schema), "regex" or "choice" (one of several texts).
        value: the schema as JSON text, the regular expression, or the texts.

    Raises:
        ValueError: the kind and the value do not belong together.
    """

    kind: Literal["json", "regex", "choice"]
    value: str | tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the value is one of its kind."""
        if self.kind == "choice":
            texts = (self.value,) if isinstance(self.value, str) else tuple(self.value)
            object.__setattr__(self, "value", texts)
        if self.kind not in ("json", "regex", "choice"):
            raise ValueError(f"Structure.kind is {self.kind!r}; it must be json, regex or choice")
        if not self.value or (self.kind != "choice" and not isinstance(self.value, str)):
            raise ValueError(
                f"Structure.value is {self.value!r}; it must be a text, or texts for a choice"
            )

    def as_fields(self) -> dict[str, str | list[str]]:
        """The structure by its kind, as vLLM and its server take it."""
        return {self.kind: self.value if isinstance(self.value, str) else list(self.value)}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn, and where it ends.

    Attributes:
        max_new_tokens: most tokens to generate, >= 1.
        temperature: 0 is greedy (the likeliest token each time); 1 draws from the model's own
            distribution; above 1 flattens it.
        top_p: keep the likeliest tokens that together reach this probability, in (0, 1]; 1 is off.
        top_k: keep the k likeliest tokens; 0 is off.
        min_p: keep tokens at least this fraction as likely as the likeliest, in [0, 1]; 0 is off.
        stop_token_ids: token ids that end the completion, besides the model's own end tokens.
        stop_strings: texts that end the completion as soon as they appear in it.
        seed: what the draws depend on, in [0, 2**63 - 1]; without effect when greedy.
        logit_bias: what is added to the logits of token ids, -100 to 100 each.
        allowed_token_ids: the only token ids that may come; empty for all.
        bad_words: texts that may not come.
        first_token_not: token ids that may not come first.
        structure: the form that the completion must have, None for any.

    Raises:
        ValueError: a value is out of its range.
    """

    max_new_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    first_token_not: tuple[int, ...] = ()
    structure: Structure | None = None

    def __post_init__(self) -> None:
        """Make every value hashable and check it against its range."""
        for name in ("stop_token_ids", "stop_strings", "allowed_token_ids", "bad_words"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "first_token_not", tuple(self.first_token_not))
        object.__setattr__(self, "logit_bias", _pairs(self.logit_bias))
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, ">= 1")
        _require(0 <= self.temperature < float("inf"), "temperature", self.temperature, ">= 0")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]; 1 is off")
        _require(self.top_k >= 0, "top_k", self.top_k, ">= 0; 0 is off")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "in [0, 1]; 0 is off")
        _require(0 <= self.seed <= MAX_SEED, "seed", self.seed, "in [0, 2**63 - 1]")
        _require("" not in self.stop_strings, "stop_strings", self.stop_strings, "non-empty texts")
        _require("" not in self.bad_words, "bad_words", self.bad_words, "non-empty texts")
        _require(
            all(abs(bias) <= MAX_BIAS for _, bias in self.logit_bias),
            "logit_bias",
            self.logit_bias,
            f"pairs of a token id and a bias in [-{MAX_BIAS:g}, {MAX_BIAS:g}]",
        )

    def __repr__(self) -> str:
        """All values but constraints that are not set: row ids are made of this text."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        shown = [f"{k}={v!r}" for k, v in values.items() if v or k not in CONSTRAINTS]
        return f"Sampling({', '.join(shown)})"

    def with_seed(self, seed: int) -> "Sampling":
        """The same with another seed, which must be in its range; quicker than `replace`.

        A row asks with a seed of its own each time, and the other values were checked already.
        """
        copy = object.__new__(Sampling)
        for name in _FIELDS:
            object.__setattr__(copy, name, getattr(self, name))
        object.__setattr__(copy, "seed", seed)
        return copy

    @property
    def constraints(self) -> tuple[str, ...]:
        """The names in `CONSTRAINTS` that are set."""
        if not (
            self.logit_bias
            or self.allowed_token_ids
            or self.bad_words
            or self.first_token_not
            or self.structure
        ):
            return ()
        return tuple(name for name in CONSTRAINTS if getattr(self, name))


def token_constraints(sampling: Sampling) -> dict[str, Any]:
    """The constraints on tokens that are set, under the names that vLLM and its server have."""
    found: dict[str, Any] = {
        "logit_bias": dict(sampling.logit_bias),
        "allowed_token_ids": list(sampling.allowed_token_ids),
        "bad_words": list(sampling.bad_words),
    }
    return {name: value for name, value in found.items() if value}


_FIELDS = tuple(each.name for each in fields(Sampling))


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes:
        text: the new tokens decoded with special tokens kept, without the stop that ended it.
        token_ids: every generated id, a stop token included.
        finish_reason: "stop" (a stop token or string came) or "length" (max_new_tokens ran out).
        stop_reason: the token id or the string that ended it; None when finish_reason is "length".
        prompt_tokens: length of the prompt.
        completion_tokens: length of `token_ids`.
        cached_tokens: prompt tokens that the engine had computed before, where it says so. Two
            completions that say the same are equal, whatever they cost.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    stop_reason: int | str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = field(default=0, compare=False)


def as_completion(
    answer: str,
    ids: Sequence[int],
    finish_reason: str | None,
    stop_reason: int | str | None,
    *,
    prompt_tokens: int,
    cached_tokens: int,
) -> Completion:
    """The completion that vLLM, or a server like it, tells of.

    Args:
        answer: its text.
        ids: its tokens, as many as are known.
        finish_reason: why it ended.
        stop_reason: the stop string or token that ended it; None also if it was the model's own end
            token, which is the last one then.
        prompt_tokens: length of the prompt.
        cached_tokens: those of them that had been computed before.

    Raises:
        RuntimeError: it did not come to an end.
    """
    if finish_reason not in ("stop", "length"):
        raise RuntimeError(f"the engine gave up a request: finish_reason is {finish_reason!r}")
    if finish_reason == "length":
        stop_reason = None
    elif stop_reason is None and ids:
        stop_reason = ids[-1]
    return Completion(
        text=answer,
        token_ids=tuple(ids),
        finish_reason="stop" if finish_reason == "stop" else "length",
        stop_reason=stop_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(ids),
        cached_tokens=cached_tokens,
    )


def completion_key(fingerprint: str, prompt_ids: Sequence[int], sampling: Sampling) -> bytes:
    """The journal's key: 32 bytes that stand for everything a completion depends on."""
    s = sampling
    drawn = (s.temperature + 0.0, s.top_p + 0.0, s.top_k, s.min_p + 0.0, s.seed)
    if s.temperature == 0:
        drawn = (0.0, 1.0, 0, 0.0, 0)  # nothing is drawn: the other settings have no effect
    how = f"{fingerprint}\0{s.max_new_tokens}\0{drawn}\0{s.stop_token_ids}\0{s.stop_strings}\0"
    for name in s.constraints:
        how += f"{name}={getattr(s, name)}\0"
    return sha256(how.encode() + array("q", prompt_ids).tobytes()).digest()


def _pairs(
    bias: Mapping[int, float] | Sequence[tuple[int, float]],
) -> tuple[tuple[int, float], ...]:
    items = bias.items() if isinstance(bias, Mapping) else bias
    return tuple(sorted((int(token), float(value)) for token, value in items))


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"Sampling.{name} is {value!r}; it must be {allowed}")
