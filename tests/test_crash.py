"""The harness of crashes in short: the long version is `python benchmarks/crash.py --runs 50`."""

import importlib
import json
import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.slow
def test_five_jobs_with_faults_have_the_rows_of_an_undisturbed_one() -> None:
    """A step killed, an engine, all processes, Ctrl-C and a full disk while the output is written.

    The smallest of the jobs: a run of the main one is 15 seconds of imports.
    """
    job = ["--job", "magpie_air", "--num-rows", "10", "--dry-run"]
    flags = [*job, "--runs", "5", "--seed", "13316", "--at-once", "2"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "crash.py"), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert (figures["runs"], figures["failed"]) == (5, [])
    assert sum(n for stages in figures["faults"].values() for n in stages.values()) == 7


def test_a_seed_and_a_number_tell_what_happens_and_every_fault_comes_at_every_stage() -> None:
    crash, faults = importlib.import_module("crash"), importlib.import_module("faults")

    def told(number: int, seed: int = 1) -> list[tuple[str, str]]:
        return list(crash.faults_of(seed, number))

    assert [told(number) for number in range(20)] == [told(number) for number in range(20)]
    assert [len(told(number)) for number in range(6)] == [1, 1, 3, 1, 1, 3]
    pairs = set(product(faults.FAULTS, crash.STAGES)) - {
        ("step_killed", "start"),
        ("step_killed", "write"),
        ("engine_killed", "start"),
        ("engine_killed", "judge"),
        ("engine_killed", "write"),
    }
    assert len(pairs) == 40
    for first in (0, 40):
        assert {told(number)[0] for number in range(first, first + 40)} == pairs
    assert [told(n)[0] for n in range(40)] != [told(n + 40)[0] for n in range(40)]
    assert [told(n)[0] for n in range(40)] != [told(n, seed=2)[0] for n in range(40)]
    stories = [crash.Story(0, ["all_killed", "terminated"], ["load", "ended"])]
    missing = crash.never_happened(stories)
    assert len(missing) == 39
    assert "all_killed at load" not in missing
    assert "terminated at write" in missing


GOES_ON = "job: error: terminated; the same command goes on from here"


@pytest.mark.parametrize(
    ("fault", "code", "said", "wrong"),
    [
        ("all_killed", -9, "", ""),
        ("main_killed", 143, GOES_ON, "exit code 143 instead of -9"),
        ("terminated", 143, f"a warning\n{GOES_ON}\n", ""),
        ("terminated", -15, "", "exit code -15 instead of 143"),
        ("terminated", 0, "", "exit code 0 instead of 143"),
        ("interrupted", 143, GOES_ON, "exit code 143 instead of 130"),
        ("interrupted_twice", 130, GOES_ON, ""),
        ("interrupted_twice", -2, GOES_ON, ""),
        ("interrupted_twice", -2, "", "does not say how to go on"),
        ("interrupted", -2, GOES_ON, "exit code -2 instead of 130"),
        ("all_terminated", 143, f"{GOES_ON}\na warning", "does not say how to go on"),
        ("step_killed", 1, "job: error: its process died, run again to go on", ""),
        ("engine_killed", 1, "job: error: its process died", "does not say how to go on"),
        ("disk_full", 2, "job: error: cannot write out: no space", ""),
        ("disk_full", 2, "", "the last line is no error"),
        ("disk_full", 3, GOES_ON, "exit code 3 instead of 1 or 2"),
    ],
)
def test_a_wrong_exit_code_or_last_line_is_told(
    fault: str, code: int, said: str, wrong: str
) -> None:
    faults = importlib.import_module("faults")
    found = faults.wrong_end(fault, faults.Ended(code, said))
    assert wrong in found if wrong else not found


ENDS_WELL = "open('ready', 'w').close()"


def job(folder: Path, code: str, *, disk: bool = False) -> Any:
    faults = importlib.import_module("faults")
    started = faults.StartedJob([sys.executable, "-c", code], folder, dict(os.environ), disk)
    faults.wait_until((folder / "ready").exists, 20, "it is not ready")
    return started


STEPS = """
import os, subprocess, sys, time
children = [subprocess.Popen(["sleep", "60"], process_group=0) for _ in range(3)]
open("ready", "w").close()
{then}
"""


def test_every_process_of_a_job_is_found_and_killed(tmp_path: Path) -> None:
    """Also those in process groups of their own, as the steps' are."""
    started = job(tmp_path, STEPS.format(then="time.sleep(60)"))
    assert len(started.processes()) == 4
    assert len(started.steps()) == 3
    started.kill_all()
    assert started.wait().code == -signal.SIGKILL


def test_a_job_that_leaves_processes_behind_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("faults"), "LAST_PROCESS_SECONDS", 0.3)
    started = job(tmp_path, STEPS.format(then="sys.exit(1)"))
    with pytest.raises(TimeoutError, match="processes are left"):
        started.wait()
    importlib.import_module("faults").wait_until(lambda: not started.processes(), 10, "they live")


@pytest.mark.parametrize("own_disk", [True, False])
def test_a_full_disk_takes_no_byte_more(tmp_path: Path, own_disk: bool) -> None:
    faults = importlib.import_module("faults")
    then = (
        "[child.kill() for child in children]\n"
        "time.sleep(2)\n"
        "open('more', 'wb').write(bytes(100_000))"
    )
    with faults.small_disk(tmp_path / "disk") as mounted:
        if own_disk and not mounted:
            pytest.skip("no file system can be mounted here")
        started = job(tmp_path / "disk", STEPS.format(then=then), disk=own_disk)
        faults.disk_full(started, Random(1))
        said = started.wait().said
    assert ("No space left on device" if own_disk else "File too large") in said


def test_a_changed_row_a_stray_file_and_a_traceback_are_told(tmp_path: Path) -> None:
    """Each of the checks can fail."""
    crash = importlib.import_module("crash")
    shard = tmp_path / "out" / "data" / "train-00000-of-00001.parquet"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"other rows")
    (tmp_path / "out" / ".README.md.1.tmp").touch()
    calm = crash.Calm({}, {str(shard.relative_to(tmp_path)): b"rows"}, frozenset({"gone"}), 0)
    assert crash.differences(tmp_path, calm) == [
        "out/data/train-00000-of-00001.parquet differs",
        "out/.README.md.1.tmp is left",
        "out/data/train-00000-of-00001.parquet is left",
        "gone is missing",
    ]
    started = job(tmp_path, "open('ready', 'w').close(); 1 / 0")
    [problem] = crash.problems_at("terminated", "load", started, calm)
    assert "ZeroDivisionError" in problem
    [problem] = crash.problems_at("terminated", "judge", job(tmp_path, ENDS_WELL), calm)
    assert "exit code 0 instead of 143" in problem
    [problem] = crash.problems_at("terminated", "write", job(tmp_path, ENDS_WELL), calm)
    assert "exit code 0 without all rows" in problem
    shard.write_bytes(b"rows")
    assert crash.problems_at("terminated", "write", job(tmp_path, ENDS_WELL), calm) == []


def test_only_python_s_own_start_and_end_are_excused() -> None:
    crash, faults = importlib.import_module("crash"), importlib.import_module("faults")
    traceback = faults.Ended(-2, "Traceback (most recent call last):\nKeyboardInterrupt")
    told = {
        stage: crash.wrong_at("interrupted", stage, traceback, all_rows=True)
        for stage in crash.ORDER
    }
    assert {stage for stage, wrong in told.items() if not wrong} == {"start", "exit"}
    assert crash.wrong_at("interrupted", "exit", traceback, all_rows=False)
    through = faults.Ended(0, "")
    assert crash.wrong_at("step_killed", "judge", through, all_rows=True) == ""
    assert crash.wrong_at("interrupted", "judge", through, all_rows=True)
    assert crash.wrong_at("interrupted", "write", faults.Ended(0, "x: error: y"), all_rows=True)
