"""How does a step keep its engine busy, what does it say of it, and what if the engine fails?"""

import gc
import logging
from dataclasses import dataclass

from magpie_steps.engines.base import Engine, EngineLostError, EngineStats

MANY_ROWS = 4096
"""Rows that are worked on at once without a second thought: some kilobytes each."""


def load_engine(engine: Engine) -> None:
    """Load a step's engine, and leave all that is loaded by then out of later garbage collections.

    Models, tokenizers and modules stay; walking over them again and again took a third of the time
    that the step's process spent on a row.
    """
    engine.load()
    gc.collect()
    gc.freeze()


def window_for(asked: int | None, engine: Engine) -> int:
    """Return how many rows to work on at once.

    Args:
        asked: The number that was asked for. None is eight times as many as the engine has places,
            up to `MANY_ROWS`, and twice as many beyond: so there is always a next request when one
            ends, and the first turns run ahead, which leaves fewer calls to be made one after the
            other by the last rows of a run.
        engine: The loaded engine.
    """
    return asked or max(2 * engine.capacity, min(8 * engine.capacity, MANY_ROWS))


def work_of(stats: EngineStats, seconds: float) -> list[str]:
    """Return what a progress line says of an engine's work, after so many seconds.

    Tokens of rejected attempts count too, replayed ones do not. Busy is the share of the engine's
    places that were taken.
    """
    cached = f" ({stats.cached_share:.0%} cached)" if stats.cached_tokens else ""
    waiting = f" ({stats.waiting} waiting)" if stats.waiting else ""
    return [
        f"{stats.completion_tokens / seconds:,.0f} tokens/s out",
        f"{stats.prompt_tokens / seconds:,.0f} in{cached}",
        f"{stats.in_flight} in flight{waiting}",
        f"engine {stats.busy_share:.0%} busy",
        *([f"{stats.retries} retries"] if stats.retries else []),
        *([_servers_of(stats)] if stats.servers else []),
    ]


def _servers_of(stats: EngineStats) -> str:
    """Return how many servers are up, and what each gives since this was told last."""
    up = sum(server.up for server in stats.servers)
    rates = [(server, server.recent_rate()) for server in stats.servers]
    each = (f"{s.name} {f'{rate:,.0f}' if s.up else 'out'}" for s, rate in rates)
    return f"{up}/{len(rates)} servers up ({', '.join(each)} tokens/s)"


@dataclass(slots=True)
class Failures:
    """Tells the first failure of a step's rows in full, and stops at one that is no row's own."""

    logger: logging.Logger
    count: int = 0

    def note(self, row: int | None, error: Exception) -> None:
        """Take note of a failed row; `row` is its number, if it has one.

        Raises:
            EngineLostError: The engine is gone; every later row would fail on it too.
        """
        if isinstance(error, EngineLostError):
            raise error
        if not self.count:
            which = "a row" if row is None else f"row {row}"
            self.logger.error(f"{which} failed: {type(error).__name__}: {error}")
        self.count += 1
