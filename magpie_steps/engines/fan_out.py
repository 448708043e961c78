"""How do several completions of one prompt become one request?"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from magpie_steps.engines.sampling import Completion, Sampling

Send = Callable[[Sequence[int], Sampling, int], Awaitable[list[Completion]]]
"""Takes a prompt, the first one's sampling and a number `n`; returns the completions with the seeds
s, s + 1, ... s + n - 1."""

_Asked = tuple[int, "asyncio.Future[Completion]"]


class FanOut:
    """Sends as one the requests that differ only in their seeds, which follow one another.

    They must be made in the same turn of the event loop.

    Args:
        send: sends one.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._groups: dict[tuple[int, tuple[int, ...], Sampling], list[_Asked]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Return one completion."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        prompt = tuple(prompt_ids)
        key = (id(loop), prompt, sampling.with_seed(0))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = []
            loop.call_soon(self._launch, key)
        group.append((sampling.seed, future))
        return await future

    def _launch(self, key: tuple[int, tuple[int, ...], Sampling]) -> None:
        for run in _runs(self._groups.pop(key)):
            task = asyncio.get_running_loop().create_task(self._deliver(key[1], key[2], run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(
        self, prompt: tuple[int, ...], sampling: Sampling, run: list[_Asked]
    ) -> None:
        first, futures = run[0][0], [future for _, future in run]
        sending = asyncio.ensure_future(self._send(prompt, sampling.with_seed(first), len(run)))
        for future in futures:
            future.add_done_callback(lambda _: _cancel_if_unwanted(sending, futures))
        await asyncio.wait([sending])
        for index, future in enumerate(futures):
            if future.done():
                continue
            if sending.cancelled():
                future.cancel()
            elif error := sending.exception():
                future.set_exception(error)
            else:
                future.set_result(sending.result()[index])


def _cancel_if_unwanted(
    sending: "asyncio.Future[list[Completion]]", futures: "list[asyncio.Future[Completion]]"
) -> None:
    if all(future.cancelled() for future in futures):
        sending.cancel()


def _runs(group: list[_Asked]) -> list[list[_Asked]]:
    """Split into runs of seeds that follow one another; equal seeds go apart."""
    runs: list[list[_Asked]] = []
    for asked in sorted(group, key=lambda each: each[0]):
        if runs and asked[0] == runs[-1][-1][0] + 1:
            runs[-1].append(asked)
        else:
            runs.append([asked])
    return runs
