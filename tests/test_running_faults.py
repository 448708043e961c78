"""What a run does when the world around it fails: signals, disks, clocks, other runs."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from running_steps import (
    FailsOnce,
    FailsOnRows,
    GivesNone,
    Numbers,
    Plus,
    StampedNumbers,
    Stamps,
    TornText,
)
from test_running import environment, is_running, line, rows_of
from waiting import completions, wait_for

from magpie_steps import ConversationGenerator, ScriptedEngine
from magpie_steps.engines.journal import Journal
from magpie_steps.running import PipelineRunError, run_pipeline
from magpie_steps.supervision.folder_lock import NAME, locked

pytestmark = [pytest.mark.timeout(200), pytest.mark.alone]

ROOT = Path(__file__).parents[1]
JOB = ROOT / "pipelines" / "magpie_pro.py"


# No silent failure


def test_a_step_that_fails_once_costs_no_row_and_is_told(tmp_path: Path) -> None:
    pipeline = line(lambda: Numbers(num_rows=30, batch_size=10), FailsOnce)
    result = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=30)
    assert result.dataset["plus"][:] == list(range(1, 31))
    assert not result.failed_rows
    [note] = result.notes["fails_once_0"]
    assert "a batch raised ConnectionError: away for a moment; each of its rows alone" in note


@pytest.mark.parametrize("step", [FailsOnRows, GivesNone])
@pytest.mark.parametrize("bad", [[7], [*range(10, 20)], [0, 29]])
def test_rows_that_stay_empty_are_counted_and_the_others_are_whole(
    tmp_path: Path, bad: list[int], step: type[FailsOnRows]
) -> None:
    """One row, a whole batch, the first and the last one; whether or not the step raises."""
    pipeline = line(
        lambda: Numbers(num_rows=30, batch_size=10),
        lambda: step(bad=bad, input_batch_size=10),
    )
    with pytest.raises(PipelineRunError, match=f"{len(bad)} of 30 rows failed") as caught:
        run_pipeline(pipeline, work_dir=tmp_path, expected_rows=30)
    assert caught.value.result is not None
    rows = rows_of(caught.value.result)
    assert [row["plus"] for row in rows] == [None if n in bad else n + 1 for n in range(30)]


def test_a_job_whose_step_fails_on_a_row_ends_with_a_count_and_exit_code_1(
    tmp_path: Path,
) -> None:
    (tmp_path / "failing.py").write_text(
        "import sys\n"
        "from running_steps import FailsOnRows, Numbers\n"
        "from test_running import line\n"
        "from magpie_steps.job import Job\n"
        "def build(run):\n"
        "    return line(lambda: Numbers(num_rows=30), lambda: FailsOnRows(bad=[3, 4]))\n"
        "sys.exit(Job(name='failing', build=build, settings={}).main('Fails.'))\n"
    )
    done = run_python(
        tmp_path, "failing.py", "--dry-run", "--num-rows", "30", "--output-dir", "out"
    )
    assert done.returncode == 1
    assert "failing: error: 2 of 30 rows failed: step 'fails_on_rows_0' on 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_half_a_surrogate_pair_is_replaced_with_a_word_and_harms_no_other_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No file can hold it: one such text ended a run of any length at its last step."""
    result = run_pipeline(line(Numbers, TornText), work_dir=tmp_path, expected_rows=10)
    texts = ["half of \ufffd" if n == 3 else "whole \U0001f600" for n in range(10)]
    assert result.dataset["plus"][:] == [{"text": text, "items": [text]} for text in texts]
    assert "texts in column 'plus' hold half a surrogate pair" in caplog.text


def test_a_fast_generator_does_not_run_ahead_of_a_slow_step_further_down(tmp_path: Path) -> None:
    """The main process held every row that the slow step had not read: a gigabyte of 300,000."""
    pipeline = line(
        lambda: StampedNumbers(num_rows=30, batch_size=1),
        lambda: Plus(column="between", input_batch_size=1),
        lambda: Stamps(column="done", input_batch_size=1),
    )
    rows = rows_of(run_pipeline(pipeline, work_dir=tmp_path, expected_rows=30))
    assert all(row["made"] > earlier["done"] for row, earlier in zip(rows[8:], rows, strict=False))


# Signals


def slow_run(tmp_path: Path, delay_seconds: float) -> subprocess.Popen[str]:
    """Start a run of many rows, eight at once, each of whose completions takes a while."""
    code = (
        # A shell's background jobs ignore the interrupt, and so would this child of one.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from test_running_faults import conversations, run_pipeline\n"
        f"run_pipeline(conversations({delay_seconds}), work_dir='work', expected_rows=1000)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def conversations(delay_seconds: float, rows: int = 1000) -> Any:
    engine = ScriptedEngine(delay_seconds=delay_seconds)
    return line(lambda: ConversationGenerator(llm=engine, num_rows=rows, max_in_flight=8))


def wait_for_responses(journal: Path) -> None:
    """Wait until eight instructions are there and their responses, begun just after, in flight."""
    wait_for(lambda: completions(journal) == 8)
    time.sleep(0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_what_was_begun_and_begins_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Eight completions are in flight when the signal comes: they are kept, and no ninth is."""
    journal = tmp_path / "work" / "journal.sqlite"
    with slow_run(tmp_path, delay_seconds=3.0) as run:
        wait_for_responses(journal)
        start = time.monotonic()
        run.send_signal(number)
        _, said = run.communicate(timeout=60)
    assert run.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)
    assert "interrupt once more to stop at once" in said
    assert 1 < time.monotonic() - start < 15
    assert completions(journal) == 16
    # The next run goes on from there: the first eight rows have all that they need.
    result = run_pipeline(conversations(0.0, rows=20), work_dir=tmp_path / "work", expected_rows=20)
    assert all(result.dataset["keep"])
    assert completions(journal) == 40


def test_slurm_ends_every_process_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """Slurm signals the steps' processes too, and kills what is left after 30 seconds."""
    import psutil

    journal = tmp_path / "work" / "journal.sqlite"
    with slow_run(tmp_path, delay_seconds=3.0) as run:
        wait_for_responses(journal)
        for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children()]:
            process.terminate()
        start = time.monotonic()
        run.communicate(timeout=60)
    assert time.monotonic() - start < 25
    assert run.returncode == 143
    assert completions(journal) == 16


def test_the_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    with slow_run(tmp_path, delay_seconds=600.0) as run:
        lock = tmp_path / "work" / "journal.sqlite"
        wait_for(lock.is_file)
        time.sleep(3)
        run.send_signal(signal.SIGINT)
        time.sleep(1)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        start = time.monotonic()
        run.communicate(timeout=60)
    assert time.monotonic() - start < 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_step_s_process_is_started_ends_the_run(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Python dropped it there, or a process was left that its parent waited for without end."""
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from running_steps import Numbers, Plus\n"
        "from test_running import line, run_pipeline\n"
        f"os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), {int(number)}))\n"
        "run_pipeline(line(Numbers, Plus, Plus), work_dir='work')\n"
    )
    done = run_python(tmp_path, "-c", code, timeout=90)
    assert done.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)
    assert "Exception ignored" not in done.stderr


def test_an_interrupted_job_says_how_to_go_on(tmp_path: Path) -> None:
    """In the output folder as well as before: no traceback, one line."""
    command = [sys.executable, str(JOB), "--dry-run", "--num-rows", "200", "--output-dir", "out"]
    for moment, number, code in (
        ("out.work/settings.json", signal.SIGINT, 130),
        ("out.work/journal.sqlite", signal.SIGTERM, 143),
        ("out/run.json", signal.SIGINT, 130),
    ):
        with subprocess.Popen(
            [sys.executable, "-c", RESTORING, *command[1:]],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as run:
            wait_for((tmp_path / moment).exists)
            run.send_signal(number)
            _, said = run.communicate(timeout=60)
        assert run.returncode == code, said
        assert said.splitlines()[-1].endswith("ed; the same command goes on from here")
        assert "Traceback" not in said


RESTORING = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script that Ctrl-C reaches, also where this test runs in the background."""


# Other runs


def test_the_second_run_in_a_folder_is_told_whose_it_is(tmp_path: Path) -> None:
    caught: list[str] = []

    def second() -> None:
        try:
            run_pipeline(line(Numbers), work_dir=tmp_path)
        except PipelineRunError as error:
            caught.append(str(error))

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(30)
        assert run_pipeline(line(Numbers), work_dir=tmp_path).rows == 10  # this thread has it
    [message] = caught
    assert f"another run (process {os.getpid()} on " in message
    assert str(tmp_path) in message
    assert run_pipeline(line(Numbers), work_dir=tmp_path).rows == 10


def test_the_second_job_in_a_folder_is_refused_until_the_first_has_written_it(
    tmp_path: Path,
) -> None:
    """Two that wrote the output folder at once removed each other's files."""
    with locked(tmp_path / "out.work"):
        done = run_job(tmp_path)
    assert done.returncode == 2
    assert f"error: another run (process {os.getpid()} on" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_run_waits_for_the_last_process_of_one_that_was_killed(tmp_path: Path) -> None:
    """A step that goes on for seconds after its main process would write into the same files."""
    pid_file = tmp_path / "pid"
    code = (
        "from running_steps import *; from test_running import *\n"
        f"holds_on = lambda: HoldsOn(pid_file={str(pid_file)!r})\n"
        f"run_pipeline(line(Numbers, holds_on), work_dir={str(tmp_path)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment(), cwd=tmp_path) as main:
        wait_for(pid_file.exists)
        main.kill()
    pid = int(pid_file.read_text())
    assert is_running(pid)
    start = time.monotonic()
    assert run_pipeline(line(Numbers), work_dir=tmp_path).rows == 10
    assert not is_running(pid)
    assert time.monotonic() - start < 20


def test_a_lock_of_another_machine_is_not_waited_for(tmp_path: Path) -> None:
    """A process number says nothing there; a folder on a shared disk is refused at once."""
    code = (
        "import fcntl, sys, time\n"
        f"lock = open({str(tmp_path / NAME)!r}, 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('1 elsewhere', file=lock, flush=True); print(flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        start = time.monotonic()
        with (
            pytest.raises(PipelineRunError, match=r"\(process 1 on elsewhere\)"),
            locked(tmp_path),
        ):
            pass
        other.kill()
    assert time.monotonic() - start < 5


# Disks


def run_job(folder: Path, *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
    arguments = ["--dry-run", "--num-rows", "30", "--output-dir", "out", *flags]
    return run_python(folder, str(JOB), *arguments, **options)


def run_python(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder one that cannot be written to, also for root."""
    folder.mkdir()
    if os.getuid():
        folder.chmod(0o555)
        yield
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root may write anywhere here, and no file system can be mounted")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_folder_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    with read_only(tmp_path / "archive"):
        done = run_job(tmp_path, "--output-dir", "archive/out")
    assert done.returncode == 2
    assert "archive may not be written to; choose another folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_read_only_folder_stops_a_pipeline_by_its_name(tmp_path: Path) -> None:
    with (
        read_only(tmp_path / "archive"),
        pytest.raises(PipelineRunError, match=r"run in .*archive.*cannot go on: .*goes on from"),
    ):
        run_pipeline(line(Numbers), work_dir=tmp_path / "archive" / "work")


def limited(kib: int) -> Any:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024))


LONG = pytest.mark.long
FULL = ("File too large", "disk I/O error", "cannot write", "No usable temporary directory")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_job(folder).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kib", [0, *(pytest.param(kib, marks=LONG) for kib in (8, 40, 100))])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    undisturbed: Path, tmp_path: Path, kib: int
) -> None:
    """No file can become longer than this: the journal, the rows or the report fail."""
    full = run_job(tmp_path, preexec_fn=limited(kib))
    assert full.returncode in (1, 2), full.stderr
    assert "Traceback" not in full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith("magpie_pro: error: ")
    assert any(word in last for word in FULL), last
    assert run_job(tmp_path).returncode == 0
    folders = (tmp_path, undisturbed)
    rows, expected = (pq.read_table(folder / "out" / "data").to_pylist() for folder in folders)
    assert repr(rows) == repr(expected)
    names, usual = ({p.relative_to(folder) for p in folder.rglob("*")} for folder in folders)
    assert names == usual


def test_a_journal_on_a_full_disk_ends_the_run_at_once(tmp_path: Path) -> None:
    """Every later completion was computed, could not be kept and dropped its row."""
    work = tmp_path / "work"
    code = (
        "import resource\n"
        "from test_running_faults import conversations, run_pipeline\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "run_pipeline(conversations(0.01), work_dir='work', expected_rows=1000)\n"
    )
    done = run_python(tmp_path, "-c", code)
    assert done.returncode == 1
    assert "cannot be written: " in done.stderr
    said = " ".join(done.stderr.split())
    assert "make room or free the file, then run the same command again" in said
    assert 0 < completions(work / "journal.sqlite") < 1000
    result = run_pipeline(conversations(0.0), work_dir=work, expected_rows=1000)
    assert all(result.dataset["keep"])


class _ReadOnlyAtTheEnd(ScriptedEngine):
    """Its journal takes nothing more, and nothing is asked for that would tell it."""

    def load(self) -> None:
        super().load()
        journal = self._books.journal
        assert journal is not None
        assert journal._database is not None
        journal._database.execute("PRAGMA query_only = 1")


def test_a_journal_that_fails_in_the_last_turn_ends_the_run(tmp_path: Path) -> None:
    """Else a run would end well, and say that its lost completions were replayed."""
    pipeline = line(lambda: ConversationGenerator(llm=_ReadOnlyAtTheEnd(), num_rows=1))
    with pytest.raises(
        PipelineRunError, match=r"journal.* cannot be written: .*run the same"
    ) as it:
        run_pipeline(pipeline, work_dir=tmp_path, expected_rows=1)
    assert it.value.step == "conversation_generator_0"
    assert completions(tmp_path / "journal.sqlite") == 0
    pipeline = line(lambda: ConversationGenerator(llm=ScriptedEngine(), num_rows=1))
    assert run_pipeline(pipeline, work_dir=tmp_path, expected_rows=1).rows == 1


def test_a_journal_with_a_damaged_page_ends_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    run_pipeline(conversations(0.0), work_dir=tmp_path, expected_rows=1000)
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(PipelineRunError, match=r"journal\.sqlite cannot be used: .*move that file"):
        run_pipeline(conversations(0.0), work_dir=tmp_path, expected_rows=1000)
    path.unlink()
    assert run_pipeline(conversations(0.0), work_dir=tmp_path, expected_rows=1000).rows == 1000


@pytest.mark.parametrize("cut", [1, 700, 5_000])
def test_a_journal_with_a_torn_end_goes_on_with_what_is_whole(tmp_path: Path, cut: int) -> None:
    """As after a power cut while the last completions were written."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    expected = rows_of(run_pipeline(conversations(0.0, 60), work_dir=whole, expected_rows=60))
    with closing(sqlite3.connect(whole / "journal.sqlite")) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM completions")]
    source, copy = Journal(whole / "journal.sqlite"), Journal(tmp_path / "copy.sqlite")
    for key in keys:
        copy.record(key, source.lookup(key))
    torn.mkdir()
    log = (tmp_path / "copy.sqlite-wal").read_bytes()
    (torn / "journal.sqlite").write_bytes((tmp_path / "copy.sqlite").read_bytes())
    (torn / "journal.sqlite-wal").write_bytes(log[: len(log) - cut])
    for each in (source, copy):
        each.close()
    assert (
        rows_of(run_pipeline(conversations(0.0, 60), work_dir=torn, expected_rows=60)) == expected
    )
    assert completions(torn / "journal.sqlite") == len(keys)


# Clocks and memory


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forwards and backwards by days, in every process: the steps are forked from this one."""
    ticks = count()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(ticks) * 86_400 * 30)
    pipeline = line(lambda: Numbers(num_rows=50, batch_size=5), Plus)
    result = run_pipeline(
        pipeline, work_dir=tmp_path, expected_rows=50, idle_timeout_seconds=60, use_cache=True
    )
    assert 0 < result.seconds < 60
    rows = run_pipeline(conversations(0.05, 30), work_dir=tmp_path, expected_rows=30)
    assert 0 < rows.seconds < 60
    assert all(rows.dataset["keep"])


def test_no_shared_memory_is_needed(tmp_path: Path) -> None:
    """Containers often have no /dev/shm, or one that cannot be written to."""
    hide = "mount -t tmpfs -o ro tmpfs /dev/shm"
    tried = subprocess.run(["unshare", "-m", "sh", "-c", hide], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("/dev/shm can only be hidden by root")
    arguments = [str(JOB), "--num-rows", "10", "--output-dir", "out"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh", sys.executable, *arguments],
        cwd=tmp_path,
        env={**environment(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["generated"] == 10
