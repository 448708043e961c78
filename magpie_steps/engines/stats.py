"""How much has an engine done, and how busy was it?"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class ServerStats:
    """Counters of one of several servers.

    Attributes:
        name: its host and port.
        up: whether it gets requests.
        answers: requests that it answered.
        tokens: new tokens in these answers.
        rescued: requests that took too long there and were sent to another server, too.
        clock: returns seconds; only differences count.
    """

    name: str
    up: bool = True
    answers: int = 0
    tokens: int = 0
    rescued: int = 0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _looked: float = 0.0
    _tokens: int = 0

    def __post_init__(self) -> None:
        self._looked = self.clock()

    def recent_rate(self) -> float:
        """Return the tokens per second since this was asked last, or since the beginning."""
        now, tokens = self.clock(), self.tokens - self._tokens
        seconds = max(now - self._looked, 1e-9)
        self._looked, self._tokens = now, self.tokens
        return tokens / seconds

    def as_dict(self) -> dict[str, Any]:
        """What a run's record keeps, ready for JSON."""
        return {"answers": self.answers, "tokens": self.tokens, "rescued": self.rescued}


@dataclass(slots=True)
class EngineStats:
    """Counters of one engine object since its `load()`.

    Attributes:
        capacity: requests that the engine works on at once; more of them wait.
        gpus: GPUs that the engine holds.
        generated: completions that the engine computed.
        replayed: completions that came from the journal, or from an equal request in flight.
        failed: requests that ended in an error.
        prompt_tokens: prompt tokens of the generated completions.
        cached_tokens: those of them that the engine had computed before, where it says so.
        completion_tokens: new tokens of the generated completions.
        retries: requests that were sent again, to a server that had failed on them.
        in_flight: requests that the engine has not answered yet.
        servers: where the engine is several servers, what each of them did.
        clock: returns seconds; only differences count.
    """

    capacity: int = 1
    gpus: int = 0
    generated: int = 0
    replayed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    in_flight: int = 0
    servers: list[ServerStats] = field(default_factory=list)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _first: float | None = None
    _last: float = 0.0
    _area: float = 0.0

    def enter(self) -> None:
        """Count a request that is sent to the engine."""
        self._advance()
        self.in_flight += 1

    def leave(self) -> None:
        """Count a request that the engine has answered, or failed on."""
        self._advance()
        self.in_flight -= 1

    @property
    def waiting(self) -> int:
        """Requests that wait for others to end."""
        return max(self.in_flight - self.capacity, 0)

    @property
    def seconds(self) -> float:
        """Time from the first request to now, or to the last answer if there is none in flight."""
        if self._first is None:
            return 0.0
        return (self.clock() if self.in_flight else self._last) - self._first

    @property
    def busy_share(self) -> float:
        """The share of the engine's places that were taken, over `seconds`; 0 to 1."""
        if self.in_flight:
            self._advance()
        seconds = self.seconds
        return min(self._area / seconds, 1.0) if seconds else 0.0

    @property
    def cached_share(self) -> float:
        """The share of the prompt tokens that had been computed before; 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Everything that a run's record keeps, ready for JSON."""
        servers = {each.name: each.as_dict() for each in self.servers}
        return {
            "capacity": self.capacity,
            "gpus": self.gpus,
            "generated": self.generated,
            "replayed": self.replayed,
            "failed": self.failed,
            "retries": self.retries,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": round(self.seconds, 3),
            "busy_share": round(self.busy_share, 4),
            **({"servers": servers} if servers else {}),
        }

    def _advance(self) -> None:
        """Add the time since the last change, weighed by the share of places taken."""
        now = self.clock()
        if self.in_flight:
            self._area += min(self.in_flight / self.capacity, 1.0) * (now - self._last)
        elif self._first is None:
            self._first = now
        self._last = now
