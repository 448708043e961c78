"""Does the process that drives a job hold more, the more rows the job has?

It matters because a dataset has ten million rows, and a process that keeps some of each does not
reach the end. A job without steps that compare all rows runs as its script does: scripted rows
through `run_pipeline` with a journal, then the summary and the whole output folder, with its report
and card. Each size runs in a new process.

    python benchmarks/memory_of_rows.py                            # 1 and 10 million rows, an hour
    python benchmarks/memory_of_rows.py --rows 20000 100000

Looked at are this process, the driver, and its children, the steps' processes, several times a
second. "Own" is the memory that a process has to itself, which no one but it can give back; "files"
is what it has mapped of files, the system's cache of what was read, which the system takes back
when it needs it. Own memory counts: its most while rows are made ("run") and while they are counted
and the folder is written ("folder"), and the most that the largest size has compared with the
smallest, which is to be no more than 1.2 times as much.

The last line is one JSON object.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from figures import last_line, quiet, report, say
from memory import MIB, Watch

import magpie_steps
from magpie_steps.job import Job
from magpie_steps.job.flags import run_asked_for
from magpie_steps.job.run import Run
from magpie_steps.provenance import generated_so_far

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

BATCH_ROWS = 5000
"""Rows that travel together: the rows of a few such batches are in the driver at once."""

PHASES = ("run", "folder")
"""What the driver does, one after the other."""


@dataclass(frozen=True)
class Look:
    """What processes hold at a moment, in MiB.

    Attributes:
        phase: What the driver does.
        own: The driver's own memory.
        files: What it has mapped of files.
        child: The own memory of the child that has most.
    """

    phase: str
    own: float
    files: float
    child: float


@dataclass
class Phases(Watch):
    """Looks at the driver and its children while the `with` block runs, phase by phase."""

    every_seconds: float = 0.25
    looks: list[Look] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _phase: str = ""

    def __post_init__(self) -> None:
        super().__init__(self.every_seconds)
        self._process = psutil.Process()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name what is done in the `with` block; look at its end too."""
        self._phase, start = name, time.perf_counter()
        yield
        self.looks.append(self._look())
        self.seconds[name] = round(time.perf_counter() - start, 2)

    def most(self, phase: str) -> dict[str, float]:
        """Return the most that there was in a phase."""
        seen = [look for look in self.looks if look.phase == phase]
        names = ("own", "files", "child")
        return {name: round(max(getattr(each, name) for each in seen), 1) for name in names}

    def course(self, phase: str, parts: int = 10) -> list[float]:
        """Return the most own memory of the driver in each of the equal parts of a phase."""
        seen = [look.own for look in self.looks if look.phase == phase]
        bounds = [len(seen) * part // parts for part in range(parts + 1)]
        cut = [seen[a:b] for a, b in pairwise(bounds)]
        return [round(max(each), 1) for each in cut if each]

    def _watch(self) -> None:
        while not self._ended.wait(self._every_seconds):
            self.looks.append(self._look())

    def _look(self) -> Look:
        own, files = _held(self._process)
        children = [_held(child)[0] for child in self._process.children(recursive=True)]
        return Look(self._phase, own, files, max(children, default=0.0))


def main() -> int:
    """Measure each size in a process of its own, print a table and a line of JSON."""
    args = parse_args()
    quiet()
    if args.here:
        print(json.dumps(measure(args.rows[0])))
        return 0
    sizes = [measure_elsewhere(rows) for rows in args.rows]
    small, large = sizes[0]["most"], sizes[-1]["most"]
    ratios = {name: round(large[name] / small[name], 4) for name in ("driver", "child")}
    lines = [line for size in sizes for line in lines_of(size)]
    lines += [(f"{name}, largest / smallest", f"{ratio:.3f}") for name, ratio in ratios.items()]
    report(lines, {"rows": args.rows}, {"sizes": sizes, "largest_to_smallest": ratios})
    return 0


def measure_elsewhere(rows: int) -> dict[str, Any]:
    """Measure a size in a new process, so that no memory is left from another one."""
    command = [sys.executable, __file__, "--here", "--rows", str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = last_line(done.stdout)
    say(f"{rows:,} rows: driver at most {found['most']['driver']:,.0f} MiB")
    return found


def measure(rows: int) -> dict[str, Any]:
    """Run a job of a size, phase by phase, and return what its processes held."""
    job = Job(name="memory-of-rows", build=build, settings={})
    with tempfile.TemporaryDirectory() as folder, Phases() as phases:
        out = Path(folder) / "rows"
        flags = ["--engine", "scripted", "--num-rows", str(rows), "--output-dir", str(out)]
        run = run_asked_for(job, "", flags)
        pipeline = job.build(run)
        with phases.phase("run"):
            result = magpie_steps.run_pipeline(
                pipeline, work_dir=run.work_dir, expected_rows=rows, idle_timeout_seconds=None
            )
        with phases.phase("folder"), contextlib.redirect_stdout(io.StringIO()):
            work = generated_so_far(run.work_dir / "journal.sqlite")
            summary = job._write(run, pipeline, result, work)
        written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    most = {name: phases.most(name) for name in PHASES}
    return {
        "rows": rows,
        "kept": summary.kept,
        "distinct": summary.distinct,
        "seconds": phases.seconds,
        "rows_per_second": round(rows / sum(phases.seconds.values()), 1),
        "folder_mib": round(written / MIB, 1),
        "phases_mib": most,
        "course_mib": {name: phases.course(name) for name in PHASES},
        "most": {
            "driver": max(each["own"] for each in most.values()),
            "child": most["run"]["child"],
        },
    }


def build(run: Run) -> "Pipeline":
    """Return the pipeline: a generator and a step behind it, so that rows pass the driver twice."""
    from distilabel.pipeline import Pipeline
    from timed_steps import Arrivals

    with Pipeline(name="memory-of-rows") as pipeline:
        written = magpie_steps.InstructionGenerator(
            llm=run.engine(), num_rows=run.num_rows, batch_size=BATCH_ROWS
        )
        written >> Arrivals(input_batch_size=BATCH_ROWS)
    return pipeline


def lines_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a size's lines of the table."""
    lines = [(f"{found['rows']:,} rows", f"{found['rows_per_second']:,.0f} rows/s")]
    for name in PHASES:
        seen, seconds = found["phases_mib"][name], found["seconds"][name]
        held = f"driver {seen['own']:,.0f} MiB (files {seen['files']:,.0f})"
        child = f", child {seen['child']:,.0f} MiB" if seen["child"] else ""
        lines.append((f"  {name}, {seconds:,.0f} s", f"{held}{child}"))
    return lines


def _held(process: psutil.Process) -> tuple[float, float]:
    """Return a process's own memory and what it has mapped of files, in MiB."""
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    return (memory.rss - memory.shared) / MIB, memory.shared / MIB


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument(
        "--here", action="store_true", help="measure the first size in this process, without table"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
