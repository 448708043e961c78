"""What was found, and does it agree with the paper?"""

from collections.abc import Iterable, Mapping
from typing import Any

from paper.ablation import (
    ERROR,
    PAPER,
    TEMPERATURES,
    TOP_PS,
    Measured,
    narrowing,
    slope,
    slope_error,
)
from paper.plan import CONTROL, FILTERED, RAW, SIZES
from paper.scoring import Arm, difference

Lines = Iterable[tuple[str, str]]

LEAST_SHARE = 90
LEAST_GAIN = 20


def models_table(arms: Mapping[str, Arm]) -> Lines:
    """Yield a line for each kind of model."""
    instruct, base = arms["instruct"].runs[0], arms["base"].runs[0]
    for name, arm in sorted(arms.items(), key=lambda item: item[1].runs[0].correct):
        found = arm.figures(instruct, base)
        yield (
            name,
            f"{_told(found['correct'])} % right, wins {_told(found['wins_against_instruct'])} %"
            f" against instruct, {_told(found['wins_against_base'])} % against base,"
            f" {len(arm.runs)} seed{'s' * (len(arm.runs) > 1)}",
        )


def claims(arms: Mapping[str, Arm]) -> dict[str, Any]:
    """Return each claim with its figures and whether it holds."""
    largest = {name: arms[f"{name}-{SIZES[-1]}x"] for name in (RAW, FILTERED, CONTROL)}
    instruct, base = arms["instruct"], arms["base"]
    correct = _mean(largest[FILTERED])
    share = 100 * correct / _mean(instruct)
    gap = difference(largest[FILTERED], largest[RAW])
    return {
        "share_of_instruct": {"percent": round(share, 1), "holds": share >= LEAST_SHARE},
        "gain_over_base": {
            "points": round(correct - _mean(base), 1),
            "holds": correct - _mean(base) >= LEAST_GAIN,
        },
        "filtered_above_raw": {**gap, "holds": gap["points"] > gap["standard_error"]},
        "filtered_above_control": {
            **(above := difference(largest[FILTERED], largest[CONTROL])),
            "holds": above["points"] > 2 * above["standard_error"],
        },
        **{
            f"{name.rpartition('-')[0]}_above_filtered": {
                **(gain := difference(arm, largest[FILTERED])),
                "holds": gain["points"] > gain["standard_error"],
            }
            for name, arm in arms.items()
            if "+" in name
        },
    }


def claims_table(found: Mapping[str, Any]) -> Lines:
    """Yield a line for each claim."""
    for name, claim in found.items():
        values = ", ".join(f"{key} {value}" for key, value in claim.items() if key != "holds")
        yield name.replace("_", " "), f"{values}: {'holds' if claim['holds'] else 'does not hold'}"


def trends(measured: Measured) -> dict[str, Any]:
    """Return how quality, difficulty and distance change with decoding, here and in the paper.

    A change of less than two standard errors is none.
    """
    return {name: _trend(measured, name) for name in PAPER}


def ablation_table(measured: Measured) -> Lines:
    """Yield a line for each figure and temperature, then one for each trend."""
    for name, rows in measured.items():
        if name.endswith(ERROR):
            continue
        for temperature, row in zip(TEMPERATURES, rows, strict=True):
            values = (f"{value:.3g} (top_p {p:g})" for p, value in zip(TOP_PS, row, strict=True))
            yield f"{name.replace('_', ' ')} at T {temperature:g}", ", ".join(values)
    for name, found in trends(measured).items():
        yield (
            f"{name} as T rises",
            f"{found['hotter']:+.3f} ± {found['standard_error']:.3f}; in the paper"
            f" {found['hotter_in_paper']:+.3f}: {found['verdict']}",
        )


def _trend(measured: Measured, name: str) -> dict[str, Any]:
    change, error = slope(measured[name]), slope_error(measured[f"{name}{ERROR}"])
    same = change * slope(PAPER[name]) > 0
    verdict = "as in the paper" if same else "against the paper"
    return {
        "hotter": round(change, 3),
        "standard_error": round(error, 3),
        "hotter_in_paper": round(slope(PAPER[name]), 3),
        "narrower": round(narrowing(measured[name]), 3),
        "narrower_in_paper": round(narrowing(PAPER[name]), 3),
        "verdict": verdict if abs(change) > 2 * error else "no change here",
    }


def pools_table(pools: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Yield a line for each pool."""
    for name, found in pools.items():
        yield (
            f"rows of {name}",
            f"{found['rows']:,}, {found['distinct_questions']:,} distinct questions,"
            f" {found['held_out_questions']} held-out questions",
        )


def _mean(arm: Arm) -> float:
    return sum(run.correct for run in arm.runs) / len(arm.runs)


def _told(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.1f} ± {found['deviation']:.1f}"
