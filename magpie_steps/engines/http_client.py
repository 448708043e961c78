"""How do requests reach one of several servers, whatever goes wrong on the way?"""

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from magpie_steps.certificates import REMEDY
from magpie_steps.engines.addresses import proxy_for
from magpie_steps.redaction import redacted

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that a server may not give the next time."""

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
class _Server:
    url: str
    in_flight: int = 0
    rests_until: float = 0.0  # after a failed connection others are tried first


@dataclass(slots=True)
class HttpClient:
    """Posts JSON to the server that has least to do, and tries again what may succeed then.

    It may be used from several event loops, each with connections of its own that end with it.

    A server's certificate is verified, and no answer's text shows the key. Servers elsewhere are
    reached by the environment's proxies, if it names some.

    Attributes:
        urls: where the servers' endpoints are, ending in `/v1`.
        key_variable: the environment variable with the key for them; the key is kept nowhere else.
        key: a key that is not in the environment.
        timeout_seconds: how long one answer may take.
        max_retries: how often a request is sent again.
        on_retry: called each time one is.
        reconnect: awaited before a request is sent again that got no answer at all, with the number
            of times that it was tried; raises if it makes no sense. Without it that is tried as
            often as anything else.
    """

    urls: Sequence[str]
    key_variable: str = "OPENAI_API_KEY"
    key: str = field(default="", repr=False)
    timeout_seconds: float = 600.0
    max_retries: int = 6
    on_retry: Callable[[], object] = bool
    reconnect: Callable[[int], Awaitable[object]] | None = None
    _servers: list[_Server] = field(default_factory=list)
    _sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = field(default_factory=dict)
    _keepers: dict[asyncio.AbstractEventLoop, "asyncio.Task[None]"] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        self._servers = [_Server(url.rstrip("/")) for url in self.urls]

    def only(self, url: str) -> "HttpClient":
        """A client for one of the servers."""
        return replace(self, urls=[url], _servers=[], _sessions={}, _keepers={})

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Post to the least busy server; returns the JSON of its answer.

        Raises:
            ServerError: a server answered with an error, the last time it was tried.
            UnreachableError: none answered.
            UntrustedError: one does not show who it is, or the key cannot be sent.
            GarbledError: an answer was no JSON, the last time it was tried.
            TimeoutError: an answer took too long, the last time it was tried.
        """
        attempt = 0
        while True:
            server = self._least_busy()
            try:
                return await self._send(server, path, body)
            except (ServerError, GarbledError, TimeoutError) as error:
                if attempt >= self.max_retries or not _may_pass(error):
                    raise
                wait = self._wait_after(error, attempt)
            except aiohttp.ClientConnectorCertificateError as error:
                raise UntrustedError(_about_certificate(server.url, error)) from error
            except aiohttp.ClientError as error:
                wait = await self._after_lost_connection(server, attempt, error)
            attempt += 1
            self.on_retry()
            await asyncio.sleep(wait)

    async def get(self, url: str, path: str) -> Any:
        """Get the JSON at one server, without trying again.

        Raises:
            ServerError: it answered with an error.
            GarbledError: its answer was no JSON.
            UnreachableError: it did not answer.
            UntrustedError: it does not show who it is, or the key cannot be sent.
        """
        try:
            async with self._ask("GET", f"{url.rstrip('/')}{path}") as answer:
                return await self._content(answer)
        except aiohttp.ClientConnectorCertificateError as error:
            raise UntrustedError(_about_certificate(url, error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{url} does not answer: {_said(error)}") from error

    async def _send(self, server: _Server, path: str, body: Mapping[str, Any]) -> Any:
        server.in_flight += 1
        try:
            async with self._ask("POST", f"{server.url}{path}", json=body) as answer:
                return await self._content(answer)
        finally:
            server.in_flight -= 1

    async def _after_lost_connection(
        self, server: _Server, attempt: int, error: Exception
    ) -> float:
        """Return how long to wait before the next try."""
        if self.reconnect is not None:
            await self.reconnect(attempt)
            return 0.0
        if attempt >= self.max_retries:
            raise UnreachableError(
                f"{', '.join(self.urls)} did not answer {attempt + 1} times: {_said(error)}"
            ) from error
        now, wait = time.monotonic(), self._wait(attempt)
        server.rests_until = now + wait
        return 0.0 if any(each.rests_until <= now for each in self._servers) else wait

    def _wait_after(self, error: Exception, attempt: int) -> float:
        """How long to wait after an answer that was none; a time-out was long enough."""
        if isinstance(error, TimeoutError):
            return 0.0
        asked = error.retry_after if isinstance(error, ServerError) else 0.0
        return max(asked, self._wait(attempt))

    def _wait(self, attempt: int) -> float:
        """A time that doubles with each attempt, drawn so that clients do not come back at once."""
        longest = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS)
        return self._chance.uniform(longest / 2, longest)

    def _least_busy(self) -> _Server:
        now = time.monotonic()
        return min(self._servers, key=lambda each: (each.rests_until > now, each.in_flight))

    def _ask(self, verb: str, address: str, **body: Any) -> Any:
        # A session's own headers would go to the proxy too.
        return self._session().request(
            verb,
            address,
            headers=self._headers(),
            proxy=proxy_for(address),
            allow_redirects=False,  # what is posted would be got from where they lead to
            **body,
        )

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self.timeout_seconds, sock_connect=30),
            )
            # A loop knows its tasks only weakly, so this one is kept here.
            self._keepers[loop] = loop.create_task(self._close_with(loop, session))
        return session

    async def _close_with(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
    ) -> None:
        """Wait for the end of the loop, which cancels its tasks, and close the connections."""
        try:
            await asyncio.Event().wait()
        finally:
            del self._sessions[loop], self._keepers[loop]
            await session.close()

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
