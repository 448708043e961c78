"""How is an engine asked with nothing of this package around it?

No templates, sanitising, journal or counters: what is measured through these classes is what the
engine itself can do.
"""

import asyncio
from abc import ABC, abstractmethod
from itertools import count
from typing import Any

from feeding import Feed, Request

from magpie_steps.engines import vllm_api


class Bare(ABC):
    """The engine behind a loaded `Engine`."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def run(self, feed: Feed) -> int:
        """Let all requests of a run be made; return their new tokens."""
        return asyncio.run(feed(self.ask))

    @abstractmethod
    async def ask(self, request: Request) -> int:
        """Make a request; return the number of new tokens."""


class BareSimulation(Bare):
    """The simulated GPUs and their texts."""

    async def ask(self, request: Request) -> int:
        """Wait as long as the GPU takes."""
        return int((await self._engine._complete(*request)).completion_tokens)


class BareDecodeLoop(Bare):
    """The thread that owns a transformers model."""

    async def ask(self, request: Request) -> int:
        """Put a row into the loop."""
        return int((await self._engine._loop.submit(*request)).completion_tokens)


class BareVLLM(Bare):
    """VLLM's `AsyncLLM`, asked on the event loop that it lives on."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._numbers = count()

    def run(self, feed: Feed) -> int:
        """Make all requests from vLLM's own event loop, without a hop between threads."""
        return int(self._engine._thread.run(feed(self.ask)))

    async def ask(self, request: Request) -> int:
        """Call `AsyncLLM.generate`."""
        prompt_ids, sampling = request
        params = vllm_api.sampling_params(sampling)
        number = f"bare-{next(self._numbers)}"
        result = await vllm_api.generate(self._engine._llm, prompt_ids, params, number)
        return len(result.outputs[0].token_ids)


class BareServer(Bare):
    """A server of completions, posted to with a plain HTTP client."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._session: Any = None

    def run(self, feed: Feed) -> int:
        """Make all requests through one session, over as many connections as they take."""
        return asyncio.run(self._run(feed))

    async def ask(self, request: Request) -> int:
        """Post a request, again if the server has closed the connection just before it came.

        vLLM's server does so after 5 idle seconds, and a burst of requests on a machine whose cores
        are all busy can take that long to be sent.
        """
        from aiohttp import ServerDisconnectedError

        while True:
            try:
                async with self._session.post(self._url, json=self._body(request)) as answer:
                    answer.raise_for_status()
                    return int((await answer.json())["usage"]["completion_tokens"])
            except ServerDisconnectedError:
                continue

    async def _run(self, feed: Feed) -> int:
        import aiohttp

        client = self._engine._client
        self._url = f"{client.urls[0].rstrip('/')}/completions"
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            headers=client._headers(),
        ) as self._session:
            return await feed(self.ask)

    def _body(self, request: Request) -> dict[str, Any]:
        from magpie_steps.engines.completions_wire import sampling_fields

        engine, (prompt_ids, sampling) = self._engine, request
        how = sampling_fields(sampling, engine._abilities, engine._decode)
        return {"model": engine._served, "prompt": list(prompt_ids), **how}


BARE: dict[str, type[Bare]] = {
    "vllm": BareVLLM,
    "transformers": BareDecodeLoop,
    "server": BareServer,
    "simulated": BareSimulation,
}
"""By the engine's name in `kept_engines.CLASSES`."""
