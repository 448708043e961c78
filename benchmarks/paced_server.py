"""A completions server without a model that takes as long as one would, as a process of its own.

It has a fixed number of places, and works for each request as many seconds as the request's own
digest draws: the same request takes as long and says the same at each server. Its pace can be
changed while it runs, also for what it is working on. It waits instead of computing, so that many
of them fit on a small machine.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from math import exp, log
from pathlib import Path
from statistics import NormalDist
from typing import Any
from urllib.request import Request, urlopen

from aiohttp import web

from magpie_steps.engines.scripted_text import Dice, make_instruction

MODEL = "tiny-instruct"
SPREAD = 0.67
"""Standard deviation of the seconds, in means: as of the lengths of users' texts."""


class PacedServer:
    """A server's handlers and what they share.

    Args:
        places: requests that it works on at once; others wait in order.
        mean_seconds: how long a request takes in the mean.
    """

    def __init__(self, places: int, mean_seconds: float) -> None:
        self._mean = mean_seconds
        self._places = asyncio.Semaphore(places)
        self._speed = 1.0
        self._changed = asyncio.Event()
        self._answers = 0
        self._connections: set[Any] = set()

    def app(self) -> web.Application:
        """What answers requests."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_get("/control", self._tell)
        app.router.add_post("/control", self._set)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL, "max_model_len": 512}]})

    async def _tell(self, request: web.Request) -> web.Response:
        return web.json_response({"answers": self._answers, "connections": len(self._connections)})

    async def _set(self, request: web.Request) -> web.Response:
        self._speed = float((await request.json())["speed"])
        self._changed.set()
        self._changed = asyncio.Event()
        return web.Response()

    async def _completions(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            self._connections.add(request.transport.get_extra_info("peername"))
        body = await request.json()
        number = _number(body)
        async with self._places:
            await self._work(_log_normal(number, self._mean))
        self._answers += 1
        choices = [_choice(body, index) for index in range(body.get("n", 1))]
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": sum(len(each["text"].split()) for each in choices),
        }
        return web.json_response({"choices": choices, "usage": usage})

    async def _work(self, seconds: float) -> None:
        while seconds > 0:
            speed, changed, began = self._speed, self._changed, time.monotonic()
            try:
                await asyncio.wait_for(changed.wait(), seconds / speed)
            except TimeoutError:
                return
            seconds -= (time.monotonic() - began) * speed


def _number(body: dict[str, Any], index: int = 0) -> int:
    drawn = body.get("temperature", 1.0) > 0
    seed = body.get("seed", time.monotonic_ns()) + index if drawn else -1
    digest = blake2b(json.dumps([body["prompt"], seed]).encode(), digest_size=64)
    return int.from_bytes(digest.digest(), "big")


def _choice(body: dict[str, Any], index: int) -> dict[str, Any]:
    text = make_instruction(Dice(_number(body, index)))
    return {"index": index, "text": text, "finish_reason": "stop"}


def _log_normal(number: int, mean: float) -> float:
    share = ((number >> 448) + 0.5) / 2**64
    variance = log(1 + SPREAD**2)
    return exp(log(mean) - variance / 2 + variance**0.5 * NormalDist().inv_cdf(share))


class Running:
    """A server's process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"

    def set_speed(self, speed: float) -> None:
        """Go on at a share of the first pace."""
        content = json.dumps({"speed": speed}).encode()
        with urlopen(Request(f"{self.root}/control", data=content), timeout=10):  # nosec B310
            pass

    def told(self) -> dict[str, int]:
        """Return its `answers`, and the `connections` that they came by."""
        with urlopen(f"{self.root}/control", timeout=10) as answer:  # nosec B310
            content: dict[str, int] = json.load(answer)
            return content

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(places: int, mean_seconds: float, port: int = 0) -> Iterator[Running]:
    """Run a server in a process of its own."""
    command = [sys.executable, str(Path(__file__)), str(places), str(mean_seconds), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Running(process, int(process.stdout.readline()))
        finally:
            process.kill()


async def _serve(places: int, mean_seconds: float, port: int) -> None:
    runner = web.AppRunner(PacedServer(places, mean_seconds).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", type=int)
    parser.add_argument("mean_seconds", type=float)
    parser.add_argument("port", type=int, nargs="?", default=0)
    args = parser.parse_args()
    asyncio.run(_serve(args.places, args.mean_seconds, args.port))


if __name__ == "__main__":
    main()
