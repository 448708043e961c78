"""What did a run take: time, tokens, processors?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Effort:
    """What a run took. Completions from the journal cost nothing and are not in it.

    Attributes:
        seconds: Wall-clock time.
        cpu_seconds: Processor time of all its processes, servers on this machine included.
        gpu_seconds: Time that its engines held GPUs: their number times `seconds`.
        completions: Model calls.
        prompt_tokens: Tokens of their prompts.
        cached_tokens: Those of them that an engine had computed before, where it says so.
        completion_tokens: Tokens that were generated, those of rejected attempts too.
        retries: Requests that were sent again to a server that had failed on them.
        busy_share: Share of the engines' places that were taken while they had work, 0 to 1.
    """

    seconds: float
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    completions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    busy_share: float = 0.0

    @property
    def cached_share(self) -> float:
        """Share of the prompts' tokens that had been computed before, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens that were generated in a second."""
        return self.completion_tokens / self.seconds if self.seconds > 0 else 0.0

    def per_thousand(self, kept: int) -> dict[str, float]:
        """Processor and GPU seconds for a thousand kept rows; nothing without any."""
        used = {"cpu_seconds": self.cpu_seconds, "gpu_seconds": self.gpu_seconds}
        return {name: 1000 * s / kept for name, s in used.items() if s > 0 and kept}

    def as_dict(self, kept: int) -> dict[str, Any]:
        """Everything, ready for JSON; `kept` is the number of kept rows."""
        return {
            **{name: round(value, 4) for name, value in asdict(self).items()},
            "cached_share": round(self.cached_share, 4),
            "tokens_per_second": round(self.tokens_per_second, 1),
            **{
                f"{name}_per_1000_kept_rows": round(value, 3)
                for name, value in self.per_thousand(kept).items()
            },
        }


def effort_of(
    seconds: float,
    cpu_seconds: float,
    completions: int,
    tokens: int,
    engines: Sequence[Mapping[str, Any]],
) -> Effort:
    """Add up what a run's engines report.

    Args:
        seconds: Wall-clock time of the run.
        cpu_seconds: Its processor time.
        completions: Model calls, as the journal counts them.
        tokens: Tokens that they generated, as the journal counts them.
        engines: Each engine's `EngineStats.as_dict()` with its `model`.
    """
    # Steps that share a model's server each report it.
    gpus = {engine["model"]: engine["gpus"] for engine in engines}
    worked = sum(engine["seconds"] for engine in engines)
    busy = sum(engine["seconds"] * engine["busy_share"] for engine in engines)
    return Effort(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        gpu_seconds=sum(gpus.values()) * seconds,
        completions=completions,
        prompt_tokens=sum(engine["prompt_tokens"] for engine in engines),
        cached_tokens=sum(engine["cached_tokens"] for engine in engines),
        completion_tokens=tokens,
        retries=sum(engine["retries"] for engine in engines),
        busy_share=busy / worked if worked else 0.0,
    )
