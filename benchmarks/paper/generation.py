"""What does the aligned model write, and which of it is trained on?

Each function is one pipeline of ours. Its rows become a pool: a parquet file with nothing but what
a trainer of TRL reads.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from figures import say

import magpie_steps
from magpie_steps.recipes import Recipe, recipe_named
from magpie_steps.rules import LevelAtLeast, NumberAbove
from paper.control import control_rows
from paper.held_out import asks_held_out, occurrences, questions
from paper.plan import (
    BASE_PAIRS,
    CONTROL,
    FILTERED,
    MULTI_TURN,
    MULTI_TURNS,
    ONE_SIZE,
    PAIRS,
    RAW,
    SIZES,
    Folders,
    Plan,
)

SEED = 1
RECIPE = Recipe(
    "miniature",
    (
        LevelAtLeast("input_quality", "average"),
        NumberAbove("instruct_reward", 0.0),
    ),
    source="after the paper's filter for Pro (Table 5)",
    description="The bound of the reward is tiny-reward's.",
)

MOST_REPEATS = 4
"""Rows with the same instruction that stay. The paper keeps one; a world of a few hundred words has
kinds of questions with sixty instances and others with thousands, and one of each would leave
hardly any of the former."""

Row = Mapping[str, Any]
Pools = Mapping[str, Iterable[Row]]


def make_pools(plan: Plan, folders: Folders, group: str) -> None:
    """Write the pools of one of the `GROUPS`, unless they are there."""
    names, make = GROUPS[group]
    if all(folders.pool(name).exists() for name in names):
        return
    say(f"making {group}")
    for name, rows in make(plan, folders).items():
        _write(folders.pool(name), rows)


def described_pools(plan: Plan, folders: Folders) -> dict[str, dict[str, Any]]:
    """Return how many rows each pool has and what they hold.

    Raises:
        ValueError: If a pool has fewer rows than the largest set.
    """
    names = [name for group, _ in GROUPS.values() for name in group]
    found = {name: _described(folders.pool(name), plan) for name in names}
    for name in (RAW, FILTERED, MULTI_TURN):
        size = ONE_SIZE.get(name, SIZES[-1])
        if found[name]["rows"] < (needed := plan.rows(name, size)):
            raise ValueError(
                f"the pool {name} has {found[name]['rows']} rows; the largest set needs"
                f" {needed}: raise --pool or lower --unit"
            )
    return found


def run(steps: Sequence[Any], folder: Path) -> list[dict[str, Any]]:
    """Run steps as a pipeline; a run that was finished before gives its rows again."""
    from distilabel.pipeline import Pipeline

    with Pipeline(name=folder.name) as pipeline:
        made = [step() for step in steps]
        for before, after in pairwise(made):
            before >> after
    rows = magpie_steps.run_pipeline(pipeline, work_dir=folder, use_cache=True).dataset
    return list(rows)


def engine(model: str) -> magpie_steps.TransformersEngine:
    """Return a new engine of a model."""
    return magpie_steps.TransformersEngine(model=model)


def tagger(plan: Plan) -> Any:
    """Return what labels instructions: the model itself, rules for the embedded one."""
    if plan.is_miniature:
        return magpie_steps.RuleTagger()
    return magpie_steps.InstructionTagger(llm=engine(plan.model))


def recipe(plan: Plan) -> Recipe:
    """Return the paper's filter, with a bound of the reward that suits the reward model."""
    return RECIPE if plan.is_miniature else recipe_named("pro").with_longest(plan.largest)


def sampling(plan: Plan, temperature: float) -> dict[str, Any]:
    """Return how answers are sampled."""
    return {"temperature": temperature, "max_new_tokens": plan.answer_tokens}


def at_most(repeats: int, rows: Iterable[Row]) -> list[Row]:
    """Return rows without those whose instruction as many before them have."""
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row["instruction"]] += 1
        if seen[row["instruction"]] <= repeats:
            kept.append(row)
    return kept


def _single_turns(plan: Plan, folders: Folders) -> Pools:
    """Raw rows, those of them that the recipe keeps, and as many from templates."""
    # The step waits for all rows, so it is there only for a recipe that asks for distances.
    wanted = "min_neighbor_distance" in recipe(plan).columns
    neighbours = [lambda: magpie_steps.NeighbourDistance()] if wanted else []
    rows = run(
        [
            lambda: magpie_steps.ConversationGenerator(
                llm=engine(plan.model),
                num_rows=plan.pool,
                seed=SEED,
                batch_size=1000,
                response_sampling=sampling(plan, 0.0),
            ),
            lambda: tagger(plan),
            lambda: magpie_steps.RewardScorer(reward_model={"model": plan.reward_model}),
            *neighbours,
            lambda: magpie_steps.ApplyRecipe(recipe=recipe(plan).as_dict()),
        ],
        folders.pipelines / RAW,
    )
    return {
        RAW: [row for row in rows if row["response"]],
        FILTERED: at_most(MOST_REPEATS, (row for row in rows if row["keep"])),
        CONTROL: ({"messages": each} for each in control_rows(plan.largest, SEED)),
    }


def _multi_turn(plan: Plan, folders: Folders) -> Pools:
    rows = run(
        [
            lambda: magpie_steps.ConversationGenerator(
                llm=engine(plan.model),
                # One row in eight asks what is held out, in one of its turns.
                num_rows=round(plan.rows(MULTI_TURN, ONE_SIZE[MULTI_TURN]) * 1.16) + 8,
                seed=SEED + 1,
                batch_size=1000,
                n_turns=MULTI_TURNS,
                response_sampling=sampling(plan, 0.0),
            )
        ],
        folders.pipelines / MULTI_TURN,
    )
    return {MULTI_TURN: [row for row in rows if row["keep"]]}


def _pairs(plan: Plan, folders: Folders) -> Pools:
    """The best and the worst of five answers at temperature 0.8."""
    rows = run(
        [
            lambda: magpie_steps.InstructionGenerator(
                llm=engine(plan.model), num_rows=plan.pairs, seed=SEED + 2, batch_size=1000
            ),
            lambda: magpie_steps.SampleResponses(
                llm=engine(plan.model),
                seed=SEED,
                input_batch_size=1000,
                sampling=sampling(plan, 0.8),
            ),
            lambda: magpie_steps.RewardScorer(reward_model={"model": plan.reward_model}),
            lambda: magpie_steps.FormatPreference(min_margin=0.5),
        ],
        folders.pipelines / PAIRS,
    )
    return {PAIRS: [row for row in rows if row["keep"]]}


def _base_pairs(plan: Plan, folders: Folders) -> Pools:
    """The aligned model's answer against the base model's."""
    rows = run(
        [
            lambda: magpie_steps.ConversationGenerator(
                llm=engine(plan.model),
                num_rows=plan.pairs,
                seed=SEED + 3,
                batch_size=1000,
                response_sampling=sampling(plan, 0.0),
            ),
            lambda: magpie_steps.BaseResponse(
                llm=engine(plan.base_model),
                input_batch_size=1000,
                sampling={"max_new_tokens": 64},
            ),
            lambda: magpie_steps.RewardScorer(reward_model={"model": plan.reward_model}),
            lambda: magpie_steps.FormatPreference(source="instruct_vs_base"),
        ],
        folders.pipelines / BASE_PAIRS,
    )
    return {BASE_PAIRS: [row for row in rows if row["keep"]]}


GROUPS: Mapping[str, tuple[Sequence[str], Callable[[Plan, Folders], Pools]]] = {
    "single turns": ((RAW, FILTERED, CONTROL), _single_turns),
    "two turns": ((MULTI_TURN,), _multi_turn),
    "pairs of five answers": ((PAIRS,), _pairs),
    "pairs with the base model": ((BASE_PAIRS,), _base_pairs),
}
"""The pools that come of one run of a pipeline, the longest run first."""


def _write(path: Path, rows: Iterable[Row]) -> None:
    """Write what a trainer reads of rows that ask nothing held out, beside the file's place."""
    taken = [_for_training(row) for row in rows]
    kept = [row for row in taken if not asks_held_out(_conversation(row))]
    if not kept:
        raise ValueError(f"no row is left for the pool {path.stem}; raise --pool and --pairs")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(kept), partial, compression="zstd")
    partial.rename(path)


def _for_training(row: Row) -> dict[str, Any]:
    names = ("prompt", "chosen", "rejected") if "chosen" in row else ("messages",)
    return {
        name: [{"role": m["role"], "content": m["content"]} for m in row[name]] for name in names
    }


def _conversation(row: Row) -> list[dict[str, str]]:
    return list(row.get("messages") or [*row["prompt"], *row["chosen"]])


def _described(path: Path, plan: Plan) -> dict[str, Any]:
    talks = [_conversation(row) for row in pq.read_table(path).to_pylist()]
    asked = [next(m["content"] for m in talk if m["role"] == "user") for talk in talks]
    return {
        "rows": len(talks),
        "distinct_questions": len(set(asked)),
        "held_out_questions": occurrences(talks, questions(plan.questions)),
    }
