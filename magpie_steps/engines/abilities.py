"""What can this completions server do? Found out by what it does, not by what it says.

Servers ignore what they do not know without a word, put a second BOS before a text, or a whole chat
template around it. So each ability is tried once, with a request whose answer tells.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distilabel.errors import DistilabelUserError

from magpie_steps.engines.http_client import GarbledError, ServerError

Ask = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Takes a request's fields besides the model, returns the answer's JSON."""

DRAWN = {"temperature": 2.0, "top_p": 1.0, "max_tokens": 8}
"""So hot that two seeds hardly ever give the same text."""

GREEDY = {"temperature": 0.0, "max_tokens": 1}

REFUSED = (400, 404, 405, 415, 422, 500, 501)
"""Statuses of servers that do not take what they were sent."""

NO_COMPLETIONS = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server can do.

    Attributes:
        takes_ids: prompts may be token ids; else they are texts.
        adds_bos: it puts BOS before a text, so that the text must come without.
        plain_text: what tells it to leave a text as it is.
        gives_ids: it says which tokens it generated.
        features: fields that have an effect: "seed", "top_k", "min_p", "stop_token_ids",
            "logit_bias", "allowed_token_ids", "bad_words", "structured_outputs", "n".
        extras: fields that it takes, and that make it say more or change less.
    """

    takes_ids: bool
    adds_bos: bool = False
    plain_text: Mapping[str, Any] = field(default_factory=dict)
    gives_ids: bool = False
    features: frozenset[str] = frozenset()
    extras: Mapping[str, Any] = field(default_factory=dict)

    def both(self, other: "Abilities") -> "Abilities":
        """What this server and another one can do.

        Raises:
            ValueError: they do not take the same prompts.
        """
        mine = (self.takes_ids, self.adds_bos, dict(self.plain_text))
        if mine != (other.takes_ids, other.adds_bos, dict(other.plain_text)):
            raise ValueError("they do not take the same prompts")
        shared = {name: value for name, value in self.extras.items() if name in other.extras}
        return Abilities(
            self.takes_ids,
            self.adds_bos,
            self.plain_text,
            self.gives_ids and other.gives_ids,
            self.features & other.features,
            shared,
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """A prompt to try a server with, in all forms.

    Attributes:
        ids: its token ids.
        text: the same as text, control tokens included.
        bos: what `text` begins with if that is BOS, else "".
        other_id: the id of some ordinary token.
        decode: token ids to text.
        encode: a text to token ids, nothing added.
    """

    ids: tuple[int, ...]
    text: str
    bos: str
    other_id: int
    decode: Callable[[Sequence[int]], str]
    encode: Callable[[str], Sequence[int]]


EXTRAS = {
    "return_token_ids": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}


async def find_abilities(ask: Ask, probe: Probe, where: str) -> Abilities:
    """Find out what a server can do.

    Args:
        ask: sends it a request.
        probe: what to ask it with.
        where: its address, for errors.

    Raises:
        DistilabelUserError: it has no completions, or changes every prompt that it is given.
    """
    found = await _prompt_form(ask, probe, where)
    prompt = prompt_fields(found, probe.ids, probe.text, probe.bos)
    extras = {}
    for name, value in EXTRAS.items():
        if await _answers(ask, {**prompt, **GREEDY, name: value}):
            extras[name] = value
    tried = _Trial(ask, {**prompt, **extras}, probe)
    gives_ids = bool((await tried.choice(GREEDY)).get("token_ids"))
    return Abilities(
        found.takes_ids,
        found.adds_bos,
        found.plain_text,
        gives_ids,
        await tried.features(),
        extras if gives_ids else {k: v for k, v in extras.items() if k != "return_token_ids"},
    )


def prompt_fields(abilities: Abilities, ids: Sequence[int], text: str, bos: str) -> dict[str, Any]:
    """The fields of a request that hold its prompt, in the form that the server takes."""
    if abilities.takes_ids:
        return {"prompt": list(ids)}
    return {
        "prompt": text.removeprefix(bos) if abilities.adds_bos else text,
        **abilities.plain_text,
    }


async def _prompt_form(ask: Ask, probe: Probe, where: str) -> Abilities:
    """In which form a prompt arrives as it is: the server's own count of its tokens tells."""
    forms = [
        Abilities(takes_ids=True),
        Abilities(takes_ids=False, plain_text={"add_special_tokens": False}),
        Abilities(takes_ids=False),
        *([Abilities(takes_ids=False, adds_bos=True)] if probe.bos else []),
    ]
    counts: list[str] = []
    for form in forms:
        body = {**prompt_fields(form, probe.ids, probe.text, probe.bos), **GREEDY}
        try:
            answer = await ask(body)
        except ServerError as error:
            if error.status in NO_COMPLETIONS:
                raise _no_completions(where, error) from error
            if error.status not in REFUSED:
                raise DistilabelUserError(str(error)) from error
            counts.append(f"refused ({error.status})")
            continue
        count = _prompt_tokens(answer)
        if count == len(probe.ids):
            return form
        counts.append(f"{count} tokens")
    raise _changed_prompt(where, probe, counts)


def _no_completions(where: str, error: ServerError) -> DistilabelUserError:
    return DistilabelUserError(
        f"{where} has no /completions for this model ({error.status}: {error.detail[:200]}). Magpie"
        " gives a model the beginning of a user's turn and nothing else; a chat endpoint puts its"
        " own template around every prompt and opens the assistant's turn, so no model can write a"
        " user's turn there. Serve the model with vLLM, SGLang or llama.cpp, whose /v1/completions"
        " continue raw prompts, or check the model's name"
    )


def _changed_prompt(where: str, probe: Probe, counts: Sequence[str]) -> DistilabelUserError:
    names = ["as token ids", "as text with add_special_tokens=false", "as text", "without BOS"]
    tried = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=False))
    one_more = f"{len(probe.ids) + 1} tokens"
    cause = (
        "it puts a BOS of its own before every prompt"
        if one_more in counts
        else "it puts a chat template around every prompt, or reads it with another tokenizer"
    )
    return DistilabelUserError(
        f"{where} does not take a prompt as it is: {len(probe.ids)} tokens were counted here, there"
        f" {tried}. Perhaps {cause}. Give the tokenizer of the model that is served (model=...), or"
        " a server that takes raw prompts and says usage.prompt_tokens"
    )


def _prompt_tokens(answer: Any) -> int | None:
    try:
        return int(answer["usage"]["prompt_tokens"])
    except (KeyError, TypeError, ValueError):
        return None


def choices_of(answer: Any) -> list[Any]:
    """The completions in an answer, each with a text.

    Raises:
        GarbledError: there are none.
    """
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    there = choices if isinstance(choices, list) else []
    if not there or not all(isinstance(each, Mapping) and _has_text(each) for each in there):
        raise GarbledError(f"the server answered without a completion: {str(answer)[:200]}")
    return there


def _has_text(choice: Mapping[str, Any]) -> bool:
    return isinstance(choice.get("text"), str)


async def _answers(ask: Ask, body: Mapping[str, Any]) -> bool:
    try:
        answer = await ask(body)
    except ServerError:
        return False
    return isinstance(answer, Mapping) and bool(answer.get("choices"))


class _Trial:
    """Tries each feature by its effect on one prompt."""

    def __init__(self, ask: Ask, base: Mapping[str, Any], probe: Probe) -> None:
        self._ask = ask
        self._base = base
        self._probe = probe

    async def features(self) -> frozenset[str]:
        """The features that have their effect."""
        tests = {
            "seed": self._seed,
            "top_k": self._top_k,
            "min_p": self._min_p,
            "stop_token_ids": self._stop_token_ids,
            "logit_bias": self._logit_bias,
            "allowed_token_ids": self._allowed_token_ids,
            "bad_words": self._bad_words,
            "structured_outputs": self._structured_outputs,
            "n": self._n,
        }
        works = await asyncio.gather(*(self._try(test) for test in tests.values()))
        return frozenset(name for name, works in zip(tests, works, strict=True) if works)

    async def choice(self, fields: Mapping[str, Any]) -> Any:
        """The first choice of an answer."""
        return (await self._choices(fields))[0]

    async def _choices(self, fields: Mapping[str, Any]) -> list[Any]:
        return choices_of(await self._ask({**self._base, **fields}))

    async def _try(self, test: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await test()
        except (ServerError, GarbledError, KeyError, IndexError, TypeError):
            return False

    async def _text(self, **fields: Any) -> str:
        return str((await self.choice(fields))["text"])

    async def _first(self) -> tuple[int, str]:
        """The id and text of the likeliest first token."""
        choice = await self.choice(GREEDY)
        ids = choice.get("token_ids") or self._probe.encode(choice["text"])
        return ids[0], str(choice["text"])

    async def _seed(self) -> bool:
        texts = [await self._text(**DRAWN, seed=seed) for seed in (1, 1, 2)]
        return texts[0] == texts[1] != texts[2]

    async def _is_greedy(self, **fields: Any) -> bool:
        """Whether hot draws become the likeliest text, and are not so without these fields."""
        greedy = await self._text(temperature=0.0, max_tokens=DRAWN["max_tokens"])
        cooled = [await self._text(**DRAWN, **fields) for _ in range(2)]
        plain = [await self._text(**DRAWN) for _ in range(2)]
        return cooled == [greedy, greedy] != plain

    async def _top_k(self) -> bool:
        return await self._is_greedy(top_k=1)

    async def _min_p(self) -> bool:
        return await self._is_greedy(min_p=1.0)

    async def _stop_token_ids(self) -> bool:
        first, text = await self._first()
        fields = {"temperature": 0.0, "max_tokens": 4}
        longer = await self._text(**fields)
        stopped = await self.choice({**fields, "stop_token_ids": [first]})
        kept = stopped["text"]
        return stopped["finish_reason"] == "stop" and kept in ("", text) and kept != longer

    async def _logit_bias(self) -> bool:
        first, text = await self._first()
        return await self._text(**GREEDY, logit_bias={str(first): -100}) != text

    async def _allowed_token_ids(self) -> bool:
        only = self._probe.other_id
        text = await self._text(temperature=0.0, max_tokens=2, allowed_token_ids=[only])
        return text.strip() == self._probe.decode([only, only]).strip()

    async def _bad_words(self) -> bool:
        _, text = await self._first()
        return bool(text.strip()) and await self._text(**GREEDY, bad_words=[text.strip()]) != text

    async def _structured_outputs(self) -> bool:
        wanted = {"choice": ["magpie"]}
        text = await self._text(temperature=0.0, max_tokens=16, structured_outputs=wanted)
        return text.strip() == "magpie"

    async def _n(self) -> bool:
        """Whether n answers are those of n requests with seeds that follow one another."""
        both = [choice["text"] for choice in await self._choices({**DRAWN, "n": 2, "seed": 1})]
        return both == [await self._text(**DRAWN, seed=seed) for seed in (1, 2)]
