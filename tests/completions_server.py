"""A completions server on a real model, with the bad habits that a test asks for.

It runs on an event loop in a thread and answers with the embedded model, so that what arrives and
what comes back are real tokens. As a script it is a server that `ServedEngine` can start.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from troubled_answers import Trouble

from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.transformers import TransformersEngine

KNOWN = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "top_k", "min_p",
    "stop_token_ids", "logit_bias", "allowed_token_ids", "return_token_ids", "skip_special_tokens",
    "spaces_between_special_tokens", "add_special_tokens",
}  # fmt: skip
EXTENSIONS = KNOWN - {"model", "prompt", "max_tokens", "temperature", "top_p", "n", "stop", "seed"}
"""What OpenAI's own endpoint does not know."""


@dataclass
class Habits:
    """How the server behaves.

    Attributes:
        takes_ids: Prompts may be token ids.
        adds_bos: BOS goes before every text, unless `add_special_tokens` is false.
        always_adds_bos: BOS goes before every prompt, whatever is said.
        chats: Every prompt becomes a user's message in the chat template.
        ignored: Fields that have no effect.
        refused: Fields for which it answers 400.
        status: Answered instead of completions, 0 for none.
        failures: Statuses of the next answers, taken from the front; 0 drops the connection.
        key: The key that it wants.
        says_usage: Whether answers have their token counts.
        lists: What `/v1/models` lists.
        limit: `max_model_len` in the list, None to leave it out.
        troubles: What it does instead of its next completions, taken from the front.
        trouble: What it always does instead, None for nothing.
        poison: A text that must be in a prompt for `trouble`; "" is in all.
        sound: Completions that it gives before `trouble` begins.
    """

    takes_ids: bool = True
    adds_bos: bool = False
    always_adds_bos: bool = False
    chats: bool = False
    ignored: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    status: int = 0
    failures: list[int] = field(default_factory=list)
    key: str = ""
    says_usage: bool = True
    lists: list[str] = field(default_factory=lambda: ["tiny-instruct"])
    limit: int | None = 512
    troubles: list[Trouble] = field(default_factory=list)
    trouble: Trouble | None = None
    poison: str = ""
    sound: int = 0


class CompletionsServer:
    """A running server."""

    def __init__(self, engine: TransformersEngine, habits: Habits, port: int = 0) -> None:
        self.engine = engine
        self.habits = habits
        self.bodies: list[dict[str, Any]] = []
        self.prompts: list[tuple[int, ...]] = []
        self.port = port
        self.host = "127.0.0.1"
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v1/completions", self._completions)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, self.host, self.port)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        if not self._allowed(request):
            return web.json_response({"error": "no"}, status=401)
        limit = {"max_model_len": self.habits.limit} if self.habits.limit else {}
        return web.json_response({"data": [{"id": name, **limit} for name in self.habits.lists]})

    def _allowed(self, request: web.Request) -> bool:
        key = self.habits.key
        return not key or request.headers.get("Authorization") == f"Bearer {key}"

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        habits, body = self.habits, await request.json()
        if not self._allowed(request):
            return web.json_response({"error": "no"}, status=401)
        if trouble := self._trouble(body):
            return await trouble(request)
        if habits.failures:
            status = habits.failures.pop(0)
            if not status:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return web.Response(status=status, text="busy", headers={"Retry-After": "0.01"})
        if habits.status:
            return web.Response(status=habits.status, text="this is a chat model")
        if refused := habits.refused & set(body):
            return web.json_response({"error": f"unknown {sorted(refused)}"}, status=400)
        if isinstance(body["prompt"], list) and not habits.takes_ids:
            return web.json_response({"error": "prompt must be a string"}, status=400)
        self.bodies.append(body)
        return web.json_response(await self._answer(body))

    def _trouble(self, body: dict[str, Any]) -> Trouble | None:
        """Return what is done instead of answering, None for nothing."""
        habits, prompt = self.habits, body["prompt"]
        if habits.troubles:
            return habits.troubles.pop(0)
        if habits.trouble is None or habits.sound:
            habits.sound = max(habits.sound - 1, 0)
            return None
        text = prompt if isinstance(prompt, str) else self.engine._tokenizer.decode(prompt)
        return habits.trouble if habits.poison in text else None

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in body.items() if name not in self.habits.ignored}
        prompt = self._prompt(fields)
        self.prompts.append(tuple(prompt))
        seed = fields.get("seed", len(self.prompts))
        done = await asyncio.gather(
            *(
                self.engine.complete(prompt, _sampling(fields, seed + i))
                for i in range(fields.get("n", 1))
            )
        )
        answer: dict[str, Any] = {
            "choices": [self._choice(i, each, fields) for i, each in enumerate(done)]
        }
        if self.habits.says_usage:
            answer["usage"] = {
                "prompt_tokens": len(prompt),
                "completion_tokens": sum(each.completion_tokens for each in done),
            }
        return answer

    def _prompt(self, fields: dict[str, Any]) -> list[int]:
        tokenizer, prompt = self.engine._tokenizer, fields["prompt"]
        bos = [tokenizer.bos_token_id]
        if self.habits.chats:
            text = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
            messages = [{"role": "user", "content": text}]
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            return list(ids["input_ids"])
        if isinstance(prompt, list):
            return [*(bos if self.habits.always_adds_bos else []), *prompt]
        ids = list(tokenizer.encode(prompt, add_special_tokens=False))
        wanted = self.habits.adds_bos and fields.get("add_special_tokens", True)
        return [*(bos if wanted or self.habits.always_adds_bos else []), *ids]

    def _choice(self, index: int, done: Completion, fields: dict[str, Any]) -> dict[str, Any]:
        stop = done.stop_reason
        choice = {
            "index": index,
            "text": done.text,
            "finish_reason": done.finish_reason,
            # Like vLLM: of the model's own end token nothing is said.
            "stop_reason": None if stop == self.engine._tokenizer.eos_token_id else stop,
        }
        if fields.get("return_token_ids"):
            choice["token_ids"] = list(done.token_ids)
        return choice


def _sampling(fields: dict[str, Any], seed: int) -> Sampling:
    stop = fields.get("stop") or []
    return Sampling(
        max_new_tokens=fields["max_tokens"],
        temperature=fields.get("temperature", 1.0),
        top_p=fields.get("top_p", 1.0),
        top_k=fields.get("top_k", 0),
        min_p=fields.get("min_p", 0.0),
        stop_token_ids=tuple(fields.get("stop_token_ids") or ()),
        stop_strings=tuple([stop] if isinstance(stop, str) else stop),
        seed=seed,
        logit_bias=tuple((int(t), b) for t, b in (fields.get("logit_bias") or {}).items()),
        allowed_token_ids=tuple(fields.get("allowed_token_ids") or ()),
    )


@contextmanager
def running(engine: TransformersEngine, **habits: Any) -> Iterator[CompletionsServer]:
    """A server with these habits."""
    server = CompletionsServer(engine, Habits(**habits))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def main() -> None:
    """Serve the embedded model at a port, with the key in VLLM_API_KEY, until killed."""
    if "--fail" in sys.argv:
        sys.exit("the weights are not there")
    from magpie_steps.embedded import model_path

    engine = TransformersEngine(model=str(model_path("tiny-instruct")))
    engine.load()
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = CompletionsServer(engine, Habits(key=os.environ["VLLM_API_KEY"]), port)
    server.host = sys.argv[sys.argv.index("--host") + 1]
    server._run()


if __name__ == "__main__":
    main()
