"""How long does the report of a hundred thousand rows take, and how much memory?

The rows have every label and number that a report reads, with texts of some hundred characters in
few phrasings. The statistics alone are one pass over the columns; the whole report draws every
figure besides, and maps a sample of the instructions against those of another dataset.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import quiet, say
from figures import report as report_figures
from memory import MemoryWatch

from magpie_steps.embedded.dialogues.conversations import conversations
from magpie_steps.labels import Category, Difficulty, Quality
from magpie_steps.report import report
from magpie_steps.report.counting import statistics_of

ROWS_PER_FILE = 20_000
PHRASINGS = 5_000
REASONS = ("instruction_truncated", "response_truncated", "recipe_quality", "recipe_repeat")


def main() -> None:
    """Make the rows, report on them, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--characters", type=int, default=1000, help="a response's, on average")
    parser.add_argument("--no-map", action="store_true", help="leave out the coverage map")
    args = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = write_rows(folder / "rows", args.rows, args.characters, seed=0)
        write_rows(folder / "other", min(args.rows, ROWS_PER_FILE), args.characters, seed=1)
        # First, so that what the whole report imports is not counted into it.
        works: dict[str, Callable[[], Any]] = {
            "statistics": lambda: statistics_of("rows", paths),
            "report": lambda: report(
                str(folder / "rows"),
                folder / "report",
                compare=[str(folder / "other")],
                coverage=not args.no_map,
                say=say,
            ),
        }
        found = {name: measure(name, work) for name, work in works.items()}
        page = (folder / "report" / "report.html").stat().st_size
    lines = [
        (f"{name}: {what.replace('_', ' ')}", f"{value:,}")
        for name, values in found.items()
        for what, value in values.items()
    ]
    lines.append(("the page", f"{page / 1024:,.0f} KiB"))
    report_figures(lines, vars(args), {**found, "page_bytes": page})


def measure(name: str, work: Callable[[], Any]) -> dict[str, float]:
    """Return how long a work takes and how much memory it has at most."""
    say(name)
    cpu, wall = time.process_time(), time.perf_counter()
    with MemoryWatch(0.05) as watch:
        work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mib": round(max(sample.all for sample in watch.samples)),
    }


def write_rows(folder: Path, number: int, characters: int, seed: int) -> list[Path]:
    """Write rows to parquet files; return the files."""
    folder.mkdir()
    chance = np.random.default_rng(seed)
    turns = [
        [message["content"] for message in messages if message["role"] != "system"][:2]
        for messages in islice(conversations(seed, practice=False), PHRASINGS)
    ]
    words = " ".join(text for turn in turns for text in turn).split()
    paths = []
    for start in range(0, number, ROWS_PER_FILE):
        size = min(ROWS_PER_FILE, number - start)
        paths.append(folder / f"{start:09d}.parquet")
        pq.write_table(rows(size, characters, turns, words, chance), paths[-1])
    return paths


def rows(
    size: int, characters: int, turns: list[list[str]], words: list[str], chance: Any
) -> pa.Table:
    """Return a table of rows."""
    chosen = [turns[place] for place in chance.integers(0, len(turns), size)]
    more = chance.gamma(2.0, characters / 12, size).astype(int)  # a word has about six characters
    places = chance.integers(0, len(words), size)
    numbers = chance.integers(0, 100_000, size)
    instructions = [f"{turn[0]} ({n})" for turn, n in zip(chosen, numbers, strict=True)]
    responses = [
        f"{turn[1]} {' '.join(words[place : place + length])}"
        for turn, place, length in zip(chosen, places, more, strict=True)
    ]
    reward, base = chance.normal(-2, 4, size), chance.normal(-8, 4, size)
    keep = chance.random(size) < 0.7
    verdicts = [["hate"] if unsafe else [] for unsafe in chance.random(size) < 0.008]
    return pa.table(
        {
            "instruction": instructions,
            "response": responses,
            "turns": np.ones(size, int),
            "instruction_tokens": [len(each.split()) + 3 for each in instructions],
            "response_tokens": [len(each.split()) + 1 for each in responses],
            "gen_input_configs": [
                {"temperature": t, "top_p": 1.0} for t in chance.choice([1.0, 1.1, 1.2], size)
            ],
            "task_category": _labels(chance, size, Category),
            "difficulty": _labels(chance, size, Difficulty),
            "input_quality": _labels(chance, size, Quality),
            "language": chance.choice(["EN", "EN", "EN", "DE", "ZH"], size),
            "safe": [not found for found in verdicts],
            "unsafe_categories": verdicts,
            "guard_raw": ["unsafe\nS9" if found else "safe" for found in verdicts],
            "instruct_reward": reward,
            "base_reward": base,
            "reward_difference": reward - base,
            "min_neighbor_distance": chance.beta(2, 3, size),
            "repeat_count": chance.geometric(0.8, size) - 1,
            "keep": keep,
            "drop_reason": np.where(keep, "", chance.choice(REASONS, size)),
        }
    )


def _labels(chance: Any, size: int, labels: Any) -> list[str]:
    """Return labels, some of which are more frequent than others."""
    names = [str(label) for label in labels]
    return list(chance.choice(names, size, p=chance.dirichlet(np.full(len(names), 4.0))))


if __name__ == "__main__":
    main()
