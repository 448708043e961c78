"""May a server take part: does it answer, has it the model, is it of the others' kind?"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from distilabel.errors import DistilabelUserError

from magpie_steps.engines.abilities import Abilities, Probe, find_abilities
from magpie_steps.engines.http_client import (
    GarbledError,
    HttpClient,
    ServerError,
    UnreachableError,
    UntrustedError,
)
from magpie_steps.engines.server_pool import Verdict

SERVED_LIMITS = ("max_model_len", "context_length")
"""Where servers say how many tokens a prompt and its answer may have, in their list of models."""

CHECK_SECONDS = 10.0
"""How long a server may take to say that it is well."""

TRIAL_SECONDS = 120.0
"""How long one of several servers may take to show what it can do; a lone one is waited for."""

PASSING = (429, 502, 503, 504)
"""Statuses of a server that may yet begin to work, such as one that still reads its model."""

UNWELL = 500
"""Statuses from here on tell that a server is not well."""


class AwayError(DistilabelUserError):
    """A server does not work now, but may later."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the servers have in common.

    Attributes:
        served: the model's name there.
        limit: most tokens of prompt and completion together, as far as they say so.
        abilities: what all of them can do.
        away: servers that do not work now, and why.
    """

    served: str
    limit: int | None
    abilities: Abilities
    away: Mapping[str, str]


class Admission:
    """Lets servers take part.

    Args:
        client: what reaches them.
        model: what they are to serve, as a user would start one.
        wanted: its name there.
        another_will_do: whether the name of the only model there will do as well.
        probe: what to try them with.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        model: str,
        wanted: str,
        another_will_do: bool,
        probe: Callable[[], Probe],
    ) -> None:
        self._client = client
        self._model = model
        self._wanted = wanted
        self._another_will_do = another_will_do
        self._probe = probe
        self._found: Found | None = None
        # Kept, since connections stay open until the event loop ends.
        self._alone = {url: client.only(url) for url in client.urls}

    async def begin(self) -> Found:
        """Find out what the servers can do that work now.

        Raises:
            DistilabelUserError: none works, one of them has not the model, or they differ.
        """
        urls = self._client.urls
        listed = await _each({url: self._list(url) for url in urls})
        served, entries = self._choose(listed.well)
        tried = await _each({url: self._try_out(url, served) for url in listed.well})
        away = {**listed.away, **tried.away}
        if not tried.well:
            raise next(iter(away.values()))
        limits = [limit for url in tried.well if (limit := _limit(entries[url]))]
        self._found = Found(
            served,
            min(limits, default=None),
            _of_one_kind(tried.well),
            {url: str(error) for url, error in away.items()},
        )
        return self._found

    async def check(self, url: str, whole: bool) -> Verdict:
        """Return whether something is wrong with a server.

        Args:
            url: the server's address.
            whole: whether to try again all that it must be able to do.
        """
        assert self._found is not None
        try:
            await self._be_well(url)
            entry = self._entry(url, await self._list(url, CHECK_SECONDS), self._found.served)
            if whole:
                abilities = await self._try_out(url, self._found.served)
                return Verdict(_difference(self._found, abilities, _limit(entry)))
        except (AwayError, UnreachableError, TimeoutError) as error:
            return Verdict(str(error) or type(error).__name__, away=True)
        except (DistilabelUserError, RuntimeError) as error:
            return Verdict(str(error) or type(error).__name__)
        return Verdict()

    async def _be_well(self, url: str) -> None:
        """Raise if a server says that it is not well; many say nothing about it."""
        try:
            await self._client.get(url.removesuffix("/v1"), "/health", CHECK_SECONDS)
        except GarbledError:
            pass  # an empty answer is a good one
        except ServerError as error:
            if error.status >= UNWELL:
                raise

    async def _list(self, url: str, seconds: float | None = None) -> dict[str, Any]:
        """Return what a server says of its models, by their names; {} if it says nothing."""
        client = self._client
        lone = len(client.urls) == 1
        try:
            answer = await client.get(url, "/models", seconds or (None if lone else TRIAL_SECONDS))
        except UntrustedError as error:
            raise DistilabelUserError(str(error)) from error
        except UnreachableError as error:
            raise AwayError(
                f"no server to work with: {error}; start one (for example `vllm serve"
                f" {self._model}`), or check its address"
            ) from error
        except ServerError as error:
            if error.status in (401, 403):
                raise DistilabelUserError(
                    f"{url} refuses the key ({error.status}); set {client.key_variable} to the"
                    " server's key"
                ) from error
            if self._found is not None and error.status >= UNWELL:
                raise
            return {}
        except GarbledError as error:
            raise DistilabelUserError(
                f"{error}; {url} is no server of completions: check its address"
            ) from error
        return {
            str(entry["id"]): entry
            for entry in _listed(answer)
            if isinstance(entry, dict) and "id" in entry
        }

    def _choose(self, listed: Mapping[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        """Choose the model's name; returns it with what each server says of the model."""
        served = self._wanted
        first = next((entries for entries in listed.values() if entries), {})
        if served not in first and self._another_will_do and len(first) == 1:
            served = next(iter(first))
        return served, {url: self._entry(url, each, served) for url, each in listed.items()}

    def _entry(self, url: str, entries: Mapping[str, Any], served: str) -> dict[str, Any]:
        if entries and served not in entries:
            same = " that all servers have" if len(self._client.urls) > 1 else ""
            raise DistilabelUserError(
                f"{url} has no model {served!r}; it serves {', '.join(sorted(entries))}: give one"
                f" of these{same} as served_model"
            )
        entry: dict[str, Any] = entries.get(served, {})
        return entry

    async def _try_out(self, url: str, served: str) -> Abilities:
        client = self._alone[url]

        async def ask(fields: Any) -> Any:
            return await client.post("/completions", {"model": served, **fields})

        try:
            async with asyncio.timeout(None if len(self._client.urls) == 1 else TRIAL_SECONDS):
                return await find_abilities(ask, self._probe(), url)
        except (UnreachableError, TimeoutError, GarbledError, ServerError) as error:
            kind = AwayError if _passes(error) else DistilabelUserError
            raise kind(
                f"{url} does not complete prompts: {error or type(error).__name__}; see to the"
                " server, or check its address"
            ) from error
        except DistilabelUserError as error:
            if _passes(error.__cause__):
                raise AwayError(str(error)) from error
            raise


@dataclass(frozen=True, slots=True)
class _Outcomes:
    well: dict[str, Any]
    away: dict[str, AwayError]


async def _each(asked: Mapping[str, Any]) -> _Outcomes:
    """Ask servers side by side.

    Raises:
        DistilabelUserError: no server works, or one of them never will.
    """
    outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
    by_url = dict(zip(asked, outcomes, strict=True))
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, AwayError):
            raise outcome
    away = {url: each for url, each in by_url.items() if isinstance(each, AwayError)}
    if len(away) == len(by_url):
        raise next(iter(away.values()))
    return _Outcomes({url: each for url, each in by_url.items() if url not in away}, away)


def _passes(error: BaseException | None) -> bool:
    if isinstance(error, ServerError):
        return error.status in PASSING
    return isinstance(error, UnreachableError | TimeoutError)


def _of_one_kind(abilities: Mapping[str, Abilities]) -> Abilities:
    try:
        return reduce(Abilities.both, abilities.values())
    except ValueError as error:
        raise DistilabelUserError(
            f"the servers {', '.join(abilities)} are of different kinds: {error}; give servers of"
            " one kind"
        ) from error


def _difference(found: Found, abilities: Abilities, limit: int | None) -> str:
    """In what a server falls short of those that the run began with, "" if in nothing."""
    if limit and found.limit and limit < found.limit:
        return f"it takes {limit} tokens, the other servers {found.limit}; give it the same limit"
    try:
        shared = found.abilities.both(abilities)
    except ValueError as error:
        return f"it is of another kind than the other servers: {error}"
    missing = sorted(found.abilities.features - shared.features)
    missing += sorted(set(found.abilities.extras) - set(shared.extras))
    if missing:
        return f"it ignores {', '.join(missing)}, which the other servers obey"
    return ""


def _limit(entry: Mapping[str, Any]) -> int | None:
    limits = (entry.get(name) for name in SERVED_LIMITS)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 1), None)


def _listed(answer: Any) -> list[Any]:
    """The models in an answer, [] if it lists none."""
    models = answer.get("data") if isinstance(answer, dict) else None
    return models if isinstance(models, list) else []
