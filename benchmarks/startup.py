"""How long does it take from the call to the first row?

It matters to whoever tries something out, and to every short run: what is slow to start is started
seldom. Measured are, each time in a new process, the parts of it (importing the package and
distilabel, loading the engine, the first completion), and a whole `run_pipeline` of a few
conversations: from the call to the first row at another step, to the last one, and to its end. A
step loads the engine in its own process, so a pipeline cannot be faster than the parts.

    python benchmarks/startup.py --engine scripted
    python benchmarks/startup.py --engine transformers
    python benchmarks/startup.py --engine vllm               # minutes: each run loads it
    python benchmarks/startup.py --engine server

The last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

PARTS = ("import", "load", "first_completion")
PIPELINE = ("import", "first_row", "last_row", "end")
WORDS = {
    "process": "Python's own start, and its end",
    "import": "importing the package and distilabel",
    "load": "loading the engine",
    "first_completion": "the first completion",
    "first_row": "from the call to the first row",
    "last_row": "from the call to the last row",
    "end": "from the call to its end",
}

Seconds = dict[str, float]


def main() -> int:
    """Measure in new processes, print a table and a line of JSON."""
    args = parse_args()
    if args.here:
        measured = measure_parts(args) if args.here == "parts" else measure_pipeline(args)
        print(json.dumps(measured))
        return 0
    from figures import report, spread

    found = {
        what: [measure_elsewhere(args, what) for _ in range(args.rounds)]
        for what in ("parts", "pipeline")
    }
    figures = {
        what: {name: spread([run[name] for run in runs], 3) for name in runs[0]}
        for what, runs in found.items()
    }
    lines = [
        (f"{what}: {WORDS[name]}", f"{numbers['median']:.2f} s")
        for what, by_name in figures.items()
        for name, numbers in by_name.items()
    ]
    settings = {name: value for name, value in vars(args).items() if name != "here"}
    report(lines, settings, figures)
    return 0


def measure_elsewhere(args: argparse.Namespace, what: str) -> Seconds:
    """Measure once, in a new process."""
    from figures import last_line, say

    flags = ["--here", what, "--engine", args.engine, "--num-rows", str(args.num_rows)]
    flags += ["--model", args.model] if args.model else []
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *flags], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - start
    found: Seconds = last_line(done.stdout)
    known = sum(found[name] for name in (PARTS if what == "parts" else ("import", "end")))
    say(f"{what}: {found}")
    return {"process": seconds - known, **found}


def measure_parts(args: argparse.Namespace) -> Seconds:
    """Return how long each part takes."""
    start = time.perf_counter()
    import_all()
    imported = time.perf_counter()
    engine = make_engine(args)
    engine.load()
    loaded = time.perf_counter()
    complete_once(engine)
    completed = time.perf_counter()
    engine.unload()
    return dict(zip(PARTS, (imported - start, loaded - imported, completed - loaded), strict=True))


def measure_pipeline(args: argparse.Namespace) -> Seconds:
    """Return when a pipeline's rows come."""
    start = time.perf_counter()
    make_pipeline = import_all()
    imported = time.perf_counter()
    from timed_steps import Arrivals, TimedConversations, times_of

    import magpie_steps

    with tempfile.TemporaryDirectory() as folder:
        called = time.monotonic()
        with make_pipeline(name="startup") as pipeline:
            written = TimedConversations(
                llm=make_engine(args), num_rows=args.num_rows, batch_size=1
            )
            written >> Arrivals(input_batch_size=1)
        result = magpie_steps.run_pipeline(pipeline, work_dir=folder, expected_rows=args.num_rows)
        ended = time.monotonic()
        times = times_of(result.dataset)
    moments = (imported - start, times.first - called, times.last - called, ended - called)
    return dict(zip(PIPELINE, moments, strict=True))


def import_all() -> Any:
    """Import the package and distilabel as a script does; return distilabel's `Pipeline`."""
    from figures import quiet

    import magpie_steps

    quiet()
    from distilabel.pipeline import Pipeline

    assert magpie_steps.ConversationGenerator
    return Pipeline


def make_engine(args: argparse.Namespace) -> Any:
    """Return a new engine."""
    from kept_engines import engine_class, fields_for

    from magpie_steps.embedded import model_path

    fields = fields_for(args.engine, args.model or str(model_path("tiny-instruct")))
    return engine_class(args.engine)(**fields)


def complete_once(engine: Any) -> None:
    """Ask for one short user's turn."""
    import asyncio

    from magpie_steps.engines.base import Sampling

    stops = tuple(engine.template.stop_token_ids)
    sampling = Sampling(max_new_tokens=32, stop_token_ids=stops, seed=1)
    asyncio.run(engine.complete(engine.template.pre_query_ids().ids, sampling))


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--engine", choices=["scripted", "transformers", "vllm", "server"], default="scripted"
    )
    parser.add_argument("--model", help="hub id or folder (default: the embedded tiny-instruct)")
    parser.add_argument("--num-rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", choices=["parts", "pipeline"], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
