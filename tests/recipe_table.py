"""A table of rows for recipes, with every value at and around every bound, and with gaps."""

import math

import numpy as np

DIFFICULTIES = ["very easy", "easy", "medium", "hard", "very hard"]
QUALITIES = ["very poor", "poor", "average", "good", "excellent"]
ENDS = ["?", ".", ":", ": ", ":\n", ":\u3000", " :x", "：", ""]
REWARDS = [-12.0, -11.99, -10.0, -9.99, -5.0, 0.1, 0.0999, math.nan, None, -40.0]


def rows(number, seed=0):
    """Return rows as Python values; None stands for a gap in every column."""
    chance = np.random.default_rng(seed)

    def pick(values, weights=None):
        total = None if weights is None else np.array(weights) / sum(weights)
        return [values[i] for i in chance.choice(len(values), number, p=total)]

    ids = [f"id-{i}" for i in range(number)]
    similar = pick(["", None, "own", "other"], [4, 2, 2, 1])
    same = {"own": lambda i: ids[i], "other": lambda i: ids[i // 2] if i else "id-x"}
    lines, ends = pick(range(9)), pick(ENDS)
    table = {
        "uuid": ids,
        "instruction": [
            None if i % 97 == 13 else f"Say {i}" + "\nand so on" * lines[i] + ends[i]
            for i in range(number)
        ],
        "response": [None if i % 89 == 5 else "é" * (7 * i % 211) for i in range(number)],
        "task_category": pick(["Coding & Debugging", "Math", "", None]),
        "difficulty": pick([*DIFFICULTIES, "", None, "Hard", "[easy]"]),
        "input_quality": pick([*QUALITIES, "", None, "Good", "great"]),
        "instruct_reward": pick(REWARDS),
        "reward_difference": pick([0.0, 1e-9, 2.5, -0.5, math.nan, None]),
        "min_neighbor_distance": pick([0.0, 2.1e-6, 0.04, 0.6, math.nan, None]),
        "min_similar_uuid": [same[s](i) if s in same else s for i, s in enumerate(similar)],
        "language": pick(["EN", "ZH", "FR", "en", "", None]),
        "safe": pick([True, True, False, None]),
    }
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
