"""How does one loaded engine serve many runs, and which requests does a run make of it?"""

import asyncio
from abc import ABC
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from feeding import Chain, Request
from pydantic import PrivateAttr

from magpie_steps.engines.base import Completion, Engine, Sampling
from magpie_steps.engines.sampling import completion_key

CLASSES = {
    "vllm": "magpie_steps.VLLMEngine",
    "transformers": "magpie_steps.TransformersEngine",
    "server": "magpie_steps.ServedEngine",
    "scripted": "magpie_steps.ScriptedEngine",
    "simulated": "simulated_gpu.SimulatedEngine",
}
"""The engines that a benchmark can be asked for, by the name on its command line."""


class Kept(Engine, ABC):
    """An engine that steps load and unload as they like: its model stays where it is.

    Each `load()` begins new counters and opens the journal, each `unload()` closes it.
    """

    _ready: bool = PrivateAttr(default=False)
    _heard: dict[str, Chain] | None = PrivateAttr(default=None)

    def load(self) -> None:
        """Load the model if that has not been done."""
        if self._ready:
            Engine.load(self)
        else:
            super().load()
            self._ready = True

    def unload(self) -> None:
        """Close the journal."""
        Engine.unload(self)

    def end(self) -> None:
        """Let go of the model."""
        self._ready = False
        super().unload()

    def listen(self) -> None:
        """From here on remember all requests."""
        self._heard = {}

    def heard(self) -> list[Chain]:
        """Return what was asked since `listen()`, row by row, and listen no more.

        Rows that a worker wrote one after the other are told apart by their beginning, which is the
        same for all. A row that began again is two chains. A request that is made twice is answered
        from the journal the second time, so it is here once.
        """
        heard, self._heard = self._heard or {}, None
        seen: set[bytes] = set()
        rows = [row for asked in heard.values() for row in _rows(asked)]
        return [fresh for row in rows if (fresh := [r for r in row if _is_new(r, seen)])]

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt, as any engine does."""
        if self._heard is not None:
            task = asyncio.current_task()
            request = (tuple(prompt_ids), self._fit(prompt_ids, sampling))
            self._heard.setdefault(task.get_name() if task else "", []).append(request)
        return await super().complete(prompt_ids, sampling)


def engine_class(name: str) -> Any:
    """Return the class of an engine in `CLASSES`."""
    module, _, attribute = CLASSES[name].rpartition(".")
    return getattr(import_module(module), attribute)


def kept(name: str, **fields: Any) -> Kept:
    """Return an engine in `CLASSES` that stays loaded."""
    found = engine_class(name)
    engine: Kept = type(f"Kept{found.__name__}", (Kept, found), {})(**fields)
    return engine


def fields_for(name: str, model: str) -> dict[str, Any]:
    """Return the fields of an engine with a model: on a CPU vLLM computes in float32, uncompiled.

    Compiling takes longer there than it saves in a benchmark, and the models are small. Prompts are
    not computed in parts, because vLLM 0.32 ends with "CPU Generator does not use offset" when one
    with a seed is.
    """
    if name in ("scripted", "simulated"):
        return {}
    import torch

    if name == "transformers" or torch.cuda.is_available():
        return {"model": model}
    return {
        "model": model,
        "dtype": "float32",
        "engine_args": {"enforce_eager": True, "enable_chunked_prefill": False},
    }


def _rows(asked: list[Request]) -> Iterator[Chain]:
    first = asked[0][0]
    begins = [i for i, (prompt_ids, _) in enumerate(asked) if prompt_ids == first]
    for begin, end in zip(begins, [*begins[1:], len(asked)], strict=True):
        yield asked[begin:end]


def _is_new(request: Request, seen: set[bytes]) -> bool:
    key = completion_key("", *request)
    if key in seen:
        return False
    seen.add(key)
    return True
