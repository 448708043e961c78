"""How does `huggingface_hub` come to answer in time, for better or worse?

By itself it waits for an answer without end, obeys a ``Retry-After`` of any length, tries some
requests again by its own schedule and others never, and asks without a pause for as long as another
repository of the same user is being made. Here every request has a deadline and every failure comes
out at once, so that one place says what is tried again: `magpie_steps.publish.patience`.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

TIMEOUT_SECONDS = 120.0
"""How long the Hub may be silent within a request; a large commit takes it up to a minute."""

_BUSY = frozenset({408, 409, 412, 429})
"""Answers besides 5xx that say "not now"."""

_PHASES = ("connect", "read", "write", "pool")
"""What of a request a bound applies to, each by itself."""

_LOGGERS = {"huggingface_hub": logging.ERROR, "httpx2": logging.WARNING}
"""What those say of each failure and request is said here, and without addresses."""


def check_reachable(endpoint: str) -> None:
    """Check that the Hub's address may be asked at all.

    Raises:
        ValueError: If it is no address, or the Hub is not to be asked.
    """
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        raise ValueError("HF_HUB_OFFLINE is set, so nothing is pushed; unset it to push")
    check_address(endpoint)


def check_address(endpoint: str) -> None:
    """Check that the Hub's address is one, which may be shown.

    Raises:
        ValueError: If it is none, or tells a name or a password.
    """
    if "@" in endpoint:
        raise ValueError(
            "HF_ENDPOINT has a name or a password in it, which errors would show; set it to the"
            " address alone and HF_TOKEN to the token"
        )
    if not endpoint.startswith(("http://", "https://")):
        raise ValueError(
            f"HF_ENDPOINT is {endpoint!r}, which is no address; set it to one such as"
            " https://huggingface.co or unset it"
        )


@contextmanager
def open_client() -> Iterator[None]:
    """Have requests to the Hub end in time and fail at once, and be quiet about them."""
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils import (
        _http,
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    factory = _http._GLOBAL_CLIENT_FACTORY  # may be the user's, so it is kept and put back
    # A user's choice in the environment rules over both functions.
    bars = not are_progress_bars_disabled() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        set_client_factory(lambda: _impatient(factory()))
        _set_levels(_LOGGERS)
        if bars:
            disable_progress_bars()
        yield
    finally:
        set_client_factory(factory)
        _set_levels(levels)
        if bars:
            enable_progress_bars()


def is_busy(status: int) -> bool:
    """Return whether an answer of this HTTP status says "not now"."""
    return status in _BUSY or status >= 500


def _impatient(client: Any) -> Any:
    """Give a client deadlines, and let it raise what `huggingface_hub` would wait for by itself."""
    hooks = client.event_hooks
    client.event_hooks = {
        "request": [*hooks["request"], _set_deadline],
        "response": [*hooks["response"], _raise_if_busy],
    }
    return client


def _set_deadline(request: Any) -> None:
    """Bound a request; most ask for no bound, which a client's own would not change."""
    asked = request.extensions.get("timeout") or {}
    bounds = {name: asked.get(name) or TIMEOUT_SECONDS for name in _PHASES}
    request.extensions = {**request.extensions, "timeout": bounds}


def _raise_if_busy(response: Any) -> None:
    from huggingface_hub import hf_raise_for_status

    if is_busy(response.status_code):
        response.read()
        hf_raise_for_status(response)


def _set_levels(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
