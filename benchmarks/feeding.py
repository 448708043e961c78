"""In which order can an engine be given a run's requests?"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from magpie_steps.engines.base import Sampling

Request = tuple[tuple[int, ...], Sampling]
"""A prompt as token ids, and how to continue it."""

Chain = list[Request]
"""A row's requests, each to be made when the one before it is answered."""

Ask = Callable[[Request], Awaitable[int]]
"""Makes a request; returns the number of new tokens."""

Feed = Callable[[Ask], Coroutine[Any, Any, int]]
"""Makes all requests of a run; returns the number of new tokens."""


async def all_at_once(chains: Iterable[Chain], ask: Ask) -> int:
    """Make every row's first request now, and each other one when the row's last is answered."""
    return sum(await asyncio.gather(*(_one_by_one(chain, ask) for chain in chains)))


async def in_passes(chains: Sequence[Chain], batch_size: int, workers: int, ask: Ask) -> int:
    """Share the rows among workers that each go through theirs in static batches, twice.

    The first pass makes the rows' first requests, the second one the others: so the scripts of the
    paper write all instructions before the first response. A batch begins when the last row of the
    one before is done; the workers do not wait for each other.

    Args:
        chains: The rows.
        batch_size: Rows in a batch.
        workers: One for each GPU.
        ask: Makes a request.
    """
    shares = (chains[first::workers] for first in range(workers))
    return sum(await asyncio.gather(*(_in_batches(share, batch_size, ask) for share in shares)))


async def _one_by_one(chain: Chain, ask: Ask) -> int:
    return sum([await ask(request) for request in chain])


async def _in_batches(chains: Sequence[Chain], batch_size: int, ask: Ask) -> int:
    tokens = 0
    for turn in range(max(map(len, chains), default=0)):
        requests = [chain[turn] for chain in chains if len(chain) > turn]
        for first in range(0, len(requests), batch_size):
            tokens += sum(await asyncio.gather(*map(ask, requests[first : first + batch_size])))
    return tokens
