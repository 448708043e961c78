"""Who talks to the Argilla server?

The one place that does. Its library makes datasets; all else goes through the server's own
interface, since the library hides counts and draws progress bars.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Self

from magpie_steps.certificates import FAILED, REMEDY
from magpie_steps.redaction import redacted

URL_VARIABLE, KEY_VARIABLE = "ARGILLA_API_URL", "ARGILLA_API_KEY"

SHOWN = 10
"""Workspaces that an error names."""

DEFAULT_URL = "http://localhost:6900"
"""Where Argilla's own documentation runs a server."""

NEEDED = ("argilla", "krippendorff")
"""The packages of the extra "argilla"."""

TIMEOUT_SECONDS = 60.0
"""How long an answer may take; a hundred records take some seconds."""


class ServerAway(ConnectionError):
    """The server does not answer, or fails by itself: what was asked may be done or not."""


class Server:
    """An Argilla server, for a `with` block.

    Args:
        api_url: Its address; None is that of ARGILLA_API_URL, else http://localhost:6900.
        api_key: A user's key; None is that of ARGILLA_API_KEY.

    Raises:
        ValueError: If the library is not installed, the address is none, there is no key, or what
            answers is no Argilla server.
        PermissionError: If the server does not know the key.
        ServerAway: If nothing answers.
    """

    def __init__(self, api_url: str | None = None, api_key: str | None = None) -> None:
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise ValueError(
                f"reviews need {' and '.join(missing)}: pip install 'magpie-steps[argilla]'"
            )
        self.url = _checked_url(api_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        self._key = _checked_key(api_key or os.environ.get(KEY_VARIABLE) or "")
        import httpx

        headers = {"X-Argilla-Api-Key": self._key}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_SECONDS)
        try:
            self._check()
        except BaseException:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def ask(self, verb: str, path: str, **request: Any) -> Any:
        """Send a request; return the JSON that it answers, None for nothing.

        Raises:
            PermissionError: If the user may not do this.
            ValueError: If the server refuses it.
            ServerAway: If it does not answer or fails.
        """
        with self._told():
            answer = self._http.request(verb, path, **request)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    def workspace(self, name: str | None) -> Mapping[str, Any]:
        """Return a workspace of the user by its name; None is the only one, else "default".

        Raises:
            ValueError: If there is no such workspace.
        """
        items: list[dict[str, Any]] = self.ask("GET", "/api/v1/me/workspaces")["items"]
        found = {each["name"]: each for each in items}
        wanted = next(iter(found)) if name is None and len(found) == 1 else name or "default"
        if wanted not in found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            names = ", ".join(map(repr, [*found][:SHOWN]))
            there = f"it has {names}{more}" if found else "it has none"
            raise ValueError(
                f"there is no workspace {wanted!r} for you at {self.url}: {there}; choose one by"
                " --argilla-workspace or let the server's owner make it"
            )
        return found[wanted]

    @contextmanager
    def library(self) -> Iterator[Any]:
        """Give a client of Argilla's library, whose errors are told as those of `ask`."""
        import argilla

        with self._told():
            client = argilla.Argilla(api_url=self.url, api_key=self._key)
            try:
                yield client
            finally:
                client.http_client.close()

    def _check(self) -> None:
        """See that this is an Argilla server which knows the key."""
        with self._told():
            answer = self._http.get("/api/v1/me")
            if answer.status_code != 404:
                answer.raise_for_status()
        try:
            user = answer.json()
        except ValueError:
            user = None
        if not isinstance(user, dict) or "username" not in user:
            raise ValueError(
                f"what answers at {self.url} is no Argilla server; give the address of one, for"
                f" example as {URL_VARIABLE}"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Let every failure of the library or the server be one clear line."""
        import httpx
        from argilla._exceptions import ArgillaError

        try:
            yield
        except httpx.HTTPStatusError as error:
            raise self._failure(error.response.status_code, error.response.text) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(_why(error)) from None
        except ArgillaError as error:
            raise self._of_library(error) from None

    def _of_library(self, error: Exception) -> Exception:
        """Return what an error of Argilla's library means; the first one behind it counts."""
        import httpx
        from argilla._exceptions import ArgillaAPIError, ForbiddenError

        first = error.__cause__ or error
        if isinstance(first, httpx.HTTPError):
            return self._away(_why(first))
        if isinstance(first, ForbiddenError):
            return self._failure(403, str(first))
        return self._failure(
            first.status_code if isinstance(first, ArgillaAPIError) else 0, str(first)
        )

    def _failure(self, code: int, detail: str) -> Exception:
        """Return what an answer that is an error means."""
        said = redacted(" ".join(detail.split()), self._key)[:300]
        if code == 401:
            return _refused_key(self.url)
        if code == 403:
            return PermissionError(
                f"the server at {self.url} does not let you do this ({said}); use the key of an"
                " owner, or of an admin of the workspace"
            )
        if code >= 500:
            return self._away(f"error {code}: {said}")
        return ValueError(f"the server at {self.url} refuses this: {said}")

    def _away(self, why: str) -> ServerAway:
        return ServerAway(
            f"the Argilla server at {self.url} does not answer ({why}); see that it runs and that"
            f" this is its address ({URL_VARIABLE}), then give the same command again"
        )


def _why(error: Exception) -> str:
    """Return in a few words why nothing was answered."""
    if FAILED in str(error):
        return f"its certificate cannot be trusted; {REMEDY}"
    return type(error).__name__


def _checked_url(url: str) -> str:
    """Return an address; one with a password in it is refused, as addresses are shown."""
    found = url.strip().rstrip("/")
    if "@" in found:
        raise ValueError("the Argilla server's address has a user in it; give it without")
    if not _is_address(found):
        raise ValueError(
            f"{found!r} is no address of an Argilla server; give one such as {DEFAULT_URL}, for"
            f" example as {URL_VARIABLE}"
        )
    return found


def _is_address(url: str) -> bool:
    """Return whether a text is an address that can be asked."""
    import httpx

    try:
        parts = httpx.URL(url)
        # Without an error for a name that no network has: labels have 1 to 63 characters.
        parts.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        return False
    port = 80 if parts.port is None else parts.port
    plain = url.isprintable() and " " not in url and not parts.query and not parts.fragment
    there = parts.scheme in ("http", "https") and bool(parts.host)
    return plain and there and 0 < port < 2**16


def _checked_key(key: str) -> str:
    """Return a key that a header can hold; an error never shows it."""
    if not key.strip():
        raise ValueError(
            f"the Argilla server needs a key; give it as {KEY_VARIABLE}: a user's is under My"
            " settings in Argilla"
        )
    if not (key.strip().isascii() and key.strip().isprintable()):
        raise ValueError("the Argilla key has characters that no key has; copy it again")
    return key.strip()


def _refused_key(url: str) -> PermissionError:
    return PermissionError(
        f"the Argilla server at {url} does not know the key; copy it from My settings there and"
        f" give it anew, for example as {KEY_VARIABLE}"
    )
