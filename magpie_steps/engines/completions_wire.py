"""How is a sampling written into a request to /v1/completions, and its answer read?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from magpie_steps.engines.abilities import Abilities, choices_of
from magpie_steps.engines.http_client import GarbledError
from magpie_steps.engines.sampling import (
    Completion,
    Sampling,
    UnsupportedSamplingError,
    as_completion,
    token_constraints,
)

FEATURE_OF = {
    "logit_bias": "logit_bias",
    "allowed_token_ids": "allowed_token_ids",
    "bad_words": "bad_words",
    "structure": "structured_outputs",
    "first_token_not": "logit_bias",
}
"""The constraints of a `Sampling` and the feature of a server that each of them needs."""

LONGEST_TOKEN = 1024
"""More characters than any token has: the longest in vocabularies are some hundred spaces."""


def sampling_fields(
    sampling: Sampling, abilities: Abilities, decode: Callable[[Sequence[int]], str]
) -> dict[str, Any]:
    """A request's fields about what is drawn and where it ends.

    Args:
        sampling: how to draw; a constraint that the server does not obey was refused before.
        abilities: what the server can do.
        decode: token ids to text, special tokens kept.

    Raises:
        UnsupportedSamplingError: the server would ignore something that is asked for.
    """
    return {
        **abilities.extras,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        **_stops(sampling, abilities, decode),
        **_drawn(sampling, abilities),
        **_constraints(sampling),
    }


def read_answer(
    answer: Any,
    prompt_tokens: int,
    n: int,
    *,
    most_tokens: int,
    encode: Callable[[str], list[int]],
    end: int | None,
) -> list[Completion]:
    """The completions in a server's answer.

    Args:
        answer: its JSON.
        prompt_tokens: how many tokens the prompt has.
        n: how many completions were asked for.
        most_tokens: how many tokens each may have.
        encode: a text to token ids, for servers that do not say which they generated.
        end: the model's end token, for the same.

    Raises:
        RuntimeError: the server changed the prompt, wrote more than it was asked for, or gave up.
        GarbledError: there are no completions.
    """
    choices = choices_of(answer)
    usage = _object(answer.get("usage"))
    counted = usage.get("prompt_tokens")
    if counted != prompt_tokens:
        raise RuntimeError(
            f"the server counted {counted} tokens in a prompt of {prompt_tokens}: it has changed"
            " the prompt"
        )
    if len(choices) != n:
        raise GarbledError(f"the server gave {len(choices)} answers instead of {n}")
    for choice in choices:
        _check_length(choice["text"], most_tokens)
    cached = _number(_object(usage.get("prompt_tokens_details")).get("cached_tokens"))
    ordered = sorted(choices, key=lambda choice: _number(choice.get("index")))
    return [_completion(choice, prompt_tokens, cached, encode, end) for choice in ordered]


def _check_length(text: str, most_tokens: int) -> None:
    """Refuse a text that so many tokens cannot be, before it is made tokens of."""
    if len(text) > most_tokens * LONGEST_TOKEN:
        raise RuntimeError(
            f"the server wrote {len(text):,} characters where {most_tokens} tokens were asked for:"
            " it ignores max_tokens"
        )


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _completion(
    choice: Any,
    prompt_tokens: int,
    cached: int,
    encode: Callable[[str], list[int]],
    end: int | None,
) -> Completion:
    reason, stop, ids = (choice.get(n) for n in ("finish_reason", "stop_reason", "token_ids"))
    # In JSON a text can hold half of a surrogate pair, which no file takes.
    text = choice["text"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
        ids = encode(text)
        closing = end if stop is None else stop
        if reason == "stop" and isinstance(closing, int):
            ids = [*ids, closing]
    return as_completion(text, ids, reason, stop, prompt_tokens=prompt_tokens, cached_tokens=cached)


def _stops(
    sampling: Sampling, abilities: Abilities, decode: Callable[[Sequence[int]], str]
) -> dict[str, Any]:
    """Where an answer ends; tokens by their texts where the server cannot stop at ids."""
    texts = list(sampling.stop_strings)
    fields: dict[str, Any] = {}
    if "stop_token_ids" in abilities.features:
        fields["stop_token_ids"] = list(sampling.stop_token_ids)
    else:
        texts += [decode([token]) for token in sampling.stop_token_ids]
    return {**fields, "stop": texts} if texts else fields


def _drawn(sampling: Sampling, abilities: Abilities) -> dict[str, Any]:
    """The fields about chance; what is on and would have no effect is refused."""
    if sampling.temperature == 0:
        return {}
    fields: dict[str, Any] = {"seed": sampling.seed} if "seed" in abilities.features else {}
    for name in ("top_k", "min_p"):
        value = getattr(sampling, name)
        if value and name not in abilities.features:
            raise UnsupportedSamplingError(
                f"{name} is {value}, but the server ignores {name}; set it to 0, or use a server"
                " that knows it, such as vLLM"
            )
        if value:
            fields[name] = value
    return fields


def _constraints(sampling: Sampling) -> dict[str, Any]:
    fields = token_constraints(sampling)
    if sampling.structure:
        fields["structured_outputs"] = sampling.structure.as_fields()
    return fields
