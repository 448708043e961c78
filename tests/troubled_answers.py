"""What a server may answer instead of a completion, each as a handler of a request."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Trouble = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE = "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


def says(
    status: int = 200,
    text: str = "no",
    headers: dict[str, str] | None = None,
    kind: str = "application/json",
) -> Trouble:
    """Answer with a status and a text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers, content_type=kind)

    return answer


def completes(**changes: Any) -> Trouble:
    """Answer with a completion, but for these fields of its choice."""

    async def answer(request: web.Request) -> web.StreamResponse:
        prompt = (await request.json())["prompt"]
        choice = {"index": 0, "text": "Yes.", "finish_reason": "stop", **changes}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": len(prompt)}})

    return answer


def holds(answer: Any) -> Trouble:
    """Answer with this JSON."""
    return says(text=json.dumps(answer))


async def resets(request: web.Request) -> web.StreamResponse:
    """Drop the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def ends_early(request: web.Request) -> web.StreamResponse:
    """Send half of what was announced."""
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"choices": [{"te')
    return await resets(request)


async def breaks_its_chunks(request: web.Request) -> web.StreamResponse:
    """Announce chunks and send something else."""
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
    request.transport.close()
    await asyncio.sleep(0.05)
    return web.Response()


async def stays_silent(request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(60)
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    """Send a byte now and then, without an end."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(600):
        await answer.write(b" ")
        await asyncio.sleep(0.1)
    return answer


ONCE: dict[str, Trouble] = {
    "429": says(429),
    "429 that says when": says(429, headers={"Retry-After": "0.01"}),
    "429 that says nonsense": says(429, headers={"Retry-After": "nan"}),
    "500": says(500),
    "503 page": says(503, PAGE, kind="text/html"),
    "page": says(200, PAGE, kind="text/html"),
    "half an answer": says(200, '{"choices": [{"te'),
    "nothing": says(200, ""),
    "too deep": says(200, "[" * 100_000),
    "end too early": ends_early,
    "broken chunks": breaks_its_chunks,
    "reset": resets,
    "silence": stays_silent,
    "drip": drips,
}
"""What may be gone when the same request comes again."""

ALWAYS: dict[str, Trouble] = {
    **ONCE,
    "401": says(401),
    "404": says(404, "there is no such model"),
    "redirect": says(307, headers={"Location": "http://127.0.0.1:9/v1"}),
    "no completion": holds({"object": "error"}),
    "a list": holds([1]),
    "null": holds(None),
}
"""What no row is to blame for if it never ends."""

OF_ONE_ROW: dict[str, Trouble] = {
    "400": says(400, "I do not like it"),
    "500": says(500),
    "no completion": holds({"choices": []}),
    "no text": completes(text=None),
    "another prompt": holds({"choices": [{"text": "Yes."}], "usage": {"prompt_tokens": 1}}),
    "gave up": completes(finish_reason="abort"),
    "10 MB": completes(text="word " * 2_000_000),
    "empty": completes(text=""),
    "half a pair": completes(text="\ud800"),
}
"""What one row's prompt may cause."""
