"""How do requests reach one of several servers, whatever goes wrong on the way?"""

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from magpie_steps.certificates import REMEDY
from magpie_steps.engines.addresses import proxy_for
from magpie_steps.engines.routing import Router, Server
from magpie_steps.engines.server_pool import (
    Fault,
    Flight,
    MovedError,
    NoServerError,
    ServerPool,
    Verdict,
    Watch,
)
from magpie_steps.engines.stats import ServerStats
from magpie_steps.redaction import redacted

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a server may not give the next time."""

REFUSALS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses by which a server refuses all requests: its key, model or address is another one."""

_FAULTS = {
    **dict.fromkeys((408, 425, 500), Fault.ONCE),
    **dict.fromkeys((429, 503), Fault.OVERLOADED),
    **dict.fromkeys((502, 504), Fault.LOST),
    **dict.fromkeys(REFUSALS, Fault.REFUSED),
}

LEAST_PATIENCE_SECONDS = 1.0
"""How long requests wait when all servers are out, besides the waits of the tries they have."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
SHOWN_CHARACTERS = 200
"""How much is shown of an answer that is none: its beginning tells a page from half an answer."""


class ServerError(RuntimeError):
    """A server answered with an error.

    Attributes:
        status: the HTTP status.
        detail: what it said.
        retry_after: seconds to wait before the next try, as far as it said so.
    """

    def __init__(self, url: str, status: int, detail: str, retry_after: float = 0.0) -> None:
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        super().__init__(f"{url} answered {status}: {detail[:500] or 'nothing'}")


class GarbledError(RuntimeError):
    """A server answered with what is no answer to the request."""


class UnreachableError(ConnectionError):
    """No server answered at all, however often it was tried."""


class UntrustedError(UnreachableError):
    """A server cannot be asked: it does not show who it is, or the key cannot be sent."""


@dataclass(slots=True)
class _Line:
    """What one event loop has: connections, and the servers as it sees them."""

    session: aiohttp.ClientSession
    pool: ServerPool
    keeper: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class HttpClient:
    """Posts JSON to the server that will answer soonest, and tries again what may succeed then.

    It may be used from several event loops, each with connections of its own that end with it.

    A server that is overloaded gets fewer requests for a while. Of several servers that are looked
    after, one that goes away, refuses or breaks gets none until it is well again: the others get
    them. A request that takes too long is sent to another one, too, if that has nothing to do.

    A server's certificate is verified, and no answer's text shows the key. Servers elsewhere are
    reached by the environment's proxies, if it names some.

    Attributes:
        urls: where the servers' endpoints are, ending in `/v1`.
        key_variable: the environment variable with the key for them; the key is kept nowhere else.
        key: a key that is not in the environment.
        timeout_seconds: how long one answer may take.
        max_retries: how often a request is sent again; as often again as there are other servers,
            where they are looked after. Being turned away by busy ones does not count there, until
            each of them has done so more often than this without an answer.
        places: requests at each server at once.
        on_retry: called each time one is sent again.
        reconnect: awaited before a request is sent again that got no answer at all, or whose
            servers are all out, with the number of times that it was tried; raises if it makes no
            sense. Without it that is tried as often as anything else.
        check: how servers are looked after, see `Watch`; None leaves them to the requests.
        tell: takes a line about a server that goes or comes back.
        stats: what is counted of each server, by its address.
        resolver: finds the servers' hosts, where those are no names that the system knows.
    """

    urls: Sequence[str]
    key_variable: str = "OPENAI_API_KEY"
    key: str = field(default="", repr=False)
    timeout_seconds: float = 600.0
    max_retries: int = 6
    places: int = 256
    on_retry: Callable[[], object] = bool
    reconnect: Callable[[int], Awaitable[object]] | None = None
    check: Callable[[str, bool], Awaitable[Verdict]] | None = None
    tell: Callable[[str], object] = bool
    stats: dict[str, ServerStats] = field(default_factory=dict)
    resolver: AbstractResolver | None = None
    _known: Router | None = None  # what the last event loop found out about the servers
    _lines: dict[asyncio.AbstractEventLoop, _Line] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        self.urls = [url.rstrip("/") for url in self.urls]
        self.stats = {url: ServerStats(urlsplit(url).netloc) for url in self.urls}

    def only(self, url: str) -> "HttpClient":
        """A client for one of the servers, which counts nothing."""
        return replace(self, urls=[url], check=None, on_retry=bool, _known=None, _lines={})

    def leave_out(self, urls: Collection[str]) -> None:
        """Begin without some of the servers; they get requests once they pass `check`."""
        self._known = Router(self.urls, self.places)
        for server in self._known.servers:
            if server.url in urls:
                self._known.put_out(server)
                self.stats[server.url].up = False

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post to the server that will answer soonest; returns the JSON of its answer.

        Raises:
            ServerError: a server answered with an error, the last time it was tried.
            UnreachableError: none answered.
            UntrustedError: one does not show who it is, or the key cannot be sent.
            GarbledError: an answer was no JSON, the last time it was tried.
            TimeoutError: an answer took too long, the last time it was tried.
        """
        pool = self._line().pool
        flight = Flight(lambda server: self._send(server.url, path, body))
        while True:
            try:
                return await pool.ask(flight)
            except NoServerError as error:
                if self.reconnect is None:
                    raise UnreachableError(str(error)) from error
                await self.reconnect(flight.attempts)
                wait = 0.0
            except MovedError:
                wait = 0.0
            except aiohttp.ClientError as error:
                wait = await self._after_lost_connection(error, flight)
            except (ServerError, GarbledError, TimeoutError) as error:
                if self.check is not None and _fault(error) is Fault.OVERLOADED:
                    self._bear(error, pool)
                    self.on_retry()
                    continue
                wait = self._after_bad_answer(error, pool, flight)
            flight.attempts += 1
            self.on_retry()
            await asyncio.sleep(wait)

    async def get(self, url: str, path: str, seconds: float | None = None) -> Any:
        """Get the JSON at one server, without trying again.

        Args:
            url: the server's address.
            path: what to get there.
            seconds: how long the answer may take; None is as long as any.

        Raises:
            ServerError: it answered with an error.
            GarbledError: its answer was no JSON.
            UnreachableError: it did not answer.
            UntrustedError: it does not show who it is, or the key cannot be sent.
        """
        try:
            async with (
                asyncio.timeout(seconds),
                self._ask("GET", f"{url.rstrip('/')}{path}") as answer,
            ):
                return await self._content(answer)
        except aiohttp.ClientConnectorCertificateError as error:
            raise UntrustedError(_about_certificate(url, error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{url} does not answer: {_said(error)}") from error

    async def _send(self, url: str, path: str, body: Mapping[str, Any]) -> Any:
        async with self._ask("POST", f"{url}{path}", json=body) as answer:
            content = await self._content(answer)
        stats = self.stats[url]
        stats.answers += 1
        stats.tokens += _new_tokens(content)
        return content

    async def _after_lost_connection(self, error: aiohttp.ClientError, flight: Flight) -> float:
        """Return how long to wait before the next try."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError) and self.check is None:
            where = next((server.url for server in flight.avoid), "")
            raise UntrustedError(_about_certificate(where, error)) from error
        if self.reconnect is not None:
            await self.reconnect(flight.attempts)
            return 0.0
        if flight.attempts >= self._most_retries:
            raise UnreachableError(
                f"{', '.join(self.urls)} did not answer {flight.attempts + 1} times: {_said(error)}"
            ) from error
        # One that is looked after is out now, so that the next try waits for a place.
        return 0.0 if self.check is not None else self._wait(flight.attempts)

    def _bear(self, error: Exception, pool: ServerPool) -> None:
        """Raise the error if all of several servers turn everything away for too long."""
        up = pool.router.up
        if up and all(server.troubles > self.max_retries for server in up):
            raise error

    def _after_bad_answer(
        self,
        error: ServerError | GarbledError | TimeoutError,
        pool: ServerPool,
        flight: Flight,
    ) -> float:
        """Return how long to wait before the next try; a time-out was long enough."""
        fault = _fault(error)
        others = self.check is not None and pool.router.has_other(flight.avoid)
        # Who refuses is out now, and who finds fault with a request is alone with it or right.
        refused = fault is Fault.REFUSED and self.check is not None
        doubtful = fault is Fault.OWN and others and len(flight.refusals) == 1
        if flight.attempts >= self._most_retries or not (refused or doubtful or _may_pass(error)):
            raise error
        rests = fault is Fault.OVERLOADED  # then there is no place to be had
        if others or rests or refused or isinstance(error, TimeoutError):
            return 0.0
        asked = error.retry_after if isinstance(error, ServerError) else 0.0
        return max(asked, self._wait(flight.attempts))

    def _rest(self, server: Server, error: Exception, attempts: int) -> float:
        """How long an overloaded server is left alone; longer each time if there are others."""
        asked = error.retry_after if isinstance(error, ServerError) else 0.0
        return max(asked, self._wait(server.troubles if self.check else attempts))

    @property
    def _most_retries(self) -> int:
        return self.max_retries + (len(self.urls) - 1 if self.check is not None else 0)

    def _wait(self, attempt: int) -> float:
        """A time that doubles with each attempt, drawn so that clients do not come back at once."""
        longest = min(FIRST_WAIT_SECONDS * 2 ** min(attempt, 30), LONGEST_WAIT_SECONDS)
        return self._chance.uniform(longest / 2, longest)

    def _watch(self) -> Watch | None:
        if self.check is None:
            return None
        waits = (FIRST_WAIT_SECONDS * 2**attempt for attempt in range(self.max_retries))
        patience = LEAST_PATIENCE_SECONDS + sum(min(w, LONGEST_WAIT_SECONDS) for w in waits)
        return Watch(self.check, self.tell, self._wait, patience)

    def _ask(self, verb: str, address: str, **body: Any) -> Any:
        # A session's own headers would go to the proxy too.
        return self._line().session.request(
            verb,
            address,
            headers=self._headers(),
            proxy=proxy_for(address),
            allow_redirects=False,  # what is posted would be got from where they lead to
            **body,
        )

    def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            known = self._known
            router = self._known = known.heir() if known else Router(self.urls, self.places)
            session = aiohttp.ClientSession(
                connector=self._connector(),
                timeout=aiohttp.ClientTimeout(total=self.timeout_seconds, sock_connect=30),
            )
            pool = ServerPool(router, _fault, self._rest, self.stats, self._watch())
            line = self._lines[loop] = _Line(session, pool)
            # A loop knows its tasks only weakly, so this one is kept here.
            line.keeper = loop.create_task(self._keep(loop, line))
        return line

    def _connector(self) -> aiohttp.TCPConnector:
        own = self.resolver
        # What a name of the run's own stands for changes when its server has moved.
        return aiohttp.TCPConnector(limit=0, resolver=own, use_dns_cache=own is None)

    async def _keep(self, loop: asyncio.AbstractEventLoop, line: _Line) -> None:
        """Look after the servers until the end of the loop, which cancels its tasks."""
        try:
            await line.pool.look_after()
            await asyncio.Event().wait()
        finally:
            del self._lines[loop]
            await line.session.close()

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        """The key, which a header can hold; an error never shows it."""
        key = self.key or os.environ.get(self.key_variable, "").strip()
        if not key.isascii() or not key.isprintable():
            raise UntrustedError(
                f"the key in {self.key_variable} has characters that no key has; set it again"
            )
        return key

    async def _content(self, answer: aiohttp.ClientResponse) -> Any:
        text, key = (await answer.read()).decode("utf-8", "replace"), self._key()
        if 300 <= answer.status < 400:
            target = redacted(answer.headers.get("Location", ""), key)
            said = f"it has moved to {target or 'somewhere else'}; give that address"
            raise ServerError(str(answer.url), answer.status, said)
        if answer.status >= 400:
            wait = _seconds(answer.headers.get("Retry-After"))
            said = redacted(" ".join(text.split()), key)
            raise ServerError(str(answer.url), answer.status, said, wait)
        if key and key in text:
            raise ServerError(
                str(answer.url), answer.status, "the key itself, which would get into the rows"
            )
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            said = redacted(" ".join(text[:SHOWN_CHARACTERS].split()), key)
            raise GarbledError(
                f"{answer.url} answered with what is no JSON: {said or 'nothing'}"
            ) from None


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, ServerError) or error.status in RETRIED


def _fault(error: Exception) -> Fault:
    """Whose fault it is that a request has no answer."""
    if isinstance(error, ServerError):
        return _FAULTS.get(error.status, Fault.OWN)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Fault.REFUSED
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Fault.GONE
    if isinstance(error, GarbledError | TimeoutError):
        return Fault.ONCE
    return Fault.LOST if isinstance(error, aiohttp.ClientError) else Fault.OWN


def _new_tokens(answer: Any) -> int:
    """The tokens that a server says it has written, 0 if it says nothing."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else 0


def _about_certificate(url: str, error: aiohttp.ClientConnectorCertificateError) -> str:
    why = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
    return f"{url} shows a certificate that cannot be trusted ({why}); {REMEDY}"


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header, at most the longest wait; 0 without one, for a date."""
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        return 0.0
    return min(seconds, LONGEST_WAIT_SECONDS) if seconds > 0 else 0.0  # NaN is not


def _said(error: BaseException) -> str:
    return redacted(str(error)).strip() or type(error).__name__
