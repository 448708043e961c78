"""How many engines can one coordinator keep busy, and how many coordinators do 256 engines take?

It matters because a GPU that waits for its next row costs as much as one that works. A coordinator
is the process of a generator: it makes prompts, checks answers, keeps the journal, puts rows in
order and hands them on. Here conversations of one turn go through `run_pipeline` with a journal on
simulated engines (see `simulated_gpu`) of about 30 rows/s each, whose lengths are as long-tailed as
a model's. Several coordinators are shards of one run (`--shard I/N` of a dataset's script), each
with a journal and rows of its own; they share nothing.

    python benchmarks/scale.py                                        # 530,000 rows, ten minutes
    python benchmarks/scale.py --engines 8 --coordinators 1 --sweep
    python benchmarks/scale.py --engines 8 --coordinators 1 --sweep --real

Time is virtual unless --real is given (see `virtual_time`): all processor time that a coordinator's
process really uses passes on its clock, as on a core of its own, and so do the waits for the
engines. So a fleet that more cores would drive is driven here by a few; as coordinators share
nothing, --measured of them are run, and the others are taken to do what these do. The engines
simulate in the same process, and what that takes is counted as the coordinator's.

A place is one of the rows that an engine works on at once. Idle is the share of the places' time in
which they were not taken: in the steady part, from the moment when as many rows have ended as there
are places until the last row is begun, and over the whole run. What a run loses at its end, while
the last rows are written, does not grow with the rows, so it is told in seconds. The driver, the
process that calls `run_pipeline`, has a core of its own: its processor time for each row is told.

--sweep says with how many engines to look for the point from which one coordinator leaves more than
3 % of the places idle.

The last line is one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from figures import quiet, report, say
from simulated_gpu import ROW_SECONDS, STEP_SECONDS, USERS, SimulatedEngine
from watched_engine import Moment, WatchedEngine

import magpie_steps
from magpie_steps.engines.base import Sampling
from magpie_steps.run_shard import Shard

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

SPEED = 1.07
"""How much faster than `simulated_gpu`'s engines are: one whose places are taken then writes 30
rows/s."""

ALLOWED_IDLE = 0.03
"""From here on a coordinator counts as saturated."""

ALWAYS = 0.99
"""So does one whose processor is at work for this share of the steady part."""

BATCH_ROWS = 1000


@dataclass(frozen=True)
class Part:
    """What one coordinator did.

    Attributes:
        places: Rows that its engines work on at once.
        rows: Its rows.
        moments: How busy its engines were by when, see `WatchedEngine`.
        driver_cpu: Processor time of the driver, in seconds.
    """

    places: int
    rows: int
    moments: Mapping[str, Moment]
    driver_cpu: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.moments["end"].at - self.moments["start"].at

    @property
    def cpu(self) -> float:
        """Processor time of the coordinator, in seconds."""
        return self.moments["end"].cpu - self.moments["start"].cpu

    @property
    def rows_per_second(self) -> float:
        """Rows that ended in the steady part, by the time."""
        first, last = self.moments["turned"], self.moments["begun"]
        return (last.ended - first.ended) / (last.at - first.at)

    @property
    def working_share(self) -> float:
        """The share of the steady part in which the coordinator's processor worked."""
        first, last = self.moments["turned"], self.moments["begun"]
        return (last.cpu - first.cpu) / (last.at - first.at)

    def idle(self, first: str, last: str) -> float:
        """Return for how long places were not taken between two moments, by the place."""
        a, b = self.moments[first], self.moments[last]
        return (b.at - a.at) - (b.busy - a.busy) / self.places

    def idle_share(self, first: str, last: str) -> float:
        """Return which share of that time it was."""
        return self.idle(first, last) / (self.moments[last].at - self.moments[first].at)


def main() -> int:
    """Measure every number of engines, print a table and a line of JSON."""
    args = parse_args()
    quiet()
    fleets = [
        *zip(args.engines, args.coordinators, strict=True),
        *((each, 1) for each in args.sweep),
    ]
    with ProcessPoolExecutor(args.at_once, mp_context=get_context("spawn")) as pool:
        begun = [begin(pool, engines, coordinators, args) for engines, coordinators in fleets]
        done = [
            fleet(engines, coordinators, [each.result() for each in parts])
            for (engines, coordinators), parts in zip(fleets, begun, strict=True)
        ]
    found, swept = done[: len(args.engines)], done[len(args.engines) :]
    alone = engine_alone(2000)
    point = saturation(done)
    figures = {
        "fleets": found,
        "one_coordinator": swept,
        "saturation": point,
        "engine_alone_cpu_microseconds_per_row": alone,
    }
    lines = [line for each in (*found, *swept) for line in lines_of(each)]
    lines.append(("simulated engine alone", f"{alone:,.0f} us of CPU for a row"))
    if point:
        lines.append(("one coordinator saturates", f"{point['rows_per_second']:,.0f} rows/s"))
    report(lines, vars(args), figures)
    return 0


def begin(
    pool: ProcessPoolExecutor, engines: int, coordinators: int, args: argparse.Namespace
) -> "list[Future[Part]]":
    """Let the first coordinators of a fleet begin, each in a process, as soon as there is room."""
    shards = [
        Shard(number, coordinators, engines * args.rows_per_engine)
        for number in range(coordinators)
    ]
    return [
        pool.submit(drive, engines // coordinators, shard, args)
        for shard in shards[: args.measured]
    ]


def drive(engines: int, shard: Shard, args: argparse.Namespace) -> Part:
    """Let one coordinator write a shard's rows with engines of its own."""
    quiet()
    rows, start = len(shard.rows), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        moments = Path(folder) / "moments.json"
        engine = WatchedEngine(
            devices=engines,
            rows=rows,
            step_seconds=STEP_SECONDS / args.speed,
            row_seconds=ROW_SECONDS / args.speed,
            moments_file=str(moments),
            virtual=not args.real,
        )
        cpu = time.process_time()
        result = magpie_steps.run_pipeline(
            build(engine, shard), work_dir=Path(folder) / "work", expected_rows=rows
        )
        cpu = time.process_time() - cpu
        if dropped := Counter(row["drop_reason"] for row in result.dataset if not row["keep"]):
            raise RuntimeError(f"no scripted row should be dropped, but some were: {dict(dropped)}")
        noted = json.loads(moments.read_text(encoding="utf-8"))
        seen = {name: Moment(**each) for name, each in noted.items()}
    if seen["turned"].at >= seen["begun"].at:
        raise RuntimeError(f"{rows} rows on {engines} engines have no steady part; give more rows")
    part = Part(engine.capacity, rows, seen, cpu)
    say(
        f"{engines} engines, shard {shard}: {part.rows_per_second:,.0f} rows/s,"
        f" {abs(part.idle_share('turned', 'begun')):.2%} idle,"
        f" in {time.perf_counter() - start:,.0f} s"
    )
    return part


def build(engine: WatchedEngine, shard: Shard) -> "Pipeline":
    """Return the pipeline: conversations of one turn, and a step behind them."""
    from distilabel.pipeline import Pipeline

    with Pipeline(name="scale") as pipeline:
        written = magpie_steps.ConversationGenerator(
            llm=engine,
            num_rows=len(shard.rows),
            first_row=shard.rows.start,
            batch_size=BATCH_ROWS,
        )
        written >> magpie_steps.FormatSFT(input_batch_size=BATCH_ROWS)
    return pipeline


def fleet(engines: int, coordinators: int, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what all coordinators do together, each on a core of its own, by those measured."""
    times = coordinators / len(parts)
    rows, seconds = sum(part.rows for part in parts), max(part.seconds for part in parts)
    steady = [part.idle_share("turned", "begun") for part in parts]
    cpu, driver_cpu = sum(part.cpu for part in parts), sum(part.driver_cpu for part in parts)
    lost = mean(seconds - part.seconds + part.idle("start", "end") for part in parts)
    return {
        "engines": engines,
        "coordinators": coordinators,
        "coordinators_measured": len(parts),
        "rows_measured": rows,
        "seconds": round(seconds, 2),
        "rows_per_second": round(times * rows / seconds, 1),
        "steady_rows_per_second": round(times * sum(part.rows_per_second for part in parts), 1),
        "idle_steady": round(max(mean(steady), 0.0), 4),
        "idle_steady_worst": round(max(*steady, 0.0), 4),
        "idle_whole": round(lost / seconds, 4),
        "idle_seconds_at_start": round(mean(part.idle("start", "turned") for part in parts), 2),
        "idle_seconds_at_end": round(mean(part.idle("begun", "end") for part in parts), 2),
        "coordinator_working_steady": round(mean(part.working_share for part in parts), 4),
        "coordinator_cpu_microseconds_per_row": round(cpu / rows * 1e6, 1),
        "driver_cpu_microseconds_per_row": round(driver_cpu / rows * 1e6, 1),
    }


def saturation(fleets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return from which fleet on one coordinator is too slow, and the most rows that it makes.

    Then its processor never rests, though its engines may not yet want for rows: it makes one row
    in the time that a row takes it. None if no fleet was too large.
    """
    single = [each for each in fleets if each["coordinators"] == 1]
    starved = [
        each
        for each in single
        if each["idle_steady"] > ALLOWED_IDLE or each["coordinator_working_steady"] > ALWAYS
    ]
    if not starved:
        return None
    first = min(starved, key=lambda each: each["engines"])
    fed = (each["engines"] for each in single if each["engines"] < first["engines"])
    return {
        "allowed_idle": ALLOWED_IDLE,
        "engines_kept_busy": max(fed, default=0),
        "engines_too_many": first["engines"],
        "rows_per_second": round(1e6 / first["coordinator_cpu_microseconds_per_row"], 1),
    }


def engine_alone(rows: int) -> float:
    """Return the processor time that the simulated engine itself takes for a row, in microseconds.

    It is asked for an instruction and a response for each row, without a step or a journal.
    """
    engine = SimulatedEngine(devices=8, step_seconds=1e-9, row_seconds=0.0)
    engine.load()
    prompts = (
        engine.template.pre_query_ids().ids,
        engine.template.response_prompt_ids([{"role": "user", "content": "How are you? " * 18}]),
    )
    requests = [
        (p, Sampling(seed=seed, max_new_tokens=2048)) for p in prompts for seed in range(rows)
    ]
    start = time.process_time()
    engine.run(all_of(engine, requests))
    return round((time.process_time() - start) / rows * 1e6, 1)


async def all_of(engine: SimulatedEngine, requests: Sequence[tuple[Any, Sampling]]) -> None:
    """Ask an engine for completions, one after the other."""
    for prompt, sampling in requests:
        await engine._complete(prompt, sampling)


def lines_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a fleet's lines of the table."""
    name = f"{found['engines']} engines, {found['coordinators']} coordinators"
    return [
        (name, f"{found['steady_rows_per_second']:,.0f} rows/s"),
        ("  idle, steady part", f"{found['idle_steady']:.2%}"),
        ("  idle, whole run", f"{found['idle_whole']:.2%}"),
        ("  lost at the end", f"{found['idle_seconds_at_end']:,.1f} s"),
        ("  coordinator, at work", f"{found['coordinator_working_steady']:.0%}"),
        (
            "  coordinator, CPU for a row",
            f"{found['coordinator_cpu_microseconds_per_row']:,.0f} us",
        ),
        ("  driver, CPU for a row", f"{found['driver_cpu_microseconds_per_row']:,.0f} us"),
    ]


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    number = partial(parser.add_argument, type=int, nargs="*")
    number("--engines", default=[8, 64, 256], help="fleets to measure")
    number("--coordinators", default=[1, 2, 8], help="how many drive each fleet")
    parser.add_argument(
        "--measured", type=int, default=2, help="coordinators of a fleet to run (default: 2)"
    )
    parser.add_argument(
        "--at-once", type=int, default=os.cpu_count(), help="coordinators to run at once"
    )
    number("--sweep", default=[64, 96], help="fleets to measure with one coordinator")
    parser.add_argument("--rows-per-engine", type=int, default=1800)
    parser.add_argument("--real", action="store_true", help="wait for the engines in real time")
    parser.add_argument(
        "--speed",
        type=float,
        default=SPEED,
        help="engines that are so many times as fast as `simulated_gpu`'s (default: %(default)s,"
        " 30 rows/s each)",
    )
    args = parser.parse_args()
    if len(args.engines) != len(args.coordinators):
        parser.error("--engines and --coordinators must have as many numbers")
    if any(e % c for e, c in zip(args.engines, args.coordinators, strict=True)):
        parser.error("each number of engines must be a multiple of its coordinators")
    if args.rows_per_engine < 3 * USERS:
        parser.error(f"--rows-per-engine must be at least {3 * USERS} to fill the places thrice")
    return args


if __name__ == "__main__":
    sys.exit(main())
