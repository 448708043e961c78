"""How much of what an engine can do is left when our pipeline feeds it, and when others do?

It matters because the engine is where the money goes: a GPU that waits costs as much as one that
works. The same rows, an instruction and its response each, are made in four ways:

- raw: the engine alone. Every instruction is asked for at once, its response as soon as it is
  there; the requests, recorded before from our own run, lie ready.
- ours: `ConversationGenerator`, with templates, sanitising, retries, row order and the journal.
- stock: distilabel's `MagpieGenerator` on the same engine: batches of 200, two barriers each.
- paper: static batches of 200 in two passes on the bare engine, as in the paper's scripts.

    python benchmarks/throughput.py --engine simulated --rounds 3              # 1 GPU, half an hour
    python benchmarks/throughput.py --engine simulated --gpus 64 --rounds 3
    python benchmarks/throughput.py --engine vllm                              # needs vLLM
    python benchmarks/throughput.py --engine server
    python benchmarks/throughput.py --engine transformers

The rounds alternate: raw, ours, stock, paper, raw ...; a ratio is that of one round, and its median
counts. Loading the engine is counted nowhere. A real engine is loaded once, and our step runs in
this process beside it; the recording run warms its prefix cache for all ways alike, and each run
has a new journal, so that nothing is replayed. The simulated engine (see `simulated_gpu`) is loaded
in no time, so there ours is a whole `run_pipeline`, from the moment at which its step has loaded
the engine to the moment at which the last row has come to another step in another process. Stock
runs without its pipeline and without a journal; several GPUs get a batch of 200 each.

The last line is one JSON object.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bare_engines import BARE
from feeding import Chain, all_at_once, in_passes
from figures import quiet, report, say, spread
from kept_engines import Kept, engine_class, fields_for, kept

import magpie_steps
from magpie_steps.embedded import model_path
from magpie_steps.provenance import generated_so_far

BATCH_SIZE = 200
"""Of stock, and of the paper's scripts (`n=200` a call)."""

ROWS_PER_GPU = 2000
"""By default. A simulated GPU works on 472 rows at once; its last ones should not count much."""

NO_TIME = {"step_seconds": 1e-9, "row_seconds": 0.0}


@dataclass(frozen=True)
class Measured:
    """A run's work and its time."""

    tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Bench:
    """What all runs have in common.

    Attributes:
        name: The engine's name.
        fields: The engine's fields.
        engine: The loaded engine.
        num_rows: Rows of each run.
        gpus: How many the engine has.
        folder: Where runs write.
        chains: The rows' requests.
        lengths: The step's settings of how long texts may become.
    """

    name: str
    fields: dict[str, Any]
    engine: Kept
    num_rows: int
    gpus: int
    folder: Path
    chains: list[Chain]
    lengths: dict[str, Any]


Way = Callable[[Bench], Measured]


def main() -> int:
    """Measure, print a table and a line of JSON."""
    args = parse_args()
    quiet()
    engine = kept(args.engine, **fields_of(args))
    with tempfile.TemporaryDirectory() as folder:
        engine.load()
        try:
            chains = record(args, engine, Path(folder))
            bench = bench_of(args, engine, Path(folder), chains)
            found = measure(bench, ways(args), args.rounds)
        finally:
            engine.end()
    tell(args, found, chains)
    return 0


def bench_of(args: argparse.Namespace, engine: Kept, folder: Path, chains: list[Chain]) -> Bench:
    """Return what the runs have in common."""
    most = {"max_new_tokens": args.max_new_tokens}
    lengths = {"instruction_sampling": most, "response_sampling": most}
    return Bench(
        args.engine,
        fields_of(args),
        engine,
        args.num_rows,
        args.gpus,
        folder,
        chains,
        lengths if args.max_new_tokens else {},
    )


def measure(bench: Bench, ways: dict[str, Way], rounds: int) -> dict[str, list[Measured]]:
    """Return what each way did in each round."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            done = way(bench)
            found[name].append(done)
            say(
                f"round {number + 1}, {name}: {done.tokens:,} tokens in {done.seconds:.1f} s,"
                f" {done.speed:,.0f} tokens/s"
            )
    if bench.name in ("simulated", "transformers"):  # a row's tokens are the same in each run
        check_same_work(found["raw"] + found["ours"])
    return found


def ways(args: argparse.Namespace) -> dict[str, Way]:
    """Return the ways that were asked for."""
    ours = ours_in_pipeline if args.engine == "simulated" else ours_in_process
    chosen: dict[str, Way] = {"raw": raw, "ours": ours}
    if not args.skip_stock:
        chosen["stock"] = stock
    if not args.skip_paper:
        chosen["paper"] = paper
    return chosen


def raw(bench: Bench) -> Measured:
    """Give the bare engine everything at once."""
    bare = BARE[bench.name](bench.engine)
    start = time.perf_counter()
    tokens = bare.run(partial(all_at_once, bench.chains))
    return Measured(tokens, time.perf_counter() - start)


def paper(bench: Bench) -> Measured:
    """Give the bare engine static batches, in two passes."""
    bare = BARE[bench.name](bench.engine)
    start = time.perf_counter()
    tokens = bare.run(partial(in_passes, bench.chains, BATCH_SIZE, bench.gpus))
    return Measured(tokens, time.perf_counter() - start)


def ours_in_process(bench: Bench) -> Measured:
    """Run our step in this process, with a journal."""
    engine = bench.engine
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        engine.use_journal(Path(folder) / "journal.sqlite")
        step = magpie_steps.ConversationGenerator(
            llm=engine, num_rows=bench.num_rows, **bench.lengths
        )
        step.load()
        start = time.perf_counter()
        rows = sum(len(batch) for batch, _ in step.process())
        seconds = time.perf_counter() - start
        tokens = engine.stats.completion_tokens
        step.unload()
        engine.use_journal(None)
    check_rows(rows, bench.num_rows)
    return Measured(tokens, seconds)


def ours_in_pipeline(bench: Bench) -> Measured:
    """Run our pipeline, its steps in processes of their own."""
    from distilabel.pipeline import Pipeline
    from timed_steps import Arrivals, TimedConversations, times_of

    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        with Pipeline(name="throughput") as pipeline:
            engine = engine_class(bench.name)(**bench.fields)
            written = TimedConversations(llm=engine, num_rows=bench.num_rows, **bench.lengths)
            written >> Arrivals(input_batch_size=1000)
        result = magpie_steps.run_pipeline(pipeline, work_dir=folder)
        check_rows(len(result.dataset), bench.num_rows)
        times = times_of(result.dataset)
        work = generated_so_far(Path(folder) / "journal.sqlite")
    return Measured(work.tokens, times.seconds)


def stock(bench: Bench) -> Measured:
    """Run stock distilabel's step in this process; it has no journal."""
    from distilabel.steps.tasks import MagpieGenerator
    from stock_llm import EngineLLM

    engine = bench.engine
    step = MagpieGenerator(
        llm=EngineLLM(engine=engine, use_magpie_template=True, magpie_pre_query_template="llama3"),
        n_turns=1,
        num_rows=bench.num_rows,
        batch_size=BATCH_SIZE * bench.gpus,
    )
    step.load()
    engine.load()  # for new counters
    rows, last, batches = 0, False, step.process()
    start = time.perf_counter()
    while not last:  # stock goes on behind its last batch
        batch, last = next(batches)
        rows += len(batch)
    seconds = time.perf_counter() - start
    tokens = engine.stats.completion_tokens
    engine.unload()
    check_rows(rows, bench.num_rows)
    return Measured(tokens, seconds)


def record(args: argparse.Namespace, engine: Kept, folder: Path) -> list[Chain]:
    """Return the requests that our step makes; the simulated engine need not take its time here."""
    if args.engine == "simulated":
        engine = kept(args.engine, **{**fields_of(args), **NO_TIME})
    engine.listen()
    bench = bench_of(args, engine, folder, [])
    done = ours_in_process(bench)
    chains = engine.heard()
    say(f"recorded {sum(map(len, chains)):,} requests, {done.tokens:,} tokens")
    return chains


def check_rows(rows: int, expected: int) -> None:
    """Raise if a run wrote another number of rows."""
    if rows != expected:
        raise RuntimeError(f"a run wrote {rows} rows instead of {expected}")


def check_same_work(runs: list[Measured]) -> None:
    """Raise if runs of the same requests made different numbers of tokens."""
    made = {run.tokens for run in runs}
    if len(made) > 1:
        raise RuntimeError(f"the same requests made {sorted(made)} tokens")


def tell(args: argparse.Namespace, found: dict[str, list[Measured]], chains: list[Chain]) -> None:
    """Print what was found."""
    speeds = {name: spread([run.speed for run in runs]) for name, runs in found.items()}
    seconds = {name: spread([run.seconds for run in runs], 2) for name, runs in found.items()}
    ratios = {
        f"ours / {other}": spread(
            [a.speed / b.speed for a, b in zip(found["ours"], runs, strict=True)], 4
        )
        for other, runs in found.items()
        if other != "ours"
    }
    rows = [args.num_rows / run.seconds for run in found["ours"]]
    lines = [(name, f"{speed['median']:,.0f} tokens/s") for name, speed in speeds.items()]
    lines += [("ours", f"{spread(rows)['median']:,.1f} rows/s")]
    lines += [(name, f"{ratio['median']:.3f}") for name, ratio in ratios.items()]
    figures = {
        "requests": sum(map(len, chains)),
        "tokens": {name: [run.tokens for run in runs] for name, runs in found.items()},
        "seconds": seconds,
        "tokens_per_second": speeds,
        "rows_per_second": spread(rows),
        "ratios": ratios,
    }
    report(lines, vars(args), figures)


def fields_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the engine's fields."""
    if args.engine != "simulated":
        fields = fields_for(args.engine, args.model or str(model_path("tiny-instruct")))
        name = "max_rows_in_flight" if args.engine == "transformers" else "max_num_seqs"
        return fields | ({name: args.max_num_seqs} if args.max_num_seqs else {})
    chosen = engine_class("simulated").model_fields
    times = {name: chosen[name].default / args.speed for name in ("step_seconds", "row_seconds")}
    return {"devices": args.gpus, **times}


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=sorted(BARE), default="simulated")
    parser.add_argument("--model", help="hub id or folder (default: the embedded tiny-instruct)")
    parser.add_argument(
        "--max-num-seqs",
        type=int,
        help="rows that a model works on at once (default: its engine's)",
    )
    parser.add_argument(
        "--max-new-tokens", type=int, help="longest texts, for a model that ends none of its own"
    )
    parser.add_argument("--gpus", type=int, default=1, help="simulated ones")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="simulate GPUs that are so many times as fast"
    )
    parser.add_argument(
        "--num-rows", type=int, help=f"default: 1,000, simulated {ROWS_PER_GPU:,} for each GPU"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-stock", action="store_true")
    parser.add_argument("--skip-paper", action="store_true")
    args = parser.parse_args()
    if args.num_rows is None:
        args.num_rows = ROWS_PER_GPU * args.gpus if args.engine == "simulated" else 1000
    batch = BATCH_SIZE * args.gpus
    if not args.skip_stock and args.num_rows > batch and args.num_rows % batch:
        parser.error(f"stock hangs unless --num-rows is a multiple of {batch}; or --skip-stock")
    return args


if __name__ == "__main__":
    sys.exit(main())
