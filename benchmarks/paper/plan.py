"""What is made, trained and asked, and how large is it?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from magpie_steps.embedded import model_path

RAW, FILTERED, MULTI_TURN, CONTROL = "raw", "filtered", "multi_turn", "control"
PAIRS, BASE_PAIRS = "pairs", "base_pairs"

MULTI_TURNS = 2
"""User turns of a multi-turn row, as in Magpie-Pro-MT."""

PREFERENCES = (PAIRS, BASE_PAIRS)
"""The pools of pairs; a model tuned on the largest filtered set goes on with each of them."""

SIZES = (1, 2, 4)
"""The filtered sets' sizes, in units: the paper's ablation of quantity is of filtered rows too."""

ONE_SIZE: Mapping[str, int] = {RAW: SIZES[-1], CONTROL: SIZES[-1], MULTI_TURN: SIZES[0]}
"""The size of the other sets; two turns are long to write, so of these there are fewer."""

MODELS = frozenset({"model", "base_model", "reward_model"})
"""Fields of a plan that name models other than the embedded ones."""


@dataclass(frozen=True)
class Training:
    """How a trainer of TRL is set.

    Attributes:
        learning_rate: The peak; up during `warmup` steps, then down.
        schedule: How it goes down: "cosine" or "linear".
        epochs: Passes over the rows.
        batch: Rows or pairs per optimizer step.
        per_device: Rows or pairs that a device works on at once.
        warmup: Steps if 1 or more, else a share of all steps.
        max_length: Most tokens of a row.
        weight_decay: How much of each weight AdamW takes away, times the rate.
        beta2: How slowly AdamW forgets how large gradients were.
        beta: How closely DPO stays to the model that it began with; without effect on SFT.
        checkpointing: Whether activations are computed twice to save memory.
    """

    learning_rate: float
    schedule: str
    epochs: float
    batch: int
    per_device: int
    warmup: float
    max_length: int
    weight_decay: float = 0.0
    beta2: float = 0.999
    beta: float = 0.1
    checkpointing: bool = False


MINIATURE_SFT = Training(1e-3, "linear", 3.3, 16, 16, 100, 512, weight_decay=0.2, beta2=0.98)
"""Tried on raw rows and 960 other held-out questions: 24,000 rows seen 3.5 times 81.9 % right,
48,000 seen 1.75 times 83.2 %, 55,900 seen 2.1 times 86.6 %. And on 40,000 filtered rows and 1,391
other questions: seen 3 times 86.5 and 85.2 %, seen 3.6 times 86.8 %."""
MINIATURE_DPO = Training(2e-5, "linear", 1, 32, 32, 0.1, 512)

PAPER_SFT = Training(2e-5, "cosine", 2, 32, 1, 100, 8192, checkpointing=True)
"""The paper's appendix on Llama-3-8B: an effective batch of 32, warmed up for 100 steps."""
PAPER_DPO = Training(5e-7, "cosine", 1, 128, 1, 0.1, 2048, beta=0.01, checkpointing=True)


@dataclass(frozen=True)
class Plan:
    """A whole run.

    Attributes:
        model: The aligned model that writes the data.
        base_model: What is trained.
        reward_model: What judges answers.
        device: Where models are trained: "cpu" or "cuda".
        unit: Rows of a set of size 1.
        pool: Rows that the aligned model writes; sets are drawn from them.
        pairs: Rows that preference pairs are made of, each way.
        ablation: Rows of each of the nine ways to sample instructions.
        seeds: How many times the models of the largest raw and filtered sets are trained.
        side_seeds: How many times the others are.
        questions: Held-out questions that each model is asked.
        answer_tokens: Most tokens of an answer.
        sft: How conversations are trained on.
        dpo: How preference pairs are.
    """

    model: str = str(model_path("tiny-instruct"))
    base_model: str = str(model_path("tiny-base"))
    reward_model: str = str(model_path("tiny-reward"))
    device: str = "cpu"
    unit: int = 9_000  # of 55,000 rows 37,000 are kept, more than the largest set's four units
    pool: int = 55_000
    pairs: int = 2000
    ablation: int = 800
    seeds: int = 3
    side_seeds: int = 3
    questions: int = 600
    answer_tokens: int = 128
    sft: Training = MINIATURE_SFT
    dpo: Training = MINIATURE_DPO

    @property
    def is_miniature(self) -> bool:
        """Whether the models are the embedded ones, whose questions and answers can be checked."""
        return self.model == str(model_path("tiny-instruct"))

    @property
    def largest(self) -> int:
        """Rows of the largest set."""
        return self.unit * SIZES[-1]

    @property
    def chains(self) -> list["Chain"]:
        """What is trained, the longest first, so that several processes end together."""
        side_kinds = [
            *((pool, ONE_SIZE[pool]) for pool in (CONTROL, MULTI_TURN)),
            *((FILTERED, size) for size in reversed(SIZES[:-1])),
        ]
        return [
            *(Chain(pool, SIZES[-1], s) for pool in (FILTERED, RAW) for s in range(self.seeds)),
            *(Chain(pool, size, s) for pool, size in side_kinds for s in range(self.side_seeds)),
        ]

    def rows(self, pool: str, size: int) -> int:
        """Return the rows of a set: all sets of a size have as many answers."""
        return self.unit * size // (MULTI_TURNS if pool == MULTI_TURN else 1)


@dataclass(frozen=True)
class Chain:
    """A model trained on one set, and for some what goes on from there.

    Attributes:
        pool: What its rows are drawn from.
        size: How large the set is, in units.
        seed: What draws the rows and their order.
    """

    pool: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        """A word for files."""
        return f"{self.pool}-{self.size}x-{self.seed}"

    @property
    def preferences(self) -> tuple[str, ...]:
        """The pools of pairs that the trained model goes on with."""
        return PREFERENCES if (self.pool, self.size) == (FILTERED, SIZES[-1]) else ()

    def preferred_name(self, pairs: str) -> str:
        """The same for the model that went on with these pairs."""
        return f"{self.pool}+{pairs}-{self.size}x-{self.seed}"


@dataclass(frozen=True)
class Folders:
    """Where everything of a run lies."""

    root: Path

    def pool(self, name: str) -> Path:
        """The file of a pool's rows."""
        return self.root / "pools" / f"{name}.parquet"

    def answers(self, name: str) -> Path:
        """The file of a model's answers."""
        return self.root / "answers" / f"{name}.json"

    @property
    def questions(self) -> Path:
        """The file of the held-out questions."""
        return self.root / "questions.json"

    @property
    def described(self) -> Path:
        """The file of what the pools hold."""
        return self.root / "pools.json"

    @property
    def times(self) -> Path:
        """The file of what the stages took."""
        return self.root / "seconds.json"

    @property
    def ablation(self) -> Path:
        """The file of what the nine ways to sample instructions gave."""
        return self.root / "ablation.json"

    @property
    def pipelines(self) -> Path:
        """The folder in which pipelines keep their work."""
        return self.root / "pipelines"

    def trained(self, name: str) -> Path:
        """The folder of a trained model."""
        return self.root / "models" / name


BY_DEVICE: Mapping[str, Mapping[str, Any]] = {
    "cuda": {},
    "cpu": {"side_seeds": 1},
}
"""What is smaller where it would take over an hour."""

PAPER = {
    "unit": 75_000,  # the paper's 300K rows are its largest set here
    "pool": 1_000_000,
    "pairs": 100_000,
    "seeds": 1,
    "side_seeds": 1,
    "questions": 0,  # nobody can check what a real model is asked: public harnesses do
    "answer_tokens": 2048,
    "sft": PAPER_SFT,
    "dpo": PAPER_DPO,
}
"""What is as in the paper for models other than the embedded ones."""


def plan_for(device: str, chosen: Mapping[str, Any]) -> Plan:
    """Return the plan for a device, with what was chosen in the place of defaults.

    Args:
        device: "cpu" or "cuda".
        chosen: Fields of `Plan` by name; None leaves a default.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    defaults = BY_DEVICE[device] if MODELS.isdisjoint(given) else PAPER
    return replace(Plan(device=device), **{**defaults, **given})
