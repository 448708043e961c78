"""Does a run of a million rows cost no more, row by row, than one of ten thousand?

It matters because datasets have a million rows: what takes longer for each row the more there are,
or keeps rows in memory, is not seen in a small run. Scripted rows go through a generator of
conversations and two more steps (`FormatSFT`, and one that writes when a row came) by
`run_pipeline`, each size in a new process.

    python benchmarks/overhead.py                               # 10,000, 100,000 and 1,000,000 rows
    python benchmarks/overhead.py --rows 10000 50000

Rows per second count from the loaded engine to the last row at the last step. Memory is resident
memory, looked at five times a second; "all" adds up the processes of a run, and what they share
counts in each. Driver is the calling process, first and last the quarters of the run: it should
hold no rows. Then the output folder is written as a job's script does it, up to --publish-rows:
that holds all rows in memory, and what the list of rows alone takes is told too.

The last line is one JSON object.
"""

import argparse
import contextlib
import gc
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import last_line, quiet, report, say
from memory import MemoryWatch, Sample, between, quarters

import magpie_steps
from magpie_steps.job import conversation_job
from magpie_steps.job.flags import run_asked_for
from magpie_steps.provenance import generated_so_far

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline
    from timed_steps import Times

    from magpie_steps.running import RunResult


def main() -> int:
    """Measure each size in a process of its own, print a table and a line of JSON."""
    args = parse_args()
    quiet()
    if args.here:
        print(json.dumps(measure(args.rows[0], args.publish_rows)))
        return 0
    found = [measure_elsewhere(rows, args.publish_rows) for rows in args.rows]
    linear = found[-1]["rows_per_second"] / found[-2]["rows_per_second"] if found[1:] else 1.0
    lines = [line for size in found for line in lines_of(size)]
    if found[1:]:
        lines.append((f"speed, {args.rows[-1]:,} / {args.rows[-2]:,} rows", f"{linear:.3f}"))
    settings = {"rows": args.rows, "publish_rows": args.publish_rows}
    report(lines, settings, {"sizes": found, "last_to_one_before": round(linear, 4)})
    return 0


def measure_elsewhere(rows: int, publish_rows: int) -> dict[str, Any]:
    """Measure a size in a new process, so that no memory is left from another one."""
    flags = ["--here", "--rows", str(rows), "--publish-rows", str(publish_rows)]
    done = subprocess.run(
        [sys.executable, __file__, *flags], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = last_line(done.stdout)
    say(f"{rows:,} rows: {found['rows_per_second']:,.0f} rows/s")
    return found


def measure(rows: int, publish_rows: int) -> dict[str, Any]:
    """Run a pipeline of a size, write its folder, and return what that took."""
    from timed_steps import times_of

    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder) / "work"
        pipeline = build(rows)
        with MemoryWatch() as watch:
            result = magpie_steps.run_pipeline(pipeline, work_dir=work_dir, expected_rows=rows)
        times = times_of(result.dataset)
        found = {
            "rows": rows,
            "rows_per_second": round(rows / times.seconds, 1),
            "seconds": round(times.seconds, 2),
            "seconds_with_start_and_end": round(result.seconds, 2),
            "memory_mib": memory_of(watch.samples, times),
        }
        if rows <= publish_rows:
            found["to_list"] = measure_list(result)
            found["publish"] = measure_publish(rows, result, Path(folder))
    return found


def build(rows: int) -> "Pipeline":
    """Return the pipeline: a generator and two steps."""
    from distilabel.pipeline import Pipeline
    from timed_steps import Arrivals, TimedConversations

    with Pipeline(name="overhead") as pipeline:
        written = TimedConversations(llm=magpie_steps.ScriptedEngine(), num_rows=rows)
        written >> magpie_steps.FormatSFT() >> Arrivals(input_batch_size=1000)
    return pipeline


def memory_of(samples: list[Sample], times: "Times") -> dict[str, float]:
    """Return how much memory a run took, in MiB; the quarters are those of its rows' time."""
    first, last = quarters(between(samples, times.loaded, times.last))
    return {
        "driver_peak": round(max(sample.main for sample in samples), 1),
        "driver_first": round(first, 1),
        "driver_last": round(last, 1),
        "driver_last_to_first": round(last / first, 4),
        "all_peak": round(max(sample.all for sample in samples), 1),
    }


def measure_list(result: "RunResult") -> dict[str, float]:
    """Return what it takes to hold all rows as dictionaries, as a job's script does."""
    gc.collect()
    with MemoryWatch(0.05) as watch:
        start = time.perf_counter()
        rows = result.dataset.to_list()
        seconds = time.perf_counter() - start
    del rows
    gc.collect()
    return {"seconds": round(seconds, 2), "more_mib": growth(watch.samples)}


def measure_publish(rows: int, result: "RunResult", folder: Path) -> dict[str, float]:
    """Return what it takes to write the output folder."""
    job = conversation_job("overhead", {})
    flags = ["--engine", "scripted", "--num-rows", str(rows), "--output-dir", str(folder / "out")]
    run = run_asked_for(job, "", flags)
    work = generated_so_far(folder / "work" / "journal.sqlite")
    with MemoryWatch(0.05) as watch, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        job._write(run, job.build(run), result, work)
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 2), "more_mib": growth(watch.samples)}


def growth(samples: list[Sample]) -> float:
    """Return by how much this process's memory has grown at most."""
    return round(max(sample.main for sample in samples) - samples[0].main, 1)


def lines_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a size's lines of the table."""
    memory = found["memory_mib"]
    lines = [
        (f"{found['rows']:,} rows", f"{found['rows_per_second']:,.0f} rows/s"),
        ("  driver, peak", f"{memory['driver_peak']:,.0f} MiB"),
        ("  driver, last / first quarter", f"{memory['driver_last_to_first']:.3f}"),
        ("  all processes, peak", f"{memory['all_peak']:,.0f} MiB"),
    ]
    for name, title in (("to_list", "rows as a list"), ("publish", "output folder")):
        if cost := found.get(name):
            lines.append((f"  {title}", f"{cost['seconds']:.1f} s, +{cost['more_mib']:,.0f} MiB"))
    return lines


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--publish-rows", type=int, default=100_000, help="write the folder of runs up to this size"
    )
    parser.add_argument(
        "--here", action="store_true", help="measure the first size in this process, without table"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
