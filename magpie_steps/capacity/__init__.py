"""How many GPU hours does a dataset take, how long does it run, how much disk does it fill?

A plan multiplies rates that others and we have measured; each number says whose it is. Stages are
counted one after the other, as the steps of a pipeline overlap little when one GPU does them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from magpie_steps.capacity.rates import (
    CHARACTERS_PER_TOKEN,
    INSTRUCTION_SHARE,
    TOKENS_PER_ROW,
    Rate,
)

GENERATION = ("instructions", "responses")
"""The stages that the paper reports."""

MOST = 1e15
"""No number of a plan is larger."""

LABEL_TOKENS = 150
"""Tokens that a model writes for a row's difficulty, quality and category: our assumption, as no
paper tells."""

REWARD_BILLIONS = 8.0
"""The reward model's parameters: those of the paper's and of Magpie Ultra's, in billions."""

PEAK_FLOPS = {"a100": 312e12, "h100": 989e12}
"""Dense bf16 operations per second (NVIDIA's data sheets)."""

PEAK_SHARE = 0.4
"""How much of the peak a model reaches that only reads: our assumption."""

EMBEDDED_ROWS = 7000.0
"""Texts per second that a small model embeds on one GPU (NeMo Curator's nightly gate for
embeddinggemma-300m)."""

COMPARED_ROWS, COMPARED_CPU_SECONDS, COMPARED_EXPONENT = 1_000_000, 534.0, 1.5
"""Processor time of an approximate comparison, 2 cores (``benchmarks/results/neighbours.json``);
cells and their rows grow with the square root of the rows each."""

COMPARING_CORES = 2

WRITTEN_ROWS = 100_000 / 3.35
"""Rows per second that become an output folder (``benchmarks/results/overhead.json``)."""

ROWS_OF_A_COORDINATOR = 3068.0
"""Rows per second that one process hands out and takes back at most, on a core of its own
(``benchmarks/results/scale.json``)."""

COORDINATOR_LOAD = 0.75
"""How much of that a plan asks of a process: rows with labels cost it more, other cores less."""

SHARDS_SOURCE = (
    f"benchmarks/results/scale.json: one process feeds engines of {ROWS_OF_A_COORDINATOR:,.0f}"
    f" rows/s together at most; planned with {COORDINATOR_LOAD:.0%} of that"
)

DATASET_BYTES, DATASET_ROW_BYTES = 1.7, 400
"""Bytes of the output folder for a character of instruction and response, in three configurations,
and for a row besides: English prose, measured again by `tests/test_plan.py`."""

WORK_BYTES, WORK_ROW_BYTES = 4.1, 1700
"""The same of the work folder: journal, rows, and an embedding of 384 numbers."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work.

    Attributes:
        name: What is done.
        gpu_hours: GPU hours, 0 if it needs none.
        cpu_hours: Processor hours, 0 where they do not matter.
        wall_hours: How long it takes.
        source: Where the numbers are from.
    """

    name: str
    gpu_hours: float
    cpu_hours: float
    wall_hours: float
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a dataset takes.

    Attributes:
        model: The model, as it was asked for.
        rows: Rows to generate.
        gpus: How many GPUs there are.
        stages: The parts of the work, in order.
        amounts: What is generated, by name: tokens, and model calls if they are known.
        dataset_bytes: Bytes of the output folder.
        work_bytes: Bytes of the work folder beside it.
        shards: In how many shards it should run at least, as one process cannot feed more GPUs.
        disk_source: Where the bytes are from.
    """

    model: str
    rows: int
    gpus: int
    stages: Sequence[Stage]
    amounts: Mapping[str, int]
    dataset_bytes: int
    work_bytes: int
    shards: int
    disk_source: str

    @property
    def generation_gpu_hours(self) -> float:
        """GPU hours of instructions and responses, which is what the paper reports."""
        return sum(stage.gpu_hours for stage in self.stages if stage.name in GENERATION)

    @property
    def gpu_hours(self) -> float:
        """GPU hours of all stages."""
        return sum(stage.gpu_hours for stage in self.stages)

    @property
    def wall_hours(self) -> float:
        """How long all stages take, one after the other."""
        return sum(stage.wall_hours for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            **asdict(self),
            "generation_gpu_hours": round(self.generation_gpu_hours, 4),
            "gpu_hours": round(self.gpu_hours, 4),
            "wall_hours": round(self.wall_hours, 4),
        }


def plan(
    model: str, rows: int, gpus: int, rate: Rate, tokens_per_row: float = TOKENS_PER_ROW
) -> Plan:
    """Return what a dataset with labels, rewards and distances takes.

    Args:
        model: The model, for the plan's name.
        rows: Rows to generate, at least 1.
        gpus: GPUs, at least 1.
        rate: How fast the model writes.
        tokens_per_row: Tokens of an instruction and its response.

    Raises:
        ValueError: If a number is not above 0.
    """
    check(num_rows=rows, gpus=gpus, tokens_per_row=tokens_per_row)
    longer = tokens_per_row / TOKENS_PER_ROW
    tokens = f"{tokens_per_row:g} tokens a row"
    stages = [
        _on_gpus(name, rows, gpus, per_second / longer, rate.source)
        for name, per_second in zip(GENERATION, (rate.instructions, rate.responses), strict=True)
    ]
    stages += [
        _on_gpus(
            "labels",
            rows,
            gpus,
            rate.tokens / LABEL_TOKENS,
            f"{LABEL_TOKENS} tokens for three labels (assumed), written as fast as responses",
        ),
        _on_gpus(
            "rewards",
            rows,
            gpus,
            PEAK_SHARE * PEAK_FLOPS[rate.gpu] / (2e9 * REWARD_BILLIONS * tokens_per_row),
            f"computed: a model of {REWARD_BILLIONS:g}B that reads {tokens} at {PEAK_SHARE:.0%} of"
            f" the {rate.gpu.upper()}'s peak (assumed)",
        ),
        *other_stages(rows),
    ]
    characters = rows * tokens_per_row * CHARACTERS_PER_TOKEN
    return Plan(
        model=model,
        rows=rows,
        gpus=gpus,
        stages=stages,
        amounts={"completion_tokens": round(rows * tokens_per_row)},
        dataset_bytes=round(characters * DATASET_BYTES + rows * DATASET_ROW_BYTES),
        work_bytes=round(characters * WORK_BYTES + rows * WORK_ROW_BYTES),
        shards=shards_for(gpus * rate.responses / longer),
        disk_source=f"{tokens} of {CHARACTERS_PER_TOKEN} characters; bytes for a character measured"
        " with this package",
    )


def shards_for(rows_per_second: float) -> int:
    """Return in how many shards, each a process of its own, so many rows per second are fed."""
    return max(ceil(rows_per_second / (COORDINATOR_LOAD * ROWS_OF_A_COORDINATOR)), 1)


def other_stages(rows: int) -> list[Stage]:
    """Return the stages that do not depend on the model."""
    compared = COMPARED_CPU_SECONDS * (rows / COMPARED_ROWS) ** COMPARED_EXPONENT / 3600
    written = rows / WRITTEN_ROWS / 3600
    return [
        _on_gpus(
            "embeddings",
            rows,
            1,
            EMBEDDED_ROWS,
            f"NeMo Curator's nightly gate: {EMBEDDED_ROWS:,.0f} texts/s, on one GPU",
        ),
        Stage(
            "neighbours",
            0.0,
            compared,
            compared / COMPARING_CORES,
            f"benchmarks/results/neighbours.json: {COMPARED_CPU_SECONDS:g} CPU seconds for a"
            f" million rows with an index, {COMPARING_CORES} cores; with the rows to the power of"
            f" {COMPARED_EXPONENT:g}",
        ),
        Stage(
            "writing",
            0.0,
            written,
            written,
            f"benchmarks/results/overhead.json: {WRITTEN_ROWS:,.0f} rows/s",
        ),
    ]


def measured_rate(rows_per_second: float, gpu: str, tokens_per_row: float = TOKENS_PER_ROW) -> Rate:
    """Return a rate that was measured for instructions and responses together.

    Args:
        rows_per_second: Rows per second of one GPU, above 0.
        gpu: The GPU, for the rewards.
        tokens_per_row: Tokens of the rows that were measured.

    Raises:
        ValueError: If a number is not above 0.
    """
    check(rate=rows_per_second, tokens_per_row=tokens_per_row)
    rows = rows_per_second * tokens_per_row / TOKENS_PER_ROW
    return Rate(
        "",
        0.0,
        gpu,
        rows / INSTRUCTION_SHARE,
        rows / (1 - INSTRUCTION_SHARE),
        f"given: {rows_per_second:g} rows/s for each GPU",
    )


def check(**numbers: float) -> None:
    """Check numbers by their flag.

    Raises:
        ValueError: If one is not above 0 and at most `MOST`.
    """
    for name, value in numbers.items():
        if not 0 < value <= MOST:
            shown = value if len(str(value)) < 20 else "too large"
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is {shown}; it must be above 0 and at most {MOST:g}")


def _on_gpus(name: str, rows: int, gpus: int, rate: float, source: str) -> Stage:
    hours = rows / rate / 3600
    return Stage(name, hours, 0.0, hours / gpus, source)
