"""How fast does a recipe filter a million rows of parquet, and in how much memory?

The rows have a Magpie dataset's columns, with texts of some hundred characters. "Scalar rules" read
labels and numbers, as the paper's Table 5 does; the cards' rules read the instruction as well. To
decide reads only what the recipe needs; the whole run also writes every row with all its columns to
where it belongs. Rates are rows per second of one core's time, so threads do not flatter them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import report, say
from memory import MemoryWatch

from magpie_steps.filtering import filter_files
from magpie_steps.filtering.decisions import decide
from magpie_steps.recipes import recipe_named

ROWS_PER_FILE = 100_000
RECIPES = ("pro", "pro-card")


def main() -> None:
    """Make the rows, filter them, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--longest", type=int, default=300_000)
    parser.add_argument("--characters", type=int, default=500, help="a response's, on average")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = write_rows(folder / "rows", args.rows, args.characters)
        figures = {name: measure(name, paths, folder / name, args.longest) for name in RECIPES}
        size = sum(path.stat().st_size for path in paths) / 2**20
    lines = [("parquet files", f"{len(paths)} of {size / len(paths):,.0f} MiB each")]
    for name, found in figures.items():
        lines += [(f"{name}: {what.replace('_', ' ')}", f"{n:,}") for what, n in found.items()]
    report(lines, vars(args), {"mib": round(size), **figures})


def measure(name: str, paths: list[Path], folder: Path, longest: int) -> dict[str, Any]:
    """Decide with a recipe, then filter with it; return rates and memory."""
    recipe = recipe_named(name).with_longest(longest)
    rates: dict[str, Any] = {}
    works: dict[str, Callable[[], Any]] = {
        "decide": lambda: decide(paths, recipe).counts,
        "whole": lambda: filter_files(paths, recipe, folder),
    }
    for what, work in works.items():
        say(f"{name}: {what}")
        cpu, wall = time.process_time(), time.perf_counter()
        with MemoryWatch(0.02) as watch:
            counts = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rates[f"{what}_rows_per_core_second"] = round(counts.read / cpu)
        rates[f"{what}_rows_per_second"] = round(counts.read / wall)
        rates[f"{what}_peak_mib"] = round(max(sample.main for sample in watch.samples))
        rates["kept"] = counts.kept
    return rates


def write_rows(folder: Path, number: int, characters: int) -> list[Path]:
    """Write rows with random values to parquet files, the same in each; return the files."""
    folder.mkdir()
    starts = range(0, number, ROWS_PER_FILE)
    paths = [folder / f"{start:09d}.parquet" for start in starts]
    table = rows(min(number, ROWS_PER_FILE), characters)
    for start, path in zip(starts, paths, strict=True):
        pq.write_table(table.slice(0, number - start), path, row_group_size=10_000)
    return paths


def rows(size: int, characters: int) -> pa.Table:
    """Return a table of rows."""
    chance = np.random.default_rng(0)
    words = ["".join(chance.choice(list("aeinorst"), n)) for n in chance.integers(1, 10, 5_000)]
    # Words as frequent as in a language compress as its texts do.
    text = " ".join(words[n % 5_000] for n in chance.zipf(1.2, 400_000))

    def texts(mean: int) -> list[str]:
        lengths = chance.gamma(2.0, mean / 2, size).astype(int)
        places = chance.integers(0, len(text), size)
        return [text[place : place + n] for place, n in zip(places, lengths, strict=True)]

    def labels(*values: str) -> list[str]:
        return list(chance.choice(values, size))

    instructions, responses = texts(150), texts(characters)
    ids = [f"{n:032x}" for n in range(size)]
    repeats = chance.random(size) < 0.1
    return pa.table(
        {
            "uuid": ids,
            "instruction": instructions,
            "response": responses,
            "conversations": [
                [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
                for asked, said in zip(instructions, responses, strict=True)
            ],
            "task_category": labels("Information seeking", "Math", "Planning"),
            "other_task_category": [["Math"]] * size,
            "difficulty": labels("very easy", "easy", "medium", "hard", "very hard"),
            "intent": texts(80),
            "knowledge": texts(120),
            "input_quality": labels("very poor", "poor", "average", "good", "excellent"),
            "quality_explanation": texts(200),
            "llama_guard_2": labels("safe", "safe", "unsafe\nS2"),
            "instruct_reward": chance.normal(-6, 5, size),
            "min_neighbor_distance": np.where(repeats, 0.0, chance.random(size)),
            "repeat_count": chance.integers(0, 3, size),
            "min_similar_uuid": [ids[0] if r else None for r in repeats],
            "instruction_length": [len(each) for each in instructions],
            "response_length": [len(each) for each in responses],
            "language": labels("EN", "ZH"),
        }
    )


if __name__ == "__main__":
    main()
