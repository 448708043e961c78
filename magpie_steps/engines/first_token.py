"""How is a token banned from the first place only, by an engine that can ban it everywhere?"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from magpie_steps.engines.base import UnsupportedSamplingError
from magpie_steps.engines.sampling import MAX_BIAS, Completion, Sampling

Complete = Callable[[Sequence[int], Sampling], Awaitable[Completion]]
Decode = Callable[[Sequence[int]], str]


async def complete_in_two(
    complete: Complete, decode: Decode, prompt_ids: Sequence[int], sampling: Sampling
) -> Completion:
    """Ask for the first token by itself, with a bias against those that may not come, then go on.

    It costs a second request, whose prompt is the first one's and a token. The draws are those of
    two requests with the same seed.

    Args:
        complete: the engine; it obeys `logit_bias`.
        decode: token ids to text, special tokens kept.
        prompt_ids: the prompt.
        sampling: how to draw, with a `first_token_not`.

    Raises:
        UnsupportedSamplingError: the completion is to have a structure, too.
    """
    if sampling.structure:
        raise UnsupportedSamplingError(
            "first_token_not and structure do not go together: the first token is asked for by"
            " itself, and what follows it would begin the structure anew; leave one of them out"
        )
    bias = dict(sampling.logit_bias) | dict.fromkeys(sampling.first_token_not, -MAX_BIAS)
    plain = replace(sampling, first_token_not=())
    first = await complete(
        prompt_ids, replace(plain, max_new_tokens=1, logit_bias=tuple(bias.items()))
    )
    if first.finish_reason == "stop" or sampling.max_new_tokens == 1:
        return first
    rest = await complete(
        [*prompt_ids, *first.token_ids],
        replace(plain, max_new_tokens=sampling.max_new_tokens - 1),
    )
    return _joined(first, rest, decode, sampling.stop_strings)


def _joined(
    first: Completion, rest: Completion, decode: Decode, stop_strings: Sequence[str]
) -> Completion:
    """Both as one, decoded together: a character may have begun in the first token."""
    token_ids = (*first.token_ids, *rest.token_ids)
    ended_by_id = isinstance(rest.stop_reason, int)
    text = decode(token_ids[:-1] if ended_by_id else token_ids)
    # A stop string may have begun in the first token, which the second request did not see.
    found = [(text.find(stop), stop) for stop in stop_strings if stop in text]
    place, stop = min(found, default=(len(text), ""))
    return replace(
        rest,
        text=text[:place],
        token_ids=token_ids,
        finish_reason="stop" if stop else rest.finish_reason,
        stop_reason=stop or rest.stop_reason,
        prompt_tokens=first.prompt_tokens,
        completion_tokens=len(token_ids),
        cached_tokens=first.cached_tokens,
    )
