"""Rows for tests of reviews: made up, with everything that a review shows."""

import json
import random
import uuid

from magpie_steps import columns
from magpie_steps.labels import Category, Difficulty, Quality
from magpie_steps.shards import ShardWriter

PLANNING = "You plan things."


def chat(*texts, system=""):
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return [*([{"role": "system", "content": system}] if system else []), *messages]


def review_row(number, **changes):
    """Return a row; every fifth one is removed by a recipe."""
    chance = random.Random(number)
    instruction = f"How do I sort list {number}?"
    response, base_response = f"Use sorted(list_{number}).", f"Lists of {number} things."
    rewards = round(chance.gauss(0, 2), 3), round(chance.gauss(-1, 2), 3)
    kept = number % 5 != 0
    row = {
        **columns.empty_row(),
        "uuid": str(uuid.UUID(int=number + 1)),
        "row": number,
        "model": "tiny-instruct",
        "instruction": instruction,
        "response": response,
        "base_response": base_response,
        "messages": chat(instruction, response),
        "turns": 1,
        "instruction_length": len(instruction),
        "response_length": len(response),
        "instruct_reward": rewards[0],
        "base_reward": rewards[1],
        "reward_difference": rewards[0] - rewards[1],
        "reward_model": "tiny-reward",
        "task_category": list(Category)[number % 12].value,
        "task_category_generator": "rules",
        "difficulty": list(Difficulty)[number % 5].value,
        "difficulty_generator": "rules",
        "input_quality": list(Quality)[number // 2 % 5].value,
        "quality_generator": "rules",
        "language": "EN",
        "language_score": 0.9,
        "min_neighbor_distance": chance.random(),
        "keep": kept,
        "drop_reason": "" if kept else "recipe_reward",
    }
    return {**row, **changes}


def several_turns(number, **changes):
    """Return a row of two turns with a system prompt."""
    texts = "Plan a trip.", "Go to Rome.", "How long?", "Three days."
    return review_row(
        number,
        **{
            "instruction": texts[0],
            "response": texts[1],
            "messages": chat(*texts, system=PLANNING),
            "system_prompt_key": "planning",
            "turns": 2,
            **changes,
        },
    )


def write_dataset(folder, rows, embedded=True):
    """Write rows as a run's output folder, with embeddings of four numbers."""
    rows = list(rows)
    folder.mkdir(parents=True, exist_ok=True)
    rule = {"kind": "number_above", "column": "instruct_reward", "bound": -1.0}
    recipe = {"name": "test", "rules": [rule]}
    (folder / "run.json").write_text(json.dumps({"title": "t", "recipe": recipe}))
    _write(folder / "data", rows, {c.name: c.type for c in columns.COLUMNS})
    if embedded:
        vectors = (
            {"uuid": row["uuid"], "embedding": [1.0, number % 7 / 7, number % 3 / 3, 0.5]}
            for number, row in enumerate(rows)
        )
        _write(folder / "embeddings", vectors, {"uuid": "string", "embedding": ["float64"]})
    return folder


def _write(folder, rows, types):
    with ShardWriter(folder, types, allow_empty=True) as writer:
        for row in rows:
            writer.write(row)
