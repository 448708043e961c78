"""An engine on a vLLM server that it starts itself, and that all steps of a pipeline share."""

import asyncio
import atexit
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from aiohttp.abc import AbstractResolver
from pydantic import Field, PrivateAttr

from magpie_steps.engines import vllm_api
from magpie_steps.engines.base import EngineLostError
from magpie_steps.engines.http_client import HttpClient
from magpie_steps.engines.http_engine import HttpEngine
from magpie_steps.engines.model_files import content_hash, find_model
from magpie_steps.engines.server import HOST, PORT, Server
from magpie_steps.engines.vllm_settings import VLLMSettings

LAUNCHER = [sys.executable, "-m", "magpie_steps.engines.vllm_serve", "serve"]
KEY_VARIABLE = "VLLM_API_KEY"

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",  # no run calls out to the network on its own
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "600",  # or connections are dropped that rest for 5 s
}

QUEUE = 8
"""Requests at the server for each that it works on."""

NOTICE_SECONDS = 0.5
"""How long the end of a server may go unnoticed by its owner."""

MOST_RECONNECTS = 60
"""Failed connections to a server that its owner takes for healthy."""


class ServerAddress(Protocol):
    """Where the servers of a model are, for the processes that use them."""

    @property
    def urls(self) -> list[str]:
        """Their addresses, each ending in `/v1`."""

    @property
    def key(self) -> str:
        """The key that they want."""

    @property
    def resolver(self) -> AbstractResolver | None:
        """What finds their hosts, where those are names of the run's own."""

    def state(self) -> tuple[str, str]:
        """How they are: "starting", "ready", "failed" or "stopped"; and why if they failed."""


class ServedEngine(VLLMSettings, HttpEngine):
    """Continue prompts with a vLLM server that is started for them on this machine.

    `run_pipeline` starts one server for all steps whose engines have the same settings, so that a
    model is loaded once, and ends it whatever happens. It answers on this machine only, with a key
    of its own. A server that dies is started again, once: the requests under way are sent again.
    An engine that is loaded outside of `run_pipeline` starts a server for itself.

    On a Ray cluster Ray chooses the nodes, there may be several servers, which share the requests,
    and one whose node is lost is started again on another.

    Attributes:
        model: a folder with config.json, weights and tokenizer, or a hub id.
        revision: branch, tag or commit on the hub; None is the default branch.
        dtype: the weights' type in memory: "float32", "bfloat16", "float16", or "auto" for the one
            that vLLM chooses.
        max_context_tokens: most tokens of prompt and completion together; None is what the model
            allows.
        max_num_seqs: most rows that are worked on together, >= 1; None is vLLM's own choice, of
            which 256 are used.
        replicas: servers of the model on a Ray cluster, >= 1; without one there is one.
        tensor_parallel_size: GPUs that share the model, >= 1.
        gpu_memory_utilization: share of a GPU's memory to use, or of the machine's where vLLM runs
            on a CPU, in (0, 1]; None is vLLM's own choice, and on a CPU 2 GiB for its cache.
        quantization: how the weights are quantized; None is what the model says.
        enable_prefix_caching: whether what prompts have in common is computed once.
        engine_args: any other argument of `vllm serve`, by name with underscores; True is a flag
            without a value, False its opposite.
        timeout_seconds: how long one answer may take, > 0.
        max_retries: how often a request is sent again, >= 0.
        trust_remote_code: run Python code that comes with the model.
        chat_template: a Jinja chat template to use instead of the tokenizer's; None uses that.
        chat_template_kwargs: variables of the chat template, such as {"enable_thinking": False}.
        response_template_kwargs: variables for the prompts of responses alone, over
            chat_template_kwargs.
        system_policy: what becomes of system prompts that the chat template has no turn of its own
            for: "error", "ignore", "merge" or "prepend", as in `PreQueryTemplate.pre_query_text`.
        add_bos: whether prompts begin with the BOS token: as the chat template has it ("template"),
            "always" or "never".

    Icon:
        `:satellite:`

    Examples:
        Continue a prompt of token ids

        ```python
        import asyncio

        from magpie_steps.embedded import model_path
        from magpie_steps.engines.base import Sampling
        from magpie_steps.engines.served import ServedEngine

        engine = ServedEngine(model=str(model_path("tiny-instruct")), dtype="float32")
        engine.load()
        prompt = engine.template.pre_query_ids().ids
        sampling = Sampling(stop_token_ids=engine.template.stop_token_ids, seed=1)
        print(asyncio.run(engine.complete(prompt, sampling)).text)
        engine.unload()
        ```
    """

    replicas: int = Field(default=1, ge=1)

    _address: ServerAddress | None = PrivateAttr(default=None)
    _own: Server | None = PrivateAttr(default=None)

    @property
    def capacity(self) -> int:
        """Rows that the server works on together."""
        return self.max_num_seqs or super().capacity

    @property
    def most_requests(self) -> int:
        """A queue before its own server costs nothing, and lets it choose."""
        return QUEUE * self.capacity

    @property
    def gpus(self) -> int:
        """GPUs that the server holds."""
        return 0 if vllm_api.made_for_cpu() else self.tensor_parallel_size

    def load(self) -> None:
        """Connect to the shared server, or start one for this engine alone.

        Raises:
            DistilabelUserError: vLLM is not installed, or the server does not start.
        """
        if self._address is None:
            server = self.make_server(self.command())
            server.start()
            atexit.register(self._stop_own)
            self._own, self._address = server, server.address
        while self._address.state()[0] == "starting":  # again, after it was lost
            time.sleep(NOTICE_SECONDS)
        super().load()

    def unload(self) -> None:
        """Let go of the server, and end it if it is this engine's own; never raises."""
        super().unload()
        self._stop_own()

    def use(self, address: ServerAddress | None) -> None:
        """Use a server that somebody else starts and ends; None goes back to one of its own."""
        self._address = address

    def make_server(self, command: Sequence[str], **place: Any) -> Server:
        """A server for this engine's settings, not yet started.

        Args:
            command: the engine's `command()`.
            place: where it is to be, as `Server` takes it: by default on this machine alone.

        Raises:
            DistilabelUserError: vLLM is not installed.
        """
        vllm_api.require_vllm(self._tell)
        return Server(
            self.model_name,
            command,
            environment=ENVIRONMENT,
            key_variable=KEY_VARIABLE,
            say=self._tell,
            **place,
        )

    def command(self) -> list[str]:
        """What starts the server; its address is left to be filled in.

        Raises:
            DistilabelUserError: the model is not there.
        """
        folder = find_model(self.model, self.revision, self.trust_remote_code)
        settings = self._arguments(
            host=HOST,
            port=PORT,
            served_model_name=self.model_name,
            # So that answers say what was cached, and requests alone say how they are drawn.
            enable_prompt_tokens_details=True,
            generation_config="vllm",
            disable_uvicorn_access_log=True,
        )
        return [*LAUNCHER, str(folder), *_flags(settings)]

    def _tell(self, line: str) -> None:
        logger = self._logger
        if logger is None:  # not loaded: the server is started for others
            import logging

            logger = logging.getLogger("magpie_steps.engines.served")
        logger.warning(line)

    def _stop_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            self._address = None
            own.stop()
            atexit.unregister(self._stop_own)

    def _make_client(self) -> HttpClient:
        address: ServerAddress = self._loaded(self._address)
        return HttpClient(
            address.urls,
            key=address.key,
            resolver=address.resolver,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
            on_retry=self._count_retry,
            reconnect=self._reconnect,
        )

    async def _reconnect(self, attempt: int) -> None:
        """Wait until the server is there again.

        Raises:
            EngineLostError: it will not be.
        """
        address: ServerAddress = self._loaded(self._address)
        await asyncio.sleep(NOTICE_SECONDS)
        while (found := await asyncio.to_thread(address.state))[0] == "starting":
            await asyncio.sleep(NOTICE_SECONDS)
        state, reason = found
        if state != "ready" or attempt >= MOST_RECONNECTS:
            raise EngineLostError(
                f"{reason or f'the server of {self.model_name} does not answer'}\nRun again: what"
                " is in the journal is not generated again"
            )

    def _make_fingerprint(self, folder: Path) -> str:
        weights = self._weights_as(self.dtype)
        return f"vllm-served/{self.model_name}@{content_hash(folder)}/{weights}"

    def _wanted_model(self) -> tuple[str, bool]:
        return self.model_name, False


@contextmanager
def servers_for(engines: Iterable[ServedEngine]) -> Iterator[list[Server]]:
    """Start a server for each different setting among the engines, all at once, and end them.

    Raises:
        DistilabelUserError: one does not start; the others are ended.
    """
    shared: dict[tuple[str, ...], list[ServedEngine]] = {}
    for engine in engines:
        shared.setdefault(tuple(engine.command()), []).append(engine)
    servers = [group[0].make_server(command) for command, group in shared.items()]
    try:
        _start_all(servers)
        for server, group in zip(servers, shared.values(), strict=True):
            for engine in group:
                engine.use(server.address)
        yield servers
    finally:
        for group in shared.values():
            for engine in group:
                engine.use(None)
        for server in servers:
            server.stop()


def _start_all(servers: list[Server]) -> None:
    """Start servers side by side; raises the first error once all have started or failed."""
    errors: list[BaseException] = []

    def start(server: Server) -> None:
        try:
            server.start()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _flags(settings: dict[str, Any]) -> list[str]:
    """Settings as a command line's flags."""
    flags: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if value is True:
            flags.append(f"--{flag}")
        elif value is False:
            flags.append(f"--no-{flag}")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flags += [f"--{flag}", text]
    return flags
