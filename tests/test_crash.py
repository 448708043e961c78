"""The harness of crashes in short: the long version is `python benchmarks/crash.py --runs 50`."""

import importlib
import json
import os
import signal
import subprocess
import sys
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
    """All processes killed, the main one, a step, the engine, a scheduler's signal."""
    flags = ["--runs", "5", "--seed", "9", "--num-rows", "20", "--dry-run", "--at-once", "2"]
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


def test_a_seed_and_a_number_tell_what_happens_and_every_fault_comes() -> None:
    crash, faults = importlib.import_module("crash"), importlib.import_module("faults")

    def told(number: int) -> list[str]:
        return list(crash.faults_of(number, Random(f"1:{number}")))

    assert [told(number) for number in range(20)] == [told(number) for number in range(20)]
    assert {told(number)[0] for number in range(9)} == set(faults.FAULTS)
    assert [len(told(number)) for number in range(6)] == [1, 1, 3, 1, 1, 3]


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
    [problem] = crash.problems_at("terminated", "write", started)
    assert "ZeroDivisionError" in problem
