"""What did the paper measure on its own datasets?

Magpie, arXiv 2406.08464v2. Its figures without printed numbers (3, 4, 5, 7, 9) are not in here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "Magpie, arXiv 2406.08464v2"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is in a dataset (Table 4).

    Attributes:
        name: The dataset.
        conversations: Their number.
        turns: Turns of a conversation, on average.
        tokens: Tokens of a turn, the user's message and the answer, on average, as tiktoken counts.
        deviation: The standard deviation of these tokens, None where the table has none.
        magpie: Whether it is one of the paper's own.
    """

    name: str
    conversations: int
    turns: float
    tokens: float
    deviation: float | None = None
    magpie: bool = True


TABLE_4 = (
    Size("Magpie-Air (Llama-3-8B)", 3_000_000, 1, 426.39, 217.39),
    Size("Magpie-Air-MT (Llama-3-8B)", 300_000, 2, 610.80, 90.61),
    Size("Magpie-Pro (Llama-3-70B)", 1_000_000, 1, 478.00, 211.09),
    Size("Magpie-Pro-MT (Llama-3-70B)", 300_000, 2, 554.53, 133.64),
    Size("Magpie-Pro (Llama-3.1-70B)", 1_000_000, 1, 482.35, 378.45),
    Size("Magpie-Pro (Qwen2-72B)", 1_000_000, 1, 424.87, 339.71),
    Size("Alpaca", 52_000, 1, 67.38, None, magpie=False),
    Size("Evol-Instruct", 143_000, 1, 473.33, None, magpie=False),
    Size("UltraChat", 208_000, 3.16, 376.58, None, magpie=False),
    Size("WildChat", 652_000, 2.52, 727.09, None, magpie=False),
)
"""A choice of the lines of Table 4: conversations, turns and tokens per turn."""

LLAMA_GUARD_2: Mapping[str, str] = {
    "S1": "violent_crimes",
    "S2": "non_violent_crimes",
    "S3": "sex_related_crimes",
    "S4": "child_sexual_exploitation",
    "S5": "specialized_advice",
    "S6": "privacy",
    "S7": "intellectual_property",
    "S8": "indiscriminate_weapons",
    "S9": "hate",
    "S10": "suicide_self_harm",
    "S11": "sexual_content",
}
"""What Meta-Llama-Guard-2-8B's codes mean (its model card), named as `magpie_steps.safety` does."""


@dataclass(frozen=True, slots=True)
class Safety:
    """What Llama-Guard-2 says about a dataset (Table 6), in per cent of its rows.

    Attributes:
        name: The dataset.
        safe: Safe rows.
        hazards: Unsafe ones by category, in the order of `LLAMA_GUARD_2`.
    """

    name: str
    safe: float
    hazards: tuple[float, ...]

    def hazard(self, category: str) -> float:
        """Return the per cent of a category."""
        return self.hazards[list(LLAMA_GUARD_2.values()).index(category)]


TABLE_6 = (
    Safety(
        "Magpie-Air",
        99.128,
        (0.001, 0.073, 0.003, 0, 0.636, 0.022, 0.026, 0.038, 0.001, 0.002, 0.009),
    ),
    Safety(
        "Magpie-Pro",
        99.347,
        (0.001, 0.049, 0.002, 0, 0.446, 0.015, 0.074, 0.014, 0.001, 0.004, 0.011),
    ),
)
"""Table 6, but for its last column, which holds what is in no category."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """What came out at a sampling setting (Figure 11, on Magpie-Air).

    Attributes:
        temperature: The temperature at which instructions were sampled.
        top_p: The share of the probability that they were sampled from.
        quality: Their mean quality, 1 (very poor) to 5 (excellent).
        difficulty: Their mean difficulty, 1 (very easy) to 5 (very hard).
        distance: Their mean squared distance to the nearest other one.
    """

    temperature: float
    top_p: float
    quality: float
    difficulty: float
    distance: float


FIGURE_11 = (
    Decoding(1.0, 1.0, 3.192, 2.213, 0.328),
    Decoding(1.0, 0.995, 3.294, 2.226, 0.329),
    Decoding(1.0, 0.99, 3.293, 2.224, 0.317),
    Decoding(1.1, 1.0, 3.121, 2.268, 0.412),
    Decoding(1.1, 0.995, 3.180, 2.237, 0.403),
    Decoding(1.1, 0.99, 3.178, 2.258, 0.389),
    Decoding(1.2, 1.0, 2.882, 2.295, 0.501),
    Decoding(1.2, 0.995, 2.902, 2.283, 0.492),
    Decoding(1.2, 0.99, 2.975, 2.269, 0.477),
)
"""Figure 11; which axis is which follows from the trends that the text tells."""


@dataclass(frozen=True, slots=True)
class PaperCost:
    """What a dataset took.

    Attributes:
        name: The dataset.
        gpu_hours_per_thousand: Hours of one A100 with 80 GB for 1,000 rows.
    """

    name: str
    gpu_hours_per_thousand: float


COSTS = (PaperCost("Magpie-Air", 206 / 3000), PaperCost("Magpie-Pro", 614 / 1000))
"""Section 3.4: 206 GPU hours for 3 million rows and 614 for 1 million."""
