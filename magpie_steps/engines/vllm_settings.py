"""Which of vLLM's settings can be chosen, whether it runs in this process or as a server?"""

from abc import ABC
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from magpie_steps.engines import vllm_api
from magpie_steps.engines.tokenized import TokenizerEngine

REFUSED = {
    **dict.fromkeys(("host", "port"), "a server listens on this machine alone"),
    **dict.fromkeys(("api_key", "hf_token"), "it would be written down; set it in the environment"),
    "trust_remote_code": "the engine has a field of that name",
}
"""Arguments of vLLM's that are nobody's to give here, each with the reason."""


class VLLMSettings(TokenizerEngine, ABC):
    """An engine on vLLM.

    Attributes:
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
        engine_args: any other argument of vLLM's, by name.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    max_context_tokens: int | None = Field(default=None, ge=2)
    max_num_seqs: int | None = Field(default=None, ge=1)
    tensor_parallel_size: int = Field(default=1, ge=1)
    gpu_memory_utilization: float | None = Field(default=None, gt=0.0, le=1.0)
    quantization: str | None = None
    enable_prefix_caching: bool = True
    engine_args: dict[str, Any] = Field(default_factory=dict)

    @field_validator("engine_args")
    @classmethod
    def _check_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if reason := REFUSED.get(name.replace("-", "_")):
                raise ValueError(f"engine_args may not have {name}: {reason}; leave it out")
        return given

    def _arguments(self, **own: Any) -> dict[str, Any]:
        """What vLLM is started with, by vLLM's names; what is None is left to vLLM.

        Args:
            own: what else is always given; `engine_args` win over it.
        """
        chosen = {
            "dtype": self.dtype,
            "max_model_len": self.max_context_tokens,
            "max_num_seqs": self.max_num_seqs,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "quantization": self.quantization,
            "enable_prefix_caching": self.enable_prefix_caching,
            "trust_remote_code": self.trust_remote_code or None,
            **own,
        }
        known = {name: value for name, value in chosen.items() if value is not None}
        return {**vllm_api.defaults(self.gpu_memory_utilization), **known, **self.engine_args}

    def _weights_as(self, dtype: str) -> str:
        """How the weights are held, for a fingerprint."""
        return f"{dtype}/{self.quantization}" if self.quantization else dtype
