"""The soak in short: the long version is `python benchmarks/soak.py`."""

import importlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.slow
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
    for held in found["processes"].values():
        assert held["files_more"] <= 2
        assert held["threads_more"] <= 2


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


def test_what_a_process_gains_is_seen() -> None:
    watching = importlib.import_module("process_watch")
    stop, files = threading.Event(), []
    with watching.ProcessWatch(0.02) as watch:
        block = bytearray()
        for _ in range(30):
            files.append(open(__file__))  # noqa: SIM115
            block += b"x" * 2**20
            time.sleep(0.02)
        thread = threading.Thread(target=stop.wait)
        thread.start()
        time.sleep(0.2)
    stop.set()
    thread.join()
    for file in files:
        file.close()
    [samples] = watch.seen.values()
    found = watching.growth(samples)
    assert found["files_more"] >= 5
    assert found["threads_more"] >= 1
    assert found["last_third_to_middle"] > 1
    assert watch.zombies == 0
    with subprocess.Popen(["true"]) as child, watching.ProcessWatch(0.02) as watch:
        time.sleep(0.3)
    assert child.returncode == 0
    assert watch.zombies == 1
