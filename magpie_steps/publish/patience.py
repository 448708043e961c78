"""What is tried again when the Hub is busy or out of reach for a while?"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import TypeVar

from magpie_steps.certificates import FAILED, with_remedy
from magpie_steps.publish.client import is_busy
from magpie_steps.redaction import redacted

T = TypeVar("T")

TRIES = 6
"""How often a request is tried in all; with the pauses between them, about half a minute."""

LONGEST_WAIT_SECONDS = 330.0
"""The longest wait that the Hub may ask for; it counts requests in windows of 300 seconds."""


class PublishError(RuntimeError):
    """The Hub does not take what it is given; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Tries again what fails in passing.

    Attributes:
        endpoint: The Hub's address, for errors.
        token: The token, which no text may show.
        say: Takes a line of text about each failure.
        pause_seconds: Pause after the first failure; it doubles with each further one.
    """

    endpoint: str
    token: str = field(repr=False)
    say: Callable[[str], None]
    pause_seconds: float = 1.0

    def __call__(self, call: Callable[[], T]) -> T:
        """Return what `call` returns; it may be called several times.

        Raises:
            PublishError: If it fails for good, or too often.
        """
        number = 0
        while True:
            number += 1
            try:
                return call()
            except Exception as error:
                if not is_failure(error):
                    raise
                if not passes(error) or number == TRIES:
                    raise PublishError(self._reason(error, number)) from None
                self._wait(error, number)

    def _wait(self, error: BaseException, number: int) -> None:
        asked = asked_seconds(_headers(error), datetime.now(UTC))
        if asked > LONGEST_WAIT_SECONDS:
            raise PublishError(
                f"{self.endpoint} asks to wait {asked:.0f} seconds; push again after that"
            ) from None
        pause = self.pause_seconds * 2 ** (number - 1) * random.SystemRandom().uniform(0.5, 1.5)
        seconds = max(asked, pause)
        self.say(
            f"{self._short(error)}; trying again in {seconds:.1f} s (try {number + 1} of {TRIES})"
        )
        time.sleep(seconds)

    def _reason(self, error: BaseException, number: int) -> str:
        status, told = status_of(error), self._short(error)
        if status == 401:
            return (
                f"{self.endpoint} refuses the token; make one at {self.endpoint}/settings/tokens,"
                " then run `hf auth login` or set HF_TOKEN"
            )
        if status == 403:
            return (
                f"{told}; the token needs the right to write there, see"
                f" {self.endpoint}/settings/tokens"
            )
        if passes(error):
            return f"{told}, {number} times; the same push, started again, goes on from here"
        return with_remedy(told)

    def _short(self, error: BaseException) -> str:
        """Return a failure in one line."""
        cause = _telling(error)
        text = getattr(cause, "server_message", None) or str(cause) or type(cause).__name__
        words = " ".join(redacted(text, self.token).split())
        line = "".join(filter(str.isprintable, words))
        status = status_of(error)
        return f"{self.endpoint} {f'answers {status}' if status else 'fails'}: {line[:300]}"


def is_failure(error: BaseException) -> bool:
    """Return whether an error is a request's; uploads, of Xet too, end with a `RuntimeError`."""
    from huggingface_hub.errors import HTTPError  # of the library that huggingface_hub asks with

    kinds = (HTTPError, JSONDecodeError, ConnectionError, TimeoutError)
    return type(error) is RuntimeError or isinstance(error, kinds)


def passes(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    status = status_of(error)
    if status:
        return is_busy(status)
    return is_failure(_telling(error)) and FAILED not in str(_telling(error))


def status_of(error: BaseException) -> int:
    """Return the HTTP status of the answer behind an error, 0 if there was none."""
    return getattr(getattr(_telling(error), "response", None), "status_code", 0)


def asked_seconds(headers: Mapping[str, str], now: datetime) -> float:
    """Return how long an answer asks to wait, 0 if it does not.

    Args:
        headers: The answer's; ``Retry-After`` holds seconds or a date, ``RateLimit`` the seconds
            until a used-up allowance is renewed.
        now: The time, with its zone.
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        date = parsedate_to_datetime(asked)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
    except ValueError:
        return 0.0


def _telling(error: BaseException) -> BaseException:
    """Return the first of an error and its causes that is no mere "error while uploading"."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def _headers(error: BaseException) -> Mapping[str, str]:
    return getattr(getattr(_telling(error), "response", None), "headers", None) or {}
