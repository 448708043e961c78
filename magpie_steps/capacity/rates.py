"""How fast do models of which size write rows, and who measured it?

Rates are rows or tokens per second of one GPU. A model between the measured ones is as much slower
or faster than the nearest as it has more or fewer parameters, which is our assumption.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

TOKENS_PER_ROW = 426
"""Tokens of an instruction and its response together: Magpie-Air's mean (paper, table 4)."""

CHARACTERS_PER_TOKEN = 4
"""About what English text has."""

INSTRUCTION_SHARE = 1.55 / 51.55
"""The part of the time that instructions took, the rest being for responses: Magpie-Air's."""

GPUS = ("a100", "h100")
"""The GPUs that there are figures for."""

_PAPER = "Magpie paper (arXiv 2406.08464), section 3.4, Magpie-{0}: {1} rows, {2} on 4 A100,"
_DATATROVE = "datatrove's inference benchmark, {0} on vLLM 0.15 and one H100: {1:,} tokens/s"

_SIZE = re.compile(
    r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,6}(?:\.\d{1,6})?)([bm])(?![a-z0-9])",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a model writes on one GPU.

    Attributes:
        model: The model.
        billions: Its parameters in billions.
        gpu: The GPU, one of `GPUS`.
        instructions: Instructions per second.
        responses: Responses per second.
        source: Who measured it.
        mixture: Whether each token takes only a part of its parameters, so that it says nothing
            of other models.
    """

    model: str
    billions: float
    gpu: str
    instructions: float
    responses: float
    source: str
    mixture: bool = False

    @property
    def tokens(self) -> float:
        """Tokens per second while it writes responses, as long as the paper's."""
        return self.responses * TOKENS_PER_ROW

    def scaled(self, billions: float) -> "Rate":
        """Return the rate of a model of another size."""
        factor = self.billions / billions
        if factor == 1:
            return self
        return Rate(
            f"{billions:g}B",
            billions,
            self.gpu,
            self.instructions * factor,
            self.responses * factor,
            f"{self.source}; scaled by parameters from {self.billions:g}B to {billions:g}B",
            self.mixture,
        )


def _of_paper(name: str, model: str, billions: float, rows: int, hours: Sequence[float]) -> Rate:
    """Return the rate behind the paper's hours for instructions and for responses on 4 GPUs."""
    first, second = (rows / (4 * 3600 * each) for each in hours)
    said = _PAPER.format(name, f"{rows:,}", model)
    source = f"{said} {hours[0]:g} h + {hours[1]:g} h"
    return Rate(model, billions, "a100", first, second, source)


def _of_tokens(
    model: str, billions: float, tokens: float, *, source: str = "", mixture: bool = False
) -> Rate:
    """Return the rate of a model that writes so many tokens per second on an H100."""
    rows = tokens / TOKENS_PER_ROW
    first, second = rows / INSTRUCTION_SHARE, rows / (1 - INSTRUCTION_SHARE)
    said = source or _DATATROVE.format(model, tokens)
    return Rate(model, billions, "h100", first, second, said, mixture)


RATES: tuple[Rate, ...] = (
    _of_paper("Air", "Llama-3-8B-Instruct", 8, 3_000_000, (1.55, 50)),
    _of_paper("Pro", "Llama-3-70B-Instruct", 70, 1_000_000, (3.5, 150)),
    _of_tokens("Qwen3-0.6B", 0.6, 14_100),
    _of_tokens("Qwen3-1.7B", 1.7, 12_300),
    _of_tokens("Qwen3-4B", 4, 8_100),
    _of_tokens("Qwen3-8B", 8, 6_300),
    _of_tokens("Qwen3-14B", 14, 4_500),
    _of_tokens("Qwen3-32B", 32, 2_100),
    _of_tokens("Qwen3-30B-A3B", 30, 5_300, mixture=True),
    _of_tokens("gpt-oss-20b", 20, 14_700, mixture=True),
    _of_tokens("gpt-oss-120b", 120, 6_100, mixture=True),
    _of_tokens(
        "Qwen3-8B-FP8",
        8,
        15_103,
        source="tgarg01/silybench-data (2026-09-24), Qwen3-8B in FP8 on vLLM 0.30 and one H100,"
        " 128 tokens in and 1,024 out, 472 users: 15,103 tokens/s",
        mixture=True,
    ),
    _of_tokens(
        "Llama-3.1-405B-Instruct-FP8",
        405,
        50_000 * TOKENS_PER_ROW / (60 * 3600 * 8),
        source="Magpie Ultra v0.1, Llama-3.1-405B-Instruct-FP8 on 8 H100: 50,000 rows in about 60 h"
        " (reported by the press, not by its card)",
    ),
)
"""Every figure that a plan rests on, per GPU."""


def billions_of(model: str) -> float | None:
    """Return a model's parameters in billions as its name says, None if it does not.

    Args:
        model: A hub id, a folder's name, or a size such as "8B"; "8x7B" counts all experts.
    """
    found = _SIZE.search(model.rstrip("/").rpartition("/")[2])
    if not found:
        return None
    experts, number, unit = found.groups()
    size = int(experts or 1) * float(number) / (1000 if unit in "mM" else 1)
    return size or None


def rate_of(model: str, gpu: str) -> Rate:
    """Return how fast a model writes: measured, or scaled from the nearest that was.

    Args:
        model: A hub id, a folder's name, or a size such as "8B".
        gpu: One of `GPUS`.

    Raises:
        ValueError: If the name tells no size, or there are no figures for the GPU.
    """
    if gpu not in GPUS:
        raise ValueError(f"there are no figures for the GPU {gpu!r}; give {' or '.join(GPUS)}")
    there = [rate for rate in RATES if rate.gpu == gpu]
    name = model.rstrip("/").rpartition("/")[2].casefold()
    if measured := [rate for rate in there if rate.model.casefold() == name]:
        return measured[0]
    billions = billions_of(model)
    if billions is None:
        raise ValueError(
            f"the model {model!r} does not say how large it is; give its size instead, such as 8B,"
            " or what you measured, with --rate or --from-run"
        )
    dense = [rate for rate in there if not rate.mixture]
    # Of two that are equally near, the larger: a plan should not promise too much.
    nearest = min(dense, key=lambda rate: (abs(log(rate.billions / billions)), -rate.billions))
    return nearest.scaled(billions)
