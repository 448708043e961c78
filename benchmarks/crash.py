"""Does the main job lose or change a row, whatever kills it?

The job runs undisturbed once. Then, again and again from an empty folder: it is started, one of the
faults in `faults.py` happens to it at a random moment of a stage, every third time another two to
the runs that follow, and the same command runs to its end. The first faults are every one at every
stage where it can happen, in the seed's order. Every parquet file has to hold the very bytes of the
undisturbed run, no process may be left and no file that the undisturbed run does not have. No run
may hang; from the moment that it has its folder, it has to end with the fault's exit code and a
last line that says how to go on, without a traceback.

    python benchmarks/crash.py --runs 50 --seed 1         # about an hour on two cores
    python benchmarks/crash.py --seed 1 --only 17 23      # two of them again
"""

import argparse
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from faults import FAULTS, FILLER, Ended, StartedJob, small_disk, wrong_end
from figures import report, say

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("start", "load", "generate", "judge", "write")
"""What a run is at: imports until it has its folder, then steps and models; texts; judgements, once
the first step has ended; the output folder, once all steps have."""

NEVER = {
    "step_killed": ("start", "write"),
    "engine_killed": ("start", "judge", "write"),
}
"""The stages at which a fault cannot happen, as the process is not there."""

PLAN = [(fault, stage) for fault in FAULTS for stage in STAGES if stage not in NEVER.get(fault, ())]
"""Every fault at every stage where it can happen."""

EXIT = "exit"
"""All is written, and Python ends."""

ENDED = "ended"

ORDER = (*STAGES, EXIT, ENDED)

PART_OF_STAGE = 0.8
"""Moments are in this part of a stage: a disturbed run may be faster than the undisturbed one."""
LAST_FILE = "README.md"
"""What a run writes last into its output folder."""

LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Calm:
    """An undisturbed run.

    Attributes:
        stages: How long it was at each stage, in seconds.
        parquet: Its parquet files' bytes, by path.
        files: The paths of all files that it left.
        completions: Model calls.
    """

    stages: dict[str, float]
    parquet: dict[str, bytes]
    files: frozenset[str]
    completions: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return sum(self.stages.values())


@dataclass
class Story:
    """What happened to one job.

    Attributes:
        number: Its number, which decides the faults and their moments.
        faults: What happened, in order.
        stages: What the runs were at.
        problems: What is wrong in the end.
        kept_twice: Completions in the journal's count beyond those of the undisturbed run.
    """

    number: int
    faults: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    kept_twice: int = 0


def main() -> int:
    """Run the job undisturbed and disturbed, print a table and a line of JSON."""
    args = parse_args()
    # A shell's background jobs ignore Ctrl-C, and so would the jobs that this one starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    numbers = args.only or range(args.runs)
    with tempfile.TemporaryDirectory() as scratch:
        calm = run_calmly(args, Path(scratch) / "calm")
        say(f"undisturbed: {calm.seconds:.1f} s, {calm.completions} completions")
        with ThreadPoolExecutor(args.at_once) as pool:
            stories = list(
                pool.map(lambda number: disturbed(args, number, Path(scratch), calm), numbers)
            )
        disk = disk_kind(Path(scratch))
    failed = [story for story in stories if story.problems]
    figures = {
        "undisturbed_seconds": round(calm.seconds, 1),
        "disk": disk,
        "runs": len(stories),
        "failed": [asdict(story) for story in failed],
        "faults": counted(stories),
        "never_happened": never_happened(stories),
        "kept_twice": sum(story.kept_twice for story in stories),
    }
    report(lines_of(figures), vars(args), figures)
    return 1 if failed else 0


def run_calmly(args: argparse.Namespace, folder: Path) -> Calm:
    """Run the job undisturbed."""
    folder.mkdir()
    job = start_job(args, folder, disk=False)
    stages = dict.fromkeys(ORDER, 0.0)
    last = time.monotonic()
    while (stage := stage_of(job)) != ENDED:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        stages[stage] += now - last
        last = now
    ended = job.wait()
    if ended.code:
        raise SystemExit(f"the undisturbed job ended with {ended.code}: {ended.said}")
    return Calm(stages, parquet_in(folder), files_in(folder), completions_in(folder))


def disturbed(args: argparse.Namespace, number: int, scratch: Path, calm: Calm) -> Story:
    """Run a job with faults, then to its end; say what is wrong then."""
    story, folder = Story(number), scratch / f"job-{number}"
    with small_disk(folder) as disk:
        chance = Random(f"{args.seed}:{number}")
        for fault, stage in faults_of(args.seed, number):
            job = start_job(args, folder, disk)
            await_moment(job, calm, chance, stage)
            story.faults.append(fault)
            story.stages.append(stage_of(job))
            FAULTS[fault](job, chance)
            story.problems.extend(problems_at(fault, story.stages[-1], job, calm))
            (folder / FILLER).unlink(missing_ok=True)
        story.problems.extend(problems_after(args, folder, disk, calm))
        story.kept_twice = completions_in(folder) - calm.completions
    happened = ", ".join(f"{f} ({s})" for f, s in zip(story.faults, story.stages, strict=True))
    verdict = "; ".join(story.problems) or "same rows"
    say(f"run {number} of seed {args.seed}: {happened}: {verdict}")
    return story


def faults_of(seed: int, number: int) -> Iterator[tuple[str, str]]:
    """Yield what is to happen to a job's runs, each with the stage, "" for any.

    A later run passes through what is there already, so its stages are not to be told apart.
    """
    plans, place = divmod(number, len(PLAN))
    yield Random(f"{seed}:plan {plans}").sample(PLAN, len(PLAN))[place]
    if number % 3 == 2:
        yield from ((fault, "") for fault in Random(f"{seed}:{number}").sample([*FAULTS], 2))


def await_moment(job: StartedJob, calm: Calm, chance: Random, stage: str) -> None:
    """Wait for a random moment of a stage, or of the whole run without one."""
    if not stage:
        pause(job, chance.uniform(0.0, calm.seconds))
        return
    while ORDER.index(stage_of(job)) < ORDER.index(stage):
        time.sleep(LOOK_SECONDS)
    pause(job, chance.uniform(0.0, PART_OF_STAGE * calm.stages[stage]))


def pause(job: StartedJob, seconds: float) -> None:
    """Wait, but not for longer than the job runs."""
    end = time.monotonic() + seconds
    while stage_of(job) != ENDED and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_SECONDS))


def problems_at(fault: str, stage: str, job: StartedJob, calm: Calm) -> list[str]:
    """Wait until a job has ended of a fault; return what is wrong with how it did."""
    try:
        ended = job.wait()
    except TimeoutError as error:
        return [f"{fault}: {error}"]
    wrong = wrong_at(fault, stage, ended, all_rows=parquet_in(job.folder) == calm.parquet)
    return [f"{fault} at {stage}: {wrong}; it said {ended.said[-2000:]}"] if wrong else []


def wrong_at(fault: str, stage: str, ended: Ended, *, all_rows: bool) -> str:
    """Return what is wrong with how a fault has ended a job that was at a stage, "" for nothing."""
    # Before the script's first line and after its last one, a signal is Python's own matter.
    if stage == "start":
        return ""
    if stage == EXIT:
        return "" if all_rows else "not all rows are there"
    if "Traceback" in ended.said:
        return "a traceback"
    if ended.code == 0 and may_be_through(fault, stage):
        through = all_rows and "error:" not in ended.said
        return "" if through else "exit code 0 without all rows"
    return wrong_end(fault, ended)


def may_be_through(fault: str, stage: str) -> bool:
    """Whether the job may have done all before it noticed, or the step its part."""
    return stage in ("write", ENDED) or fault in NEVER


def problems_after(args: argparse.Namespace, folder: Path, disk: bool, calm: Calm) -> list[str]:
    """Run the command to its end; return what is not as in the undisturbed run."""
    try:
        ended = start_job(args, folder, disk).wait()
    except TimeoutError as error:
        return [f"the last run: {error}"]
    if ended.code:
        return [f"the last run ended with {ended.code}: {ended.said[-2000:]}"]
    return differences(folder, calm)


def differences(folder: Path, calm: Calm) -> list[str]:
    """Return which parquet files and which names of files are not the undisturbed run's."""
    parquet, files = parquet_in(folder), files_in(folder)
    names = sorted(calm.parquet.keys() & parquet.keys())
    return [
        *(f"{name} differs" for name in names if calm.parquet[name] != parquet[name]),
        *(f"{name} is left" for name in sorted(files - calm.files)),
        *(f"{name} is missing" for name in sorted(calm.files - files)),
    ]


def start_job(args: argparse.Namespace, folder: Path, disk: bool) -> StartedJob:
    """Start the job in a folder."""
    flags = ["--num-rows", str(args.num_rows), "--output-dir", "out"]
    engine = ["--dry-run"] if args.dry_run else []
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    script = ROOT / "pipelines" / f"{args.job}.py"
    command = [sys.executable, str(script), *flags, *engine]
    return StartedJob(command, folder, environment, disk)


def stage_of(job: StartedJob) -> str:
    """Return what a job's run is at, as far as its folder tells."""
    if not job.running:
        return ENDED
    steps = len(job.steps())
    if not steps and job.most_steps:
        return EXIT if job.has_made(job.folder / "out" / LAST_FILE) else "write"
    if not steps and not job.has_made(job.folder / "out.work" / "lock"):
        return "start"
    if not steps or not completions_in(job.folder):
        return "load"
    return "judge" if steps < job.most_steps else "generate"


def completions_in(folder: Path) -> int:
    """Return how many completions all runs together have generated."""
    journal = folder / "out.work" / "journal.sqlite"
    try:
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT COALESCE(SUM(generated), 0) FROM runs").fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(found[0])


def parquet_in(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the parquet files, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in (folder / "out").rglob("*.parquet")}


def files_in(folder: Path) -> frozenset[str]:
    """Return the paths of all files, but for those that SQLite makes while it reads."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (str(path.relative_to(folder)) for path in paths)
    return frozenset(name for name in names if not name.endswith(("-wal", "-shm")))


def disk_kind(scratch: Path) -> str:
    """Return what stands for a full disk."""
    with small_disk(scratch / "probe") as mounted:
        return "tmpfs" if mounted else "limit on the size of files"


def counted(stories: list[Story]) -> dict[str, dict[str, int]]:
    """Return how often each fault happened, by what the run was at."""
    counts = {fault: Counter[str]() for fault in FAULTS}
    for story in stories:
        for fault, stage in zip(story.faults, story.stages, strict=True):
            counts[fault][stage] += 1
    return {
        fault: {stage: found[stage] for stage in ORDER if found[stage]}
        for fault, found in counts.items()
        if found
    }


def never_happened(stories: list[Story]) -> list[str]:
    """Return which faults of the plan happened to no job, or at another stage only."""
    happened = {pair for s in stories for pair in zip(s.faults, s.stages, strict=True)}
    return [f"{fault} at {stage}" for fault, stage in PLAN if (fault, stage) not in happened]


def lines_of(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the table."""
    return [
        ("undisturbed", f"{figures['undisturbed_seconds']} s"),
        ("full disk", figures["disk"]),
        *(
            (fault.replace("_", " "), ", ".join(f"{n} at {stage}" for stage, n in found.items()))
            for fault, found in figures["faults"].items()
        ),
        ("completions kept twice", f"{figures['kept_twice']:,}"),
        ("faults of the plan that did not happen", str(len(figures["never_happened"]))),
        ("jobs with other rows or files, a wrong end or a hang", str(len(figures["failed"]))),
    ]


def parse_args() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="decides faults and moments")
    parser.add_argument("--only", type=int, nargs="+", help="only the jobs with these numbers")
    parser.add_argument("--job", default="magpie_pro", help="one of the scripts in pipelines/")
    parser.add_argument("--num-rows", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=1, help="jobs at the same time")
    parser.add_argument("--dry-run", action="store_true", help="scripted rows instead of a model's")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
