"""How many rows per second does the machinery allow when the model costs nothing?

It matters because that is a ceiling for every real run: a GPU server writes thousands of rows per
second, and a pipeline that moves fewer makes it wait. Compared are one generator step of ours with
`ScriptedEngine` through `run_pipeline` and stock distilabel's `MagpieGenerator` with an instant LLM
through `Pipeline.run`, on this machine in this run.

    python benchmarks/pipeline_overhead.py                  # 50,000 rows, minutes
    python benchmarks/pipeline_overhead.py --num-rows 5000 --stock-default-rows 1000

Stock is measured at its default batch size of 50 and at 1,000, its best. Ours journals every
completion while it runs, stock keeps nothing that survives a crash. The last line is one JSON
object.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.provenance import versions
from magpie_steps.summary import table

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline


def main() -> int:
    """Measure, print a table and a line of JSON."""
    args = parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("distilabel").setLevel(logging.ERROR)
    results = {
        "ours, conversations": measure(args, ours_conversations, args.num_rows),
        "ours, instructions": measure(args, ours_instructions, args.num_rows),
        "stock, batch 1,000": measure(args, stock_best, args.num_rows),
        "stock, batch 50": measure(args, stock_default, args.stock_default_rows),
    }
    speeds = {name: found["rows_per_second"] for name, found in results.items()}
    ratios = {
        f"{ours} / {stock}": round(speeds[ours] / speeds[stock], 2)
        for ours in speeds
        for stock in speeds
        if ours.startswith("ours") and stock.startswith("stock")
    }
    lines = [(name, f"{speed:,.0f} rows/s") for name, speed in speeds.items()]
    print(table([*lines, *((name, f"{ratio}x") for name, ratio in ratios.items())]))
    machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    content = {"machine": machine, "versions": versions(), "results": results, "ratios": ratios}
    print(json.dumps(content))
    return 0


def measure(
    args: argparse.Namespace, run: Callable[[int, Path], int], num_rows: int
) -> dict[str, float]:
    """Return the median speed of a way to run, and the speeds of all rounds."""
    speeds = []
    for _ in range(args.rounds):
        folder = Path(tempfile.mkdtemp(dir=args.scratch))
        start = time.perf_counter()
        rows = run(num_rows, folder)
        seconds = time.perf_counter() - start
        shutil.rmtree(folder)
        if rows != num_rows:
            raise RuntimeError(f"{run.__name__} wrote {rows} rows instead of {num_rows}")
        speeds.append(rows / seconds)
        print(f"{run.__name__}: {rows:,} rows in {seconds:.1f} s", file=sys.stderr)
    ordered = sorted(speeds)
    return {
        "rows": num_rows,
        "rows_per_second": round(ordered[len(ordered) // 2], 1),
        "slowest": round(ordered[0], 1),
        "fastest": round(ordered[-1], 1),
    }


def ours_conversations(num_rows: int, folder: Path) -> int:
    """Write instructions and responses with our step."""
    return _ours(magpie_steps.ConversationGenerator, num_rows, folder)


def ours_instructions(num_rows: int, folder: Path) -> int:
    """Write instructions alone with our step."""
    return _ours(magpie_steps.InstructionGenerator, num_rows, folder)


def stock_best(num_rows: int, folder: Path) -> int:
    """Write instructions and responses with the stock step in large batches."""
    return _stock(num_rows, folder, batch_size=min(1000, num_rows))


def stock_default(num_rows: int, folder: Path) -> int:
    """Write instructions and responses with the stock step in its default batches."""
    return _stock(num_rows, folder, batch_size=50)


def _ours(step: Any, num_rows: int, folder: Path) -> int:
    from distilabel.pipeline import Pipeline

    with Pipeline(name="ours") as pipeline:
        step(llm=magpie_steps.ScriptedEngine(), num_rows=num_rows)
    return len(magpie_steps.run_pipeline(pipeline, work_dir=folder).dataset)


def _stock(num_rows: int, folder: Path, batch_size: int) -> int:
    pipeline = stock_pipeline(num_rows, folder, batch_size)
    distiset = pipeline.run(use_cache=False)
    return len(distiset["default"]["train"])


def stock_pipeline(num_rows: int, folder: Path, batch_size: int) -> "Pipeline":
    """Return the stock pipeline; the number of rows must be a multiple of the batch size."""
    from distilabel.pipeline import Pipeline
    from distilabel.steps.tasks import MagpieGenerator
    from instant_llm import InstantLLM

    if num_rows % batch_size:
        raise ValueError(f"stock hangs unless {num_rows} is a multiple of {batch_size}")
    with Pipeline(name="stock", cache_dir=folder) as pipeline:
        MagpieGenerator(
            llm=InstantLLM(use_magpie_template=True, magpie_pre_query_template="llama3"),
            n_turns=1,
            num_rows=num_rows,
            batch_size=batch_size,
        )
    return pipeline


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--num-rows", type=int, default=50_000)
    parser.add_argument("--stock-default-rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; the median counts")
    parser.add_argument("--scratch", type=Path, default=None, help="where runs write, then delete")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
