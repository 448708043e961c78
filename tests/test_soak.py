"""The soak in short: the long version is `python benchmarks/soak.py`."""

import importlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.long
def test_two_thousand_rows_with_faults_are_counted_exactly_and_leave_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "soak.py"), "--rows", "2000", "--fault-share", "0.02"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert found["problems"] == []
    counts = found["counts"]
    assert counts["generated"] == 2000 == counts["kept"] + sum(counts["dropped"].values())
    assert 20 < counts["dropped"]["engine_error"] == found["engine"]["failed"] < 150
    assert found["left"] == {"processes": 0, "zombies": 0, "files": 0, "threads": 0}
    assert len(found["processes"]) == 7


def test_rows_that_differ_are_told() -> None:
    """Each of the checks can fail: another text, another reason, a row too few."""
    soak = importlib.import_module("soak")
    row = {name: name for name in soak.SAME} | {"keep": False, "drop_reason": "engine_error"}
    judged = row | {"keep": False, "drop_reason": "recipe_quality"}
    same = [row, judged]
    wanted = [row, row | {"keep": True, "drop_reason": ""}]
    assert list(soak.comparisons(same, wanted)) == [True, True]
    for rows in (
        [row | {"response": "other"}],
        [row | {"drop_reason": "too_long"}],
        [],
        [row, row],
    ):
        assert not all(soak.comparisons(rows, [row]))


def test_what_a_process_gains_is_a_problem() -> None:
    """Each of the limits can be passed, by the processes that it is for."""
    soak = importlib.import_module("soak")
    well = {"last_third_to_middle": 1.05, "files_more": 2, "threads_more": 2}

    def problems(step: str, long: bool = True, **gained: float) -> list[str]:
        processes = {"main": well, step: well | gained}
        found: list[str] = soak.problems_of_processes(processes, {"main", "all"}, long=long)
        return found

    assert problems("single") == problems("all") == []
    assert problems("single", files_more=3) == ["single: files_more 3, at most 2"]
    assert problems("all", files_more=3) == ["all: files_more 3, at most 2"]
    assert problems("single", threads_more=3) == ["single: threads_more 3, at most 2"]
    assert problems("single", last_third_to_middle=1.0501) == [
        "single: last_third_to_middle 1.0501, at most 1.05"
    ]
    assert problems("all", threads_more=4, last_third_to_middle=1.3) == []
    assert problems("single", long=False, last_third_to_middle=1.3, files_more=10) == []
    assert problems("all", long=False, files_more=11) == ["all: files_more 11, at most 10"]


def test_the_committed_result_is_within_the_limits() -> None:
    soak = importlib.import_module("soak")
    result = json.loads((BENCHMARKS / "results" / "soak.json").read_text(encoding="utf-8"))
    assert result["settings"]["rows"] >= soak.ROWS_OF_LONG_RUN
    found = result["figures"]
    all_rows = {"main", "neighbour_distance_0", "apply_recipe_0"}
    assert soak.problems_of_processes(found["processes"], all_rows, long=True) == []
    assert not any(found["left"].values())


def await_looks(watch: Any, more: int) -> None:
    """Wait until this process was looked at so many times more."""

    def looks() -> int:
        return sum(map(len, watch.seen.values()))

    wanted = looks() + more
    while looks() < wanted:
        time.sleep(0.005)


def test_what_a_process_gains_is_seen() -> None:
    watching = importlib.import_module("process_watch")
    stop, files = threading.Event(), []
    thread = threading.Thread(target=stop.wait)
    with watching.ProcessWatch(0.02) as watch:
        block = bytearray()
        for _ in range(30):
            files.append(open(__file__))  # noqa: SIM115
            block += b"x" * 2**20
            await_looks(watch, 1)
        thread.start()
        await_looks(watch, 2)
    stop.set()
    thread.join()
    for file in files:
        file.close()
    [samples] = watch.seen.values()
    found = watching.growth(samples)
    assert found["files_more"] >= 5
    assert found["threads_more"] >= 1
    assert found["last_third_to_middle"] > 1
    assert watch.zombies == set()


def test_a_child_that_nobody_waits_for_is_seen() -> None:
    watching = importlib.import_module("process_watch")
    with subprocess.Popen(["true"]) as child, watching.ProcessWatch(0.02, 0.05) as watch:
        while not watch.zombies:
            time.sleep(0.02)
    assert child.returncode == 0
    assert watch.zombies == {child.pid}
    with subprocess.Popen(["true"]), watching.ProcessWatch(0.02, 60) as watch:
        await_looks(watch, 10)
    assert watch.zombies == set()
