"""Every way in which distilabel 1.5.3 hangs, loses rows or returns others' ends well here.

The names in brackets are those of the traps in the design notes: F1-F17 framework, C1-C7 cache.
"""

import fcntl
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from running_steps import (
    EngineLike,
    FailsOnRows,
    FailsToLoad,
    FailsToUnload,
    Filter,
    HoldsALock,
    HoldsAThread,
    Join,
    Journaled,
    KillsItself,
    KillsTheLast,
    LateColumn,
    MixedTypes,
    Noted,
    Numbers,
    Plus,
    RaisingNumbers,
    SendsUnpicklable,
    Sleeps,
    SlowFirst,
    StampedNumbers,
    Stamps,
    Talks,
    Total,
    Unflagged,
    WideRows,
    YieldsNothing,
    YieldsTwice,
)

from magpie_steps import compat
from magpie_steps.running import PipelineRunError, RunResult, run_pipeline

pytestmark = [pytest.mark.timeout(150), pytest.mark.alone]

HERE = Path(__file__).parent


def line(*steps: Callable[[], Any], name: str = "test") -> Pipeline:
    """A pipeline of the steps in one line."""
    with Pipeline(name) as pipeline:
        made = [step() for step in steps]
        for before, after in itertools.pairwise(made):
            before >> after
    return pipeline


def rows_of(result: RunResult) -> list[dict[str, Any]]:
    return list(result.dataset.to_list())


def child_processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Any:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = set(threading.enumerate())
    yield
    assert child_processes() == []
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= threads
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


# What a good run is


def test_rows_come_in_order_and_complete(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=23, batch_size=5), lambda: Plus(input_batch_size=4))
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=23)
    assert rows_of(result) == [{"n": n, "text": f"row {n}", "plus": n + 1} for n in range(23)]
    assert result.rows == 23
    assert not result.failed_rows
    assert not result.notes
    assert not result.from_cache
    assert result.seconds > 0


def test_every_size_of_batches_ends_with_every_row(tmp_path: Path) -> None:
    for num_rows in (1, 2, 5, 6):
        for batch_size in (1, 2, 3, 6):
            pipeline = line(
                lambda rows=num_rows, size=batch_size: Numbers(num_rows=rows, batch_size=size),
                lambda: Plus(input_batch_size=2),
                lambda: Plus(input_batch_size=3, column="second"),
            )
            result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=num_rows)
            assert result.dataset["n"][:] == list(range(num_rows))


def test_a_pipeline_can_be_run_again_and_is_as_it_was(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=7), Plus)
    before, dump = set(vars(pipeline)), pipeline.dump()
    first = rows_of(run_pipeline(pipeline, work_dir=tmp_path))
    assert type(pipeline) is Pipeline
    assert set(vars(pipeline)) == before
    assert pipeline.dump() == dump
    assert rows_of(run_pipeline(pipeline, work_dir=tmp_path)) == first


def test_runtime_parameters_reach_their_step(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=7))
    result = run_pipeline(pipeline, work_dir=tmp_path, parameters={"numbers_0": {"batch_size": 2}})
    assert result.rows == 7
    assert pipeline.dag.get_step("numbers_0")["step"].batch_size == 2
    with pytest.raises(PipelineRunError, match=r"unknown steps \['number'\].*numbers_0"):
        run_pipeline(pipeline, work_dir=tmp_path, parameters={"number": {"batch_size": 2}})


def test_replicas_keep_the_order_of_rows(tmp_path: Path) -> None:
    pipeline = line(
        lambda: Numbers(num_rows=40, batch_size=5),
        lambda: SlowFirst(input_batch_size=5, resources={"replicas": 3}),
    )
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=40)
    assert result.dataset["n"][:] == list(range(40))


def test_a_global_step_gets_all_rows_of_slower_replicas_too(tmp_path: Path) -> None:
    pipeline = line(
        lambda: Numbers(num_rows=20, batch_size=5),
        lambda: SlowFirst(input_batch_size=5, resources={"replicas": 2}),
        Total,
        lambda: Plus(column="after"),
    )
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=20)
    assert set(result.dataset["total"]) == {sum(range(20))}
    assert result.dataset["after"][:] == list(range(1, 21))


def test_several_leaf_steps_give_several_datasets(tmp_path: Path) -> None:
    with Pipeline("leaves") as pipeline:
        numbers = Numbers(num_rows=9, batch_size=2)
        kept, removed = Filter(name="kept", below=4), Plus(name="all")
        numbers >> [kept, removed]
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=13)
    assert {name: len(dataset) for name, dataset in result.dataset.items()} == {"kept": 4, "all": 9}


def test_branches_are_joined_by_position(tmp_path: Path) -> None:
    with Pipeline("join") as pipeline:
        numbers = Numbers(num_rows=9, batch_size=2)
        left, right, join = Plus(name="left"), Plus(name="right", column="other"), Join()
        numbers >> [left, right] >> join
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=9)
    assert rows_of(result)[8] == {"n": 8, "text": "row 8", "plus": 9, "other": 9, "joined": True}


def test_a_generator_works_while_the_next_step_does(tmp_path: Path) -> None:
    pipeline = line(
        lambda: StampedNumbers(num_rows=8, batch_size=1), lambda: Stamps(input_batch_size=1)
    )
    rows = rows_of(run_pipeline(pipeline, work_dir=tmp_path, expected_rows=8))
    assert any(after["made"] < row["plus"] for row, after in itertools.pairwise(rows))


def test_engines_are_told_where_their_journal_is(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=2), lambda: Journaled(llm=EngineLike()))
    result = run_pipeline(pipeline, work_dir=tmp_path)
    assert set(result.dataset["plus"]) == {str(tmp_path / "journal.sqlite")}


def test_progress_of_steps_is_heard_and_distilabel_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_pipeline(line(lambda: Numbers(num_rows=4), Talks), work_dir=tmp_path)
    assert [(r.name, r.levelno, r.message) for r in caplog.records] == [
        ("distilabel.step.talks_0", logging.INFO, "4 rows so far")
    ]


def test_progress_is_printed_where_logging_is_not_set_up(tmp_path: Path) -> None:
    code = (
        "from running_steps import *; from test_running import *\n"
        f"run_pipeline(line(lambda: Numbers(num_rows=4), Talks), work_dir={str(tmp_path)!r})"
    )
    done = run_python(code)
    assert "4 rows so far\n" in done.stderr
    assert "distilabel" not in done.stdout + done.stderr.replace("site-packages/distilabel", "")


def test_a_thread_left_by_a_step_does_not_hold_the_run(tmp_path: Path) -> None:
    assert run_pipeline(line(Numbers, HoldsAThread), work_dir=tmp_path).rows == 10


def test_no_network_and_no_file_outside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_connection(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", no_connection)
    monkeypatch.setattr(socket, "getaddrinfo", no_connection)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "bs4", None)
    run_pipeline(line(Numbers, Plus, Total), work_dir=tmp_path / "work", expected_rows=10)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == ["work/rows/total_0/part-00000.arrow"]  # [C6]: and no cache among them


# Framework traps


@pytest.mark.parametrize("below", [0, 4, 9])
def test_f1_an_empty_last_batch_travels(tmp_path: Path, below: int) -> None:
    pipeline = line(
        lambda: Numbers(num_rows=10, batch_size=2),
        lambda: Filter(below=below, input_batch_size=2),
        lambda: Plus(input_batch_size=3),
        Total,
    )
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=below)
    assert (result.dataset["n"][:] if below else []) == list(range(below))


def test_f2_f3_columns_that_are_empty_or_missing_at_first(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=120, batch_size=10), lambda: LateColumn(first=60))
    rows = rows_of(run_pipeline(pipeline, work_dir=tmp_path, expected_rows=120))
    assert [row["text_or_none"] for row in rows[58:62]] == [None, None, "text 60", "text 61"]
    assert [row["items"] for row in rows[58:62]] == [[], [], ["item 60"], ["item 61"]]
    assert [row["config"]["seed"] for row in rows[58:62]] == [None, None, 60, 61]
    assert [row["sometimes"] for row in rows[:4]] == [None, 1, None, 3]


def test_f2_types_that_only_show_in_a_later_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("magpie_steps.supervision.row_files.ROWS_PER_WRITE", 10)
    pipeline = line(lambda: Numbers(num_rows=40, batch_size=5), lambda: LateColumn(first=30))
    rows = rows_of(run_pipeline(pipeline, work_dir=tmp_path, expected_rows=40))
    assert rows[0]["items"] == []
    assert rows[0]["config"] == {"seed": None, "inner": {"x": None}, "tags": []}
    assert rows[39]["items"] == ["item 39"]


def test_f3_a_global_step_gets_rows_as_they_are(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=10), lambda: LateColumn(first=5), Total)
    rows = rows_of(run_pipeline(pipeline, work_dir=tmp_path, expected_rows=10))
    assert [row["sometimes"] for row in rows[:4]] == [None, 1, None, 3]


def test_a_column_of_two_types_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"column 'plus' of step 'mixed_types_0'"):
        run_pipeline(line(Numbers, MixedTypes), work_dir=tmp_path)


def test_f4_every_yield_counts(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=12, batch_size=6), YieldsTwice)
    assert run_pipeline(pipeline, work_dir=tmp_path, expected_rows=12).dataset["n"][:] == list(
        range(12)
    )


def test_f4_no_yield_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"'yields_nothing_0'.*yielded nothing"):
        run_pipeline(line(Numbers, YieldsNothing), work_dir=tmp_path)


def test_f5_only_the_rows_at_fault_fail(tmp_path: Path) -> None:
    pipeline = line(
        lambda: Numbers(num_rows=30, batch_size=10),
        lambda: FailsOnRows(bad=[4, 17], column="risky"),
        lambda: Plus(column="after"),
        Total,
    )
    with pytest.raises(
        PipelineRunError,
        match=r"2 of 30 rows failed: step 'fails_on_rows_0' on 2, .*ValueError: cannot do row 17",
    ) as caught:
        run_pipeline(pipeline, work_dir=tmp_path, expected_rows=30)
    assert caught.value.step == "fails_on_rows_0"
    assert caught.value.result is not None
    assert caught.value.result.failed_rows == {"fails_on_rows_0": 2}
    rows = rows_of(caught.value.result)
    assert [row["n"] for row in rows] == list(range(30))
    for row in rows:
        failed = row["n"] in (4, 17)
        assert row["risky"] == row["after"] == (None if failed else row["n"] + 1)
        assert set(row) == {"n", "text", "risky", "after", "total"}


def test_f5_a_batch_that_only_fails_as_a_batch_loses_nothing(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=6), lambda: FailsOnRows(only_in_batches=True))
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=6)
    assert result.dataset["plus"][:] == list(range(1, 7))
    assert result.dataset.column_names == ["n", "text", "plus"]
    assert "too many at once" in result.notes["fails_on_rows_0"][0]


def test_f5_a_step_that_fails_on_everything_ends_the_run(tmp_path: Path) -> None:
    pipeline = line(
        lambda: Numbers(num_rows=5000, batch_size=500),
        lambda: FailsOnRows(bad=list(range(5000)), input_batch_size=500),
    )
    with pytest.raises(
        PipelineRunError, match=r"'fails_on_rows_0' failed: 20 rows one after.*do row 19"
    ):
        run_pipeline(pipeline, work_dir=tmp_path)


def test_f6_a_global_step_that_raises(tmp_path: Path) -> None:
    pipeline = line(Numbers, lambda: Total(fail=True), Plus)
    with pytest.raises(PipelineRunError, match=r"step 'total_0' failed: ArithmeticError") as caught:
        run_pipeline(pipeline, work_dir=tmp_path)
    assert "no total today" in caught.value.details


def test_f7_a_class_inside_a_function(tmp_path: Path) -> None:
    class Local(Plus):
        pass

    with pytest.raises(
        PipelineRunError, match=r"step 'local_0' cannot be sent.*Local is defined inside a function"
    ):
        run_pipeline(line(Numbers, Local), work_dir=tmp_path)


def test_f7_the_part_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"'holds_a_lock_0'.*'_lock' cannot be pickled"):
        run_pipeline(line(Numbers, HoldsALock), work_dir=tmp_path)


def test_f8_a_killed_process(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"step 'kills_itself_0'.*SIGKILL.*out of memory"):
        run_pipeline(line(Numbers, KillsItself, Plus), work_dir=tmp_path)


def test_f8_a_killed_process_whose_step_has_not_begun(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"a later step: its process was killed \(SIGKILL\)"):
        run_pipeline(line(Numbers, KillsTheLast, Total), work_dir=tmp_path)


def test_f8_a_process_that_leaves(tmp_path: Path) -> None:
    pipeline = line(Numbers, lambda: KillsItself(how="exit"))
    with pytest.raises(PipelineRunError, match=r"step 'kills_itself_0'.*exit status 3"):
        run_pipeline(pipeline, work_dir=tmp_path)


def test_f9_a_generator_that_never_flags_its_last_batch(tmp_path: Path) -> None:
    pipeline = line(lambda: Unflagged(num_rows=10, batch_size=5), lambda: Plus(input_batch_size=5))
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=10)
    assert result.dataset["n"][:] == list(range(10))
    assert "without flagging a last batch" in result.notes["unflagged_0"][0]


def test_f10_unload_that_raises_costs_no_row(tmp_path: Path) -> None:
    result = run_pipeline(line(Numbers, FailsToUnload, Total), work_dir=tmp_path, expected_rows=10)
    assert result.notes == {
        "fails_to_unload_0": ("unload() raised AttributeError: model_executor",)
    }


def test_load_that_raises(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineRunError, match=r"step 'fails_to_load_0' could not be loaded: FileNotFoundError"
    ):
        run_pipeline(line(Numbers, FailsToLoad), work_dir=tmp_path)


def test_f13_outside_the_main_thread(tmp_path: Path) -> None:
    done: list[RunResult] = []
    pipeline = line(Numbers, Plus)
    thread = threading.Thread(
        target=lambda: done.append(run_pipeline(pipeline, work_dir=tmp_path, expected_rows=10))
    )
    thread.start()
    thread.join(30)
    assert [result.rows for result in done] == [10]


def test_f17_a_generator_that_raises(tmp_path: Path) -> None:
    pipeline = line(lambda: RaisingNumbers(batch_size=5), Plus)
    with pytest.raises(
        PipelineRunError, match=r"step 'raising_numbers_0' failed: ConnectionError: the server went"
    ):
        run_pipeline(pipeline, work_dir=tmp_path)


def test_rows_that_cannot_leave_their_process(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"'sends_unpicklable_0'.*cannot be sent on"):
        run_pipeline(line(Numbers, SendsUnpicklable), work_dir=tmp_path)


def test_silence_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"no sign of life.*'sleeps_0'.*idle_timeout"):
        run_pipeline(line(Numbers, Sleeps), work_dir=tmp_path, idle_timeout_seconds=1)


def test_a_stall_is_seen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes distilabel's loop wait for nothing: here it forgets to ask the generator."""
    monkeypatch.setattr(compat.SafePipeline, "_manage_batch_flow", lambda *_: None)
    with pytest.raises(PipelineRunError, match=r"has stalled.*'numbers_0'"):
        run_pipeline(line(lambda: Numbers(batch_size=5)), work_dir=tmp_path)


def test_branches_of_unequal_length(tmp_path: Path) -> None:
    with Pipeline("unequal") as pipeline:
        numbers = Numbers(num_rows=9, batch_size=2)
        numbers >> [Plus(), Filter(below=3)] >> Join()
    with pytest.raises(PipelineRunError, match=r"'join_0' failed.*branches by position"):
        run_pipeline(pipeline, work_dir=tmp_path)


def test_the_number_of_rows_is_checked(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=10, batch_size=2))
    with pytest.raises(PipelineRunError, match=r"expected 12 rows.*10") as caught:
        run_pipeline(pipeline, work_dir=tmp_path, expected_rows=12)
    assert caught.value.result is not None
    with pytest.raises(PipelineRunError, match=r"expected 5 rows.*6 and are not done"):
        run_pipeline(pipeline, work_dir=tmp_path, expected_rows=5)


def test_a_pipeline_that_is_not_valid(tmp_path: Path) -> None:
    with pytest.raises(PipelineRunError, match=r"not valid.*n"):
        run_pipeline(line(lambda: LoadDataFromDicts(data=[{"other": 1}]), Plus), work_dir=tmp_path)
    with pytest.raises(PipelineRunError, match="no steps"):
        run_pipeline(Pipeline("empty"), work_dir=tmp_path)


def test_a_folder_is_used_by_one_run_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PipelineRunError, match="another run is using"):
            run_pipeline(line(Numbers), work_dir=tmp_path)
    assert run_pipeline(line(Numbers), work_dir=tmp_path).rows == 10


# Threads and forks


def test_busy_threads_of_the_caller_do_no_harm(tmp_path: Path) -> None:
    """Processes are forked while other threads hold locks, those of logging and printing too."""
    stop = threading.Event()
    logger = logging.getLogger("busy")
    logger.addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: SIM115
    logger.propagate = False

    def work() -> None:
        while not stop.is_set():
            logger.warning("%s", list(range(50)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            run_pipeline(line(Numbers, Talks, Total), work_dir=tmp_path, expected_rows=10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        logger.handlers.pop().stream.close()


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    done: dict[str, RunResult] = {}
    # Built one after the other: distilabel keeps the pipeline that is being built in a global.
    pipelines = {
        text: line(lambda text=text: Numbers(num_rows=40, batch_size=2, text=text), Plus)
        for text in "abc"
    }

    def run(text: str) -> None:
        done[text] = run_pipeline(pipelines[text], work_dir=tmp_path / text, expected_rows=40)

    threads = [threading.Thread(target=run, args=(text,)) for text in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == ["a", "b", "c"]
    for text, result in done.items():
        assert result.dataset["text"][39] == f"{text} 39"


# Signals


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_f16_no_process_outlives_the_run(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Neither the step's process nor what it has started, however the main process ends."""
    pid_file = tmp_path / "pid"
    code = (
        # A shell's background jobs ignore the interrupt, and so would this child of one.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from running_steps import *; from test_running import *\n"
        f"numbers = SleepingNumbers, {str(pid_file)!r}\n"
        "pipeline = line(lambda: numbers[0](pid_file=numbers[1], batch_size=2), Plus)\n"
        "try:\n"
        f"    run_pipeline(pipeline, work_dir={str(tmp_path)!r})\n"
        "except KeyboardInterrupt:\n"
        "    raise SystemExit(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment(), cwd=tmp_path) as main:
        try:
            wait_for(lambda: pid_file.is_file() and len(pid_file.read_text().split()) == 2)
            time.sleep(0.5)
            pids = [int(pid) for pid in pid_file.read_text().split()]
            main.send_signal(number)
            assert main.wait(60) == status
        finally:
            main.kill()
    wait_for(lambda: not any(map(is_running, pids)))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(ready: Callable[[], bool], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# Cache traps


def test_c1_other_input_data_is_another_run(tmp_path: Path) -> None:
    def run(rows: int, text: str) -> RunResult:
        data = [{"n": n, "text": text} for n in range(rows)]
        pipeline = line(lambda: LoadDataFromDicts(data=data), Plus)
        return run_pipeline(pipeline, work_dir=tmp_path, use_cache=True)

    assert set(run(20, "AAA").dataset["text"]) == {"AAA"}
    other = run(35, "BBB")
    assert set(other.dataset["text"]) == {"BBB"}
    assert (other.rows, other.from_cache) == (35, False)
    again = run(20, "AAA")
    assert (again.rows, again.from_cache, set(again.dataset["text"])) == (20, True, {"AAA"})


def test_c4_another_generator_is_another_run(tmp_path: Path) -> None:
    for rows in (20, 35):
        result = run_pipeline(
            line(lambda rows=rows: Numbers(num_rows=rows), Plus),
            work_dir=tmp_path,
            use_cache=True,
            expected_rows=rows,
        )
        assert not result.from_cache


def test_c2_c3_a_run_that_was_cut_short_is_run_again_in_full(tmp_path: Path) -> None:
    broken = line(
        lambda: Numbers(num_rows=30, batch_size=5), lambda: KillsItself(input_batch_size=1)
    )
    with pytest.raises(PipelineRunError):
        run_pipeline(broken, work_dir=tmp_path, use_cache=True)
    for column in ("plus", "changed"):
        pipeline = line(
            lambda: Numbers(num_rows=30, batch_size=5), lambda column=column: Plus(column=column)
        )
        result = run_pipeline(pipeline, work_dir=tmp_path, use_cache=True, expected_rows=30)
        assert (result.from_cache, result.dataset[column][29]) == (False, 30)


@pytest.mark.parametrize("content", ["", "{", '{"plus_0": ["missing.arrow"]}'])
def test_c5_a_spoilt_cache_never_stops_a_run(tmp_path: Path, content: str) -> None:
    pipeline = line(Numbers, Plus)
    run_pipeline(pipeline, work_dir=tmp_path, use_cache=True)
    finished = next(tmp_path.rglob("finished.json"))
    finished.write_text(content)
    result = run_pipeline(pipeline, work_dir=tmp_path, use_cache=True, expected_rows=10)
    assert not result.from_cache
    assert run_pipeline(pipeline, work_dir=tmp_path, use_cache=True, expected_rows=10).from_cache


def test_c7_other_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "changing_step.py"
    module.write_text("from running_steps import Plus\nclass Changing(Plus): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    changing = __import__("changing_step").Changing

    def from_cache() -> bool:
        pipeline = line(Numbers, changing)
        return run_pipeline(pipeline, work_dir=tmp_path / "work", use_cache=True).from_cache

    assert [from_cache(), from_cache()] == [False, True]
    module.write_text(module.read_text() + "# changed\n")
    assert not from_cache()


def test_c8_a_new_file_where_one_works_is_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is empty names no path, not even the folder that one is in."""
    monkeypatch.chdir(tmp_path)

    def from_cache() -> bool:
        return run_pipeline(line(Numbers, Noted), work_dir="work", use_cache=True).from_cache

    assert not from_cache()
    (tmp_path / "notes.txt").touch()
    assert from_cache()


# Speed, and other releases


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    return sum(os.times()[:4])


def test_fifty_thousand_rows_cost_few_seconds_of_cpu(tmp_path: Path) -> None:
    """In CPU time, since a busy machine's clock proves nothing; 30,000 rows/s were measured."""
    pipeline = line(lambda: WideRows(num_rows=50_000, batch_size=1000))
    start = cpu_seconds()
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=50_000)
    assert result.rows / (cpu_seconds() - start) > 7_000


def test_another_release_of_distilabel_runs_as_it_is_but_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "SUPPORTED_VERSION", "0.0.0")
    pipeline = line(lambda: Numbers(num_rows=10, batch_size=5), Plus)
    with pytest.warns(RuntimeWarning, match=r"as it is"):
        result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=10)
    assert result.dataset["plus"][:] == list(range(1, 11))


@pytest.mark.parametrize(
    ("step", "idle_timeout_seconds", "message"),
    [
        (KillsItself, 100, "process .* died with exit code"),
        (lambda: FailsOnRows(bad=[3]), 100, "1 batch.* failed and hold nothing but None"),
        (Sleeps, 5, "no step has finished a batch"),
    ],
)
def test_another_release_does_not_hang_either(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[[], Any],
    idle_timeout_seconds: float,
    message: str,
) -> None:
    monkeypatch.setattr(compat, "SUPPORTED_VERSION", "0.0.0")
    pipeline = line(Numbers, step)
    with (
        pytest.warns(RuntimeWarning, match=r"as it is"),
        pytest.raises(PipelineRunError, match=message),
    ):
        run_pipeline(pipeline, work_dir=tmp_path, idle_timeout_seconds=idle_timeout_seconds)
