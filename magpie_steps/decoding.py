"""With which temperatures were the paper's datasets sampled?

A dataset's instructions are sampled in several ways, each for a share of its rows: hotter ones are
more varied and less clean (Magpie paper, figure 8 and table 7). Responses are greedy throughout.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decoding:
    """One way to sample instructions.

    Attributes:
        temperature: The sampling temperature.
        top_p: Share of probability that is sampled from.
        thousands: Thousand conversations that the paper's dataset has of it (table 7).
    """

    temperature: float
    top_p: float
    thousands: int


AIR_MIX = (
    *(Decoding(t, p, 300) for t in (1.0, 1.1, 1.2) for p in (1.0, 0.995, 0.990)),
    *(Decoding(1.25, p, 100) for p in (1.0, 0.995, 0.990)),
)
"""Magpie-Air, 3M conversations from Llama-3-8B-Instruct (table 7)."""

PRO_MIX = (
    Decoding(1.0, 1.0, 300),
    Decoding(1.1, 0.995, 300),
    Decoding(1.2, 0.995, 300),
    Decoding(1.25, 0.990, 100),
)
"""Magpie-Pro, 1M conversations from Llama-3-70B-Instruct (table 7)."""

MARKDOWN_OPENER = r"\s*(#+|\*\*+:?)\s*"
"""The whole text of a token that opens a Markdown heading or bold text. The paper's scripts ban the
headings up to ``####`` as a user turn's first token, Magpie Ultra ``**`` and ``**:`` as well; their
lists of ids are of one tokenizer, so here the vocabulary is searched."""


def as_settings(
    mix: tuple[Decoding, ...], *, max_new_tokens: int = 512
) -> dict[str, dict[str, float]]:
    """Return a mix as the `instruction_mix` of a generator, by a key that names each way."""
    return {
        f"t{way.temperature:g}-p{way.top_p:g}": {
            "temperature": way.temperature,
            "top_p": way.top_p,
            "max_new_tokens": max_new_tokens,
            "weight": float(way.thousands),
        }
        for way in mix
    }
