"""What do temperature and top_p change in instructions, here and in the paper?"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from figures import say

import magpie_steps
from magpie_steps.decoding import AIR_MIX, as_settings
from magpie_steps.embedded.dialogues.checker import is_correct_answer, is_well_formed
from magpie_steps.labels import Difficulty
from magpie_steps.shards import write_text
from paper.generation import SEED, engine, run, sampling, tagger
from paper.plan import Folders, Plan

TEMPERATURES, TOP_PS = (1.0, 1.1, 1.2), (1.0, 0.995, 0.99)

PAPER: Mapping[str, Sequence[Sequence[float]]] = {
    "quality": ((3.192, 3.294, 3.293), (3.121, 3.180, 3.178), (2.882, 2.902, 2.975)),
    "difficulty": ((2.213, 2.226, 2.224), (2.268, 2.237, 2.258), (2.295, 2.283, 2.269)),
    "distance": ((0.328, 0.329, 0.317), (0.412, 0.403, 0.389), (0.501, 0.492, 0.477)),
}
"""Figure 11: a row for each temperature, a column for each top_p. Quality and difficulty are marks
from 1 to 5; distances are those of `min_neighbor_distance`."""

ERROR = "_standard_error"

Measured = dict[str, list[list[float]]]


def decoding_ablation(plan: Plan, folders: Folders) -> Measured:
    """Return what instructions are like in each of the nine settings; the paper's axes.

    Quality is the share of instructions that are well formed, in percent, and beside it that of
    rows with a right answer; difficulty is the mean level from 1 to 5 by rules; each with its
    standard error.
    """
    if not folders.ablation.exists():
        say("sampling instructions in nine ways")
        write_text(folders.ablation, json.dumps(_measure(plan, folders)))
    found: Measured = json.loads(folders.ablation.read_text(encoding="utf-8"))
    return found


def slope(values: Sequence[Sequence[float]]) -> float:
    """Return by how much the mean over top_p changes from the lowest temperature to the highest."""
    return statistics.fmean(values[-1]) - statistics.fmean(values[0])


def slope_error(errors: Sequence[Sequence[float]]) -> float:
    """Return the standard error of a slope, from those of the nine means."""
    return math.hypot(*errors[-1], *errors[0]) / len(TOP_PS)


def narrowing(values: Sequence[Sequence[float]]) -> float:
    """Return by how much the mean over temperatures changes from top_p 1 to the lowest."""
    return statistics.fmean(row[-1] for row in values) - statistics.fmean(row[0] for row in values)


def _measure(plan: Plan, folders: Folders) -> Measured:
    groups = defaultdict(list)
    for row in _rows(plan, folders):
        config = row["gen_input_configs"]
        groups[config["temperature"], config["top_p"]].append(row)
    # The nearest of more instructions is nearer: all settings have as many.
    least = min(map(len, groups.values()))
    found = {key: _figures(rows[:least]) for key, rows in groups.items()}
    names = next(iter(found.values()))
    return {name: [[found[t, p][name] for p in TOP_PS] for t in TEMPERATURES] for name in names}


def _rows(plan: Plan, folders: Folders) -> list[dict[str, Any]]:
    mix = as_settings(AIR_MIX[: len(TEMPERATURES) * len(TOP_PS)])
    rows = run(
        [
            lambda: magpie_steps.ConversationGenerator(
                llm=engine(plan.model),
                num_rows=plan.ablation * len(mix),
                seed=SEED + 4,
                batch_size=1000,
                instruction_mix=mix,
                response_sampling=sampling(plan, 0.0),
            ),
            lambda: tagger(plan),
        ],
        folders.pipelines / "ablation",
    )
    return [row for row in rows if row["keep"]]


def _figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    step = magpie_steps.NeighbourDistance(name="neighbours")
    step.load()
    near = next(step.process(rows))
    step.unload()
    levels = [str(level) for level in Difficulty]
    values: dict[str, list[float]] = {
        "quality": [100.0 * is_well_formed(row["instruction"]) for row in rows],
        "right_answers": [
            100.0 * bool(is_correct_answer(row["instruction"], row["response"])) for row in rows
        ],
        "difficulty": [1.0 + levels.index(row["difficulty"]) for row in rows],
        "distance": [row["min_neighbor_distance"] for row in near],
    }
    means = {name: statistics.fmean(each) for name, each in values.items()}
    errors = {
        f"{name}{ERROR}": statistics.stdev(each) / math.sqrt(len(each))
        for name, each in values.items()
    }
    return {**means, **errors}
