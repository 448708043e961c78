"""What does the paper say, what was found here, and is it the same?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paper.plan import FILTERED, SIZES
from paper.result import KINDS, Figures, grown, spread_text
from paper.telling import LEAST_GAIN, LEAST_SHARE


@dataclass(frozen=True)
class Comparison:
    """One thing that was compared.

    Attributes:
        name: A few words for it.
        claim: What should be so, a sentence without its full stop.
        found: What is so here, with its error.
        holds: Whether that is the same.
        ours: Whether the claim is not the paper's.
    """

    name: str
    claim: str
    found: str
    holds: bool
    ours: bool = False


CLAIMS: Mapping[str, tuple[str, str]] = {
    "share_of_instruct": (
        "near the aligned model",
        "The base model, trained on filtered rows alone, reaches at least"
        f" {LEAST_SHARE} % of the aligned model's score",
    ),
    "gain_over_base": (
        "far above the base model",
        f"It is at least {LEAST_GAIN} points above where it began",
    ),
    "filtered_above_raw": (
        "filtered above raw",
        "Filtered rows teach more than as many raw ones, by over one standard error",
    ),
    "filtered_above_control": (
        "filtered above templates",
        "They teach more than as many rows of templates, by over two standard errors",
    ),
    "filtered+pairs_above_filtered": (
        "pairs of five answers add",
        "DPO on the best and worst of five answers adds to them, by over one standard error",
    ),
    "filtered+base_pairs_above_filtered": (
        "pairs with the base model add",
        "DPO on the aligned against the base model's answers adds, by over one standard error",
    ),
}
"""A few words and a sentence for each claim of the result."""

OURS = frozenset({"filtered_above_control", "filtered+base_pairs_above_filtered"})
"""Claims that are not the paper's."""


def comparisons(result: Figures) -> list[Comparison]:
    """Return everything that was compared: claims, growth with more rows, trends of decoding."""
    found = result["figures"]
    unit = result["settings"]["unit"]
    return [*_claims(found["claims"]), *_growth(found["models"], unit), *_trends(found["trends"])]


def _claims(claims: Figures) -> Iterator[Comparison]:
    for key, claim in claims.items():
        name, sentence = CLAIMS[key]
        yield Comparison(name, sentence, _measure(claim), claim["holds"], key in OURS)


def _growth(models: Figures, unit: int) -> Iterator[Comparison]:
    """Compare the smallest with the largest sets, where both were trained on."""
    found, rows = grown(models), KINDS[FILTERED]
    if SIZES[0] in found and SIZES[-1] in found:
        means = [f"{spread_text(each)} % of {size * unit:,}" for size, each in found.items()]
        yield Comparison(
            f"more {rows} help",
            f"More {rows} help: every model of the largest set is above all of the smallest",
            ", ".join(means),
            min(found[SIZES[-1]]["runs"]) > max(found[SIZES[0]]["runs"]),
        )


def _trends(trends: Figures) -> Iterator[Comparison]:
    for name, trend in trends.items():
        way = "rises" if trend["hotter_in_paper"] > 0 else "falls"
        yield Comparison(
            f"{name} {way} with temperature",
            f"The instructions' {name} {way} with the temperature, by over two standard errors",
            f"{trend['hotter']:+.3f} ± {trend['standard_error']:.3f}, {trend['verdict']}"
            f" ({trend['hotter_in_paper']:+.3f})",
            trend["verdict"] == "as in the paper",
        )


def _measure(claim: Mapping[str, Any]) -> str:
    if "percent" in claim:
        return f"{claim['percent']:.1f} %"
    error = f" ± {claim['standard_error']:.1f}" if "standard_error" in claim else ""
    return f"{claim['points']:+.1f}{error} points"
