"""Two requests whose answer is one completion: a first token that may not come, then the rest.

The model here writes its text byte by byte, so every test can say which token comes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import pytest

from magpie_steps.engines.base import UnsupportedSamplingError
from magpie_steps.engines.first_token import complete_in_two
from magpie_steps.engines.sampling import MAX_BIAS, Completion, Sampling, Structure

PROMPT = (300, 301, 302)
END = 256
HASH = ord("#")


def decode(token_ids: Sequence[int]) -> str:
    parts = [b"<end>" if token == END else bytes([token]) for token in token_ids]
    return b"".join(parts).decode("utf-8", errors="replace")


class ByteModel:
    """Writes a text, then END; where a byte is banned it writes the next of `instead`."""

    def __init__(self, text: str, instead: str = "XY") -> None:
        self._bytes = text.encode()
        self._instead = instead.encode()
        self.prompts: list[tuple[int, ...]] = []

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        await asyncio.sleep(0)
        known = max((_shared(prompt_ids, earlier) for earlier in self.prompts), default=0)
        self.prompts.append(tuple(prompt_ids))
        token_ids: list[int] = []
        text, stop = "", None
        while stop is None and len(token_ids) < sampling.max_new_tokens:
            token_ids.append(self._next([*prompt_ids[len(PROMPT) :], *token_ids], sampling))
            text, stop = _ending(token_ids, sampling)
        return Completion(
            text=text,
            token_ids=tuple(token_ids),
            finish_reason="length" if stop is None else "stop",
            stop_reason=stop,
            prompt_tokens=len(prompt_ids),
            completion_tokens=len(token_ids),
            cached_tokens=known,
        )

    def _next(self, written: Sequence[int], sampling: Sampling) -> int:
        place = len(written)
        likeliest = self._bytes[place] if place < len(self._bytes) else END
        bias = dict(sampling.logit_bias)
        candidates = [likeliest, *self._instead, END]
        return next(token for token in candidates if bias.get(token, 0.0) > -MAX_BIAS)


def _shared(prompt_ids: Sequence[int], earlier: Sequence[int]) -> int:
    same = (one == other for one, other in zip(prompt_ids, earlier, strict=False))
    return sum(takewhile(bool, same))


def _ending(token_ids: Sequence[int], sampling: Sampling) -> tuple[str, int | str | None]:
    last = token_ids[-1]
    if last == END or last in sampling.stop_token_ids:
        return decode(token_ids[:-1]), last
    text = decode(token_ids)
    found = [(text.find(stop), stop) for stop in sampling.stop_strings if stop in text]
    place, stop = min(found, default=(len(text), None))
    return text[:place], stop


def in_two(model: ByteModel, sampling: Sampling) -> Completion:
    return asyncio.run(complete_in_two(model.complete, decode, PROMPT, sampling))


def write(text: str, banned: str = "#", **settings: Any) -> Completion:
    ids = tuple(banned.encode())
    return in_two(ByteModel(text), Sampling(first_token_not=ids, **settings))


# What comes first, and what comes later


def test_a_banned_first_token_gives_way_and_may_come_later() -> None:
    done = write("##ab")
    assert done == Completion(
        text="X#ab",
        token_ids=(*b"X#ab", END),
        finish_reason="stop",
        stop_reason=END,
        prompt_tokens=3,
        completion_tokens=5,
    )


def test_every_banned_token_gives_way() -> None:
    assert write("##ab", banned="#X").text == "Y#ab"
    assert write("##ab", banned="#XY").text == ""


def test_a_bias_of_ones_own_holds_in_both_parts() -> None:
    bias = {ord("a"): -MAX_BIAS, HASH: 5.0}
    assert write("##ab", logit_bias=bias).text == "X#Xb"
    assert write("##ab", logit_bias={HASH: -MAX_BIAS}).text == "XXab"


@pytest.mark.parametrize("text", ["", "a", "ab\ncd", "é", "né\n", "你好, world", "🐦 a magpie"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stop_strings": ("\n",)},
        {"stop_strings": ("world", "好")},
        {"stop_token_ids": tuple(b"db,m")},
    ],
)
def test_without_anything_to_ban_it_is_the_same_as_one_request(
    text: str, tokens: int, settings: dict[str, Any]
) -> None:
    """Text, tokens, counts and reasons; stops that begin in the first token are another matter."""
    sampling = Sampling(max_new_tokens=tokens, **settings)
    model = ByteModel(text)
    alone = asyncio.run(model.complete(PROMPT, sampling))
    assert in_two(model, replace(sampling, first_token_not=(HASH,))) == alone


# Texts


def test_a_character_of_several_tokens_is_whole_when_it_began_in_the_first() -> None:
    """Decoded one by one, both parts are broken characters."""
    done = write("é!", banned="#")
    assert done.text == "é!"
    assert done.token_ids == (*"é!".encode(), END)
    assert write("🐦").text == "🐦"


def test_a_character_that_is_cut_off_is_as_broken_as_in_one_request() -> None:
    assert write("é", max_new_tokens=1).text == "\ufffd"
    assert write("🐦", max_new_tokens=3).text == "\ufffd"


# Ends


def test_one_token_is_one_request() -> None:
    model = ByteModel("ab")
    done = in_two(model, Sampling(first_token_not=(HASH,), max_new_tokens=1))
    assert (done.text, done.token_ids) == ("a", (ord("a"),))
    assert (done.finish_reason, done.stop_reason) == ("length", None)
    assert model.prompts == [PROMPT]


def test_the_length_is_that_of_both_parts() -> None:
    done = write("##abcdef", max_new_tokens=4)
    assert (done.text, done.completion_tokens) == ("X#ab", 4)
    assert (done.finish_reason, done.stop_reason) == ("length", None)


@pytest.mark.parametrize(
    ("text", "settings", "stop"),
    [
        ("", {}, END),
        ("ab", {"stop_token_ids": (ord("a"),)}, ord("a")),
        ("ab", {"stop_strings": ("a",)}, "a"),
    ],
)
def test_a_stop_in_the_first_token_is_the_end(
    text: str, settings: dict[str, Any], stop: int | str
) -> None:
    model = ByteModel(text)
    done = in_two(model, Sampling(first_token_not=(HASH,), **settings))
    assert (done.text, done.completion_tokens) == ("", 1)
    assert (done.finish_reason, done.stop_reason) == ("stop", stop)
    assert model.prompts == [PROMPT]


def test_a_stop_token_in_the_rest_is_the_end() -> None:
    done = write("##ab.cd", stop_token_ids=(ord("."),))
    assert (done.text, done.token_ids) == ("X#ab", tuple(b"X#ab."))
    assert (done.finish_reason, done.stop_reason) == ("stop", ord("."))


def test_a_stop_string_in_the_rest_is_the_end() -> None:
    done = write("##ab\n\ncd", stop_strings=("never", "\n\n"))
    assert (done.text, done.token_ids) == ("X#ab", tuple(b"X#ab\n\n"))
    assert (done.finish_reason, done.stop_reason) == ("stop", "\n\n")


@pytest.mark.parametrize("tokens", [3, 5, 20])
def test_a_stop_string_that_begins_in_the_first_token_is_found(tokens: int) -> None:
    """The second request does not see it and goes on; its tokens were generated, so they count."""
    done = write("<|end|>ab", stop_strings=("<|e", "b"), max_new_tokens=tokens)
    assert done.text == ""
    assert (done.finish_reason, done.stop_reason) == ("stop", "<|e")
    assert done.token_ids == tuple(b"<|end|>ab")[:tokens]
    assert done.completion_tokens == len(done.token_ids)


def test_the_first_of_several_stop_strings_counts() -> None:
    assert write("ab--cd--", stop_strings=("d-", "b-", "--")).stop_reason == "b-"


# What else there is to know


def test_a_prompt_counts_once_and_so_does_what_was_known_of_it() -> None:
    """All but one token of the second request's prompt is known, which is no merit of a cache."""
    model = ByteModel("##ab")
    sampling = Sampling(first_token_not=(HASH,))
    fresh, again = in_two(model, sampling), in_two(model, sampling)
    assert (fresh.prompt_tokens, fresh.cached_tokens) == (3, 0)
    assert (again.prompt_tokens, again.cached_tokens) == (3, 3)
    assert model.prompts[1] == (*PROMPT, ord("X"))


def test_a_structure_is_refused() -> None:
    """Its grammar would begin anew with the second request: not the form that was asked for."""
    with pytest.raises(UnsupportedSamplingError, match="leave one of them out"):
        write("ab", structure=Structure("regex", "#?a+"))


@pytest.mark.parametrize("length", [3, 4])
def test_an_error_of_either_request_is_the_completions(length: int) -> None:
    class Fails(ByteModel):
        async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
            if len(prompt_ids) == length:
                raise OSError("no memory")
            return await super().complete(prompt_ids, sampling)

    with pytest.raises(OSError, match="no memory"):
        in_two(Fails("##ab"), Sampling(first_token_not=(HASH,)))
