"""A finished completion is there after any accident, and counted once per generation."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from magpie_steps.engines.base import EngineLostError, Sampling
from magpie_steps.engines.journal import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    Journal,
    JournalError,
    Record,
)
from magpie_steps.engines.scripted import ScriptedEngine

ROOT = Path(__file__).parents[1]

# Writes completions as fast as it can and tells after each event loop turn what must be there.
WRITER = """
import asyncio, sys
from pathlib import Path
from magpie_steps.engines.journal import Journal

async def main(path, first):
    journal = Journal(Path(path), run_id=f"writer-{first}")
    number = first
    while True:
        for _ in range(1 + number % 5):
            journal.record(b"%032d" % number, (f"text {number}", (number,), "stop", 5, 1, 1))
            number += 1
        await asyncio.sleep(0)
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

VERSION_1 = f"""
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, started REAL NOT NULL,
    generated INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE completions (
    key BLOB NOT NULL UNIQUE, run INTEGER NOT NULL, text TEXT NOT NULL, token_ids BLOB NOT NULL,
    finish_reason TEXT NOT NULL, stop_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
);
INSERT INTO runs VALUES (1, 'old', 1.5, 2, 4);
INSERT INTO completions VALUES
    (CAST('{1:032d}' AS BLOB), 1, 'old text', X'0700000008000000', 'stop', '8', 5, 2),
    (CAST('{2:032d}' AS BLOB), 1, 'cut', X'0900000007000000', 'length', 'null', 5, 2);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = 1;
"""
"""A journal as the first version wrote it, with two completions."""


def record_of(number: int) -> Record:
    return (f"text {number}", (number, 2, 70_000), "stop", 5, 3, 3)


def key_of(number: int) -> bytes:
    return b"%032d" % number


def start_writer(path: Path, first: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / "journal.sqlite"


@pytest.mark.parametrize("stop_reason", [None, 17, "\n", "17"])
def test_what_is_recorded_comes_back_exactly(path: Path, stop_reason: int | str | None) -> None:
    record: Record = (
        "text\x00 with é, 你好 and \ud7ff",
        (0, 1, 151_643),
        "stop",
        stop_reason,
        4,
        3,
    )
    journal = Journal(path)
    journal.record(key_of(1), record)
    assert journal.lookup(key_of(1)) == record
    assert journal.lookup(key_of(2)) is None
    journal.close()
    again = Journal(path)
    assert again.lookup(key_of(1)) == record
    again.close()


def test_half_a_surrogate_pair_is_a_text_like_others(path: Path) -> None:
    """A server's JSON may hold one; the journal then took nothing any more, without a word."""
    torn: Record = ("half of \ud83d", (1,), "stop", "\udc00", 1, 1)

    async def write() -> None:
        journal.record(key_of(1), torn)
        journal.record(key_of(2), record_of(2))
        await asyncio.sleep(0)
        journal.record(key_of(3), record_of(3))
        await asyncio.sleep(0)

    journal = Journal(path)
    asyncio.run(write())
    assert journal.lookup(key_of(1)) == torn
    journal.close()
    again = Journal(path)
    assert again.lookup(key_of(1)) == torn
    assert again.lookup(key_of(2)) == record_of(2)
    assert again.counts()["generated"] == 3
    again.close()


def test_one_turn_of_the_loop_is_one_commit(path: Path) -> None:
    other = Journal(path)

    async def record_three(journal: Journal) -> None:
        for number in range(3):
            journal.record(key_of(number), record_of(number))
            assert journal.lookup(key_of(number)) == record_of(number)
        assert other.lookup(key_of(0)) is None
        await asyncio.sleep(0)
        assert other.lookup(key_of(2)) == record_of(2)

    journal = Journal(path)
    asyncio.run(record_three(journal))
    journal.close()
    other.close()


def test_runs_are_numbered_and_everything_generated_is_counted(path: Path) -> None:
    for run in range(3):
        journal = Journal(path)
        assert journal.counts()["generated_this_run"] == 0
        for number in range(run + 1):
            journal.record(key_of(number), record_of(number))  # key 0 is made three times
        assert journal.counts()["generated_this_run"] == run + 1
        journal.close()
    journal = Journal(path)
    assert journal.counts() == {
        "completions": 3,
        "generated": 6,
        "generated_this_run": 0,
        "completion_tokens": 18,
        "runs": 3,
    }
    journal.close()


def test_processes_of_one_run_share_its_number(path: Path) -> None:
    first, second = Journal(path, run_id="a"), Journal(path, run_id="a")
    first.record(key_of(1), record_of(1))
    second.record(key_of(2), record_of(2))
    assert first.counts()["generated_this_run"] == second.counts()["generated"] == 2
    assert first.counts()["runs"] == 1
    first.close()
    second.close()


def test_two_writers_and_a_reader_share_the_file(path: Path) -> None:
    Journal(path).close()
    writers = [start_writer(path, first) for first in (0, 1_000_000)]
    try:
        reader = Journal(path)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (
            reader.lookup(key_of(0)) and reader.lookup(key_of(1_000_000))
        ):
            time.sleep(0.02)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert reader.lookup(key_of(0)) is not None
    assert reader.lookup(key_of(1_000_000)) is not None
    assert reader.counts()["runs"] == 2
    reader.close()


def test_processes_that_open_a_new_journal_at_once_agree_on_it(tmp_path: Path) -> None:
    """One read the mark of a journal before another process set it, and the tables after."""
    code = """
import sys, time
from pathlib import Path
from magpie_steps.engines.journal import Journal

start = float(sys.argv[1])
for i in range(60):
    time.sleep(max(0.0, start + i * 0.01 - time.time()))
    Journal(Path(sys.argv[2]) / f"{i}.sqlite").close()
"""
    command = [sys.executable, "-c", code, str(time.time() + 1.5), str(tmp_path)]
    openers = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [opener.communicate()[1] for opener in openers] == ["", "", ""]


def test_sigkill_at_any_moment_loses_at_most_what_was_in_flight(path: Path) -> None:
    """A writer killed at random moments: whatever it said was recorded is there, whole."""
    chance = random.Random(3)
    first = 0
    for _ in range(5):
        writer = start_writer(path, first)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.random() * 0.15)
        writer.send_signal(signal.SIGKILL)
        said = [line for line in writer.communicate()[0].splitlines() if line]
        promised = int(said[-1]) if said else first + 1 + first % 5
        journal = Journal(path)
        for number in range(first, promised):
            assert journal.lookup(key_of(number)) == (f"text {number}", (number,), "stop", 5, 1, 1)
        counts = journal.counts()
        assert counts["generated"] == counts["completions"]
        journal.close()
        first = promised + 1_000_000
    assert counts["runs"] == 5


def test_a_copy_taken_while_writing_opens_and_holds_whole_records(
    path: Path, tmp_path: Path
) -> None:
    """As after a power cut: the main file and a torn write-ahead file."""
    journal = Journal(path)
    for number in range(50):
        journal.record(key_of(number), record_of(number))
    wal = path.with_name(path.name + "-wal")
    for cut in (0, 1, 700, 4_000):
        copy = tmp_path / f"cut{cut}" / path.name
        copy.parent.mkdir()
        shutil.copy(path, copy)
        log = wal.read_bytes()
        copy.with_name(wal.name).write_bytes(log[: len(log) - cut])
        restored = Journal(copy)
        found = [restored.lookup(key_of(number)) for number in range(50)]
        known = [record for record in found if record is not None]
        assert known == [record_of(number) for number in range(len(known))]
        assert len(known) >= 45
        assert restored.counts()["generated"] == len(known)
        restored.record(key_of(99), record_of(99))
        restored.close()
    journal.close()


def test_another_kind_of_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("This is not a database, but a letter." * 100)
    with pytest.raises(JournalError, match=r"journal\.sqlite cannot be used: .*not a database"):
        Journal(path)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE letters (text TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another program"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_newer_format_says_so(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(JournalError, match="newer version"):
        Journal(path)


def test_an_impossible_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "file" / "journal.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "folder")


def test_an_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    """A process killed between creating the file and writing to it leaves this."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"")
    journal = Journal(path)
    journal.record(key_of(1), record_of(1))
    assert journal.counts()["completions"] == 1
    journal.close()


def test_a_closed_journal_says_so_and_closing_twice_is_fine(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.lookup(key_of(1))


def test_recording_costs_little(path: Path) -> None:
    """Measured at 20 microseconds of CPU; three tries, since the machine may be busy."""
    journal = Journal(path)
    record: Record = ("x" * 300, tuple(range(60)), "stop", 5, 40, 60)

    async def write(first: int) -> None:
        for number in range(2_000):
            journal.record(key_of(first + number), record)
            if number % 16 == 0:
                await asyncio.sleep(0)

    best = 1.0
    for attempt in range(3):
        start = time.process_time()
        asyncio.run(write(attempt * 10_000))
        best = min(best, (time.process_time() - start) / 2_000)
    journal.close()
    assert best < 100e-6


def test_a_journal_that_cannot_be_written_says_so_at_the_next_record(path: Path) -> None:
    """The disk is full: what was committed stays, and nothing is lost without a word."""

    async def fill(journal: Journal) -> None:
        journal.record(key_of(1), ("x" * 100_000, (1,), "stop", None, 1, 1))
        await asyncio.sleep(0)
        with pytest.raises(JournalError, match=r"cannot be written: .*make room"):
            journal.record(key_of(2), record_of(2))

    journal = Journal(path)
    journal.record(key_of(0), record_of(0))
    assert journal._database is not None
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    asyncio.run(fill(journal))
    journal.close()
    again = Journal(path)
    assert again.lookup(key_of(0)) == record_of(0)
    assert again.lookup(key_of(1)) is None
    again.close()


def test_completions_of_the_last_turn_that_cannot_be_written_are_no_end_in_silence(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No record follows that would tell it: closing logs it, and unloading raises it."""
    engine = ScriptedEngine()
    engine.use_journal(path)
    engine.load()
    journal = engine._books.journal
    assert journal is not None
    assert journal._database is not None
    journal._database.execute("PRAGMA query_only = 1")
    asyncio.run(engine.complete((0, 1), Sampling()))
    with pytest.raises(EngineLostError, match=r"journal\.sqlite cannot be written: .*make room"):
        engine.unload()
    assert "1 completions are lost: the journal" in caplog.text
    with pytest.raises(JournalError, match="is closed"):
        journal.counts()
    engine.unload()


def test_a_full_disk_outside_a_loop_is_told_at_once_and_what_waits_is_written_later(
    path: Path,
) -> None:
    journal = Journal(path)
    journal.record(key_of(0), record_of(0))
    assert journal._database is not None
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    large: Record = ("x" * 100_000, (1,), "stop", None, 1, 1)
    with pytest.raises(JournalError, match=r"cannot be written: .*make room"):
        journal.record(key_of(1), large)
    with pytest.raises(JournalError, match="cannot be written"):
        journal.counts()
    journal._database.execute("PRAGMA max_page_count = 100000")
    assert journal.counts()["completions"] == 2
    assert journal.lookup(key_of(1)) == large
    journal.close()


def test_a_damaged_page_is_one_clear_error_wherever_it_is_met(path: Path) -> None:
    journal = Journal(path)
    for number in range(200):
        journal.record(key_of(number), record_of(number))
    journal.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    damaged = Journal(path)
    for read in (lambda: damaged.lookup(key_of(7)), damaged.counts, damaged.reports):
        with pytest.raises(JournalError, match=r"cannot be used: .*move that file away"):
            read()
    damaged.close()


# What engines say of their work


def version_1(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.executescript(VERSION_1)
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    return path


def user_version(path: Path) -> int:
    database = sqlite3.connect(path)
    found: int = database.execute("PRAGMA user_version").fetchone()[0]
    database.close()
    return found


def write(engine: ScriptedEngine, path: Path, seeds: range) -> None:
    async def main() -> None:
        for seed in seeds:
            await engine.complete((0, 1), Sampling(seed=seed))

    engine.use_journal(path)
    engine.load()
    asyncio.run(main())
    engine.unload()


def tokens_in(path: Path) -> int:
    journal = Journal(path)
    found = journal.counts()["completion_tokens"]
    journal.close()
    return found


def reports_in(path: Path) -> list[tuple[int, str, dict[str, object]]]:
    journal = Journal(path)
    found = journal.reports()
    journal.close()
    return found


def test_reports_come_back_in_order_with_their_numbers(path: Path) -> None:
    journal = Journal(path, run_id="a")
    assert journal.reports() == []
    journal.report("first", {"generated": 3, "busy_share": 0.5})
    other = Journal(path, run_id="b")
    other.report("second é", {})
    other.close()
    journal.report("first", {"generated": 4, "inner": {"list": [1, None]}})
    wanted = [
        (1, "first", {"generated": 3, "busy_share": 0.5}),
        (2, "second é", {}),
        (3, "first", {"generated": 4, "inner": {"list": [1, None]}}),
    ]
    assert journal.reports() == journal.reports(after=0) == wanted
    assert journal.reports(after=1) == wanted[1:]
    assert journal.reports(after=3) == []
    journal.close()
    assert reports_in(path) == wanted


def test_a_report_leaves_completions_and_counts_alone(path: Path) -> None:
    journal = Journal(path)

    async def main() -> None:
        journal.record(key_of(1), record_of(1))
        journal.report("model", {"generated": 1})
        journal.record(key_of(2), record_of(2))

    asyncio.run(main())
    assert journal.counts()["completions"] == journal.counts()["generated"] == 2
    assert journal.counts()["runs"] == 1
    journal.close()


def test_a_report_that_cannot_be_kept_raises_nothing(path: Path) -> None:
    """It is written when an engine is unloaded, which must not fail on a full disk."""
    journal = Journal(path)
    journal.record(key_of(0), record_of(0))
    assert journal._database is not None
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    journal.report("model", {"text": "x" * 100_000})
    assert journal.lookup(key_of(0)) == record_of(0)
    journal.close()
    journal.report("model", {"generated": 1})
    with pytest.raises(JournalError, match="is closed"):
        journal.reports()
    assert reports_in(path) == []


def test_a_journal_of_the_first_version_goes_on(path: Path) -> None:
    """It had no reports; its completions are kept, and replayed."""
    journal = Journal(version_1(path), run_id="new")
    assert user_version(path) == SCHEMA_VERSION == 2
    assert journal.lookup(key_of(1)) == ("old text", (7, 8), "stop", 8, 5, 2)
    assert journal.lookup(key_of(2)) == ("cut", (9, 7), "length", None, 5, 2)
    assert journal.reports() == []
    journal.record(key_of(3), record_of(3))
    journal.report("model", {"generated": 1})
    assert journal.counts() == {
        "completions": 3,
        "generated": 3,
        "generated_this_run": 1,
        "completion_tokens": 7,
        "runs": 2,
    }
    journal.close()
    again = Journal(path)
    assert again.lookup(key_of(1)) == ("old text", (7, 8), "stop", 8, 5, 2)
    assert again.lookup(key_of(3)) == record_of(3)
    assert again.reports() == [(1, "model", {"generated": 1})]
    again.close()


def test_processes_that_open_a_journal_of_the_first_version_at_once_agree_on_it(
    tmp_path: Path,
) -> None:
    """As the steps of a pipeline do, after an update in mid-run."""
    code = """
import sys, time
from pathlib import Path
from magpie_steps.engines.journal import Journal

start = float(sys.argv[1])
for i in range(40):
    time.sleep(max(0.0, start + i * 0.01 - time.time()))
    journal = Journal(Path(sys.argv[2]) / f"{i}.sqlite")
    journal.report(sys.argv[3], {"number": i})
    assert journal.lookup(b"%032d" % 1)[0] == "old text"
    journal.close()
"""
    for i in range(40):
        version_1(tmp_path / f"{i}.sqlite")
    command = [sys.executable, "-c", code, str(time.time() + 1.5), str(tmp_path)]
    openers = [
        subprocess.Popen([*command, name], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    assert [opener.communicate()[1] for opener in openers] == ["", "", ""]
    for i in range(40):
        found = reports_in(tmp_path / f"{i}.sqlite")
        assert sorted(name for _, name, _ in found) == ["a", "b", "c"]
        assert [number for number, _, _ in found] == [1, 2, 3]


def test_an_engine_reports_what_it_did_when_it_is_unloaded(path: Path) -> None:
    engine = ScriptedEngine()
    write(engine, path, range(5))
    engine.unload()  # says nothing twice
    ((number, model, content),) = reports_in(path)
    assert (number, model) == (1, "scripted")
    assert content == engine.stats.as_dict()
    assert (content["generated"], content["replayed"], content["failed"]) == (5, 0, 0)
    assert content["completion_tokens"] == tokens_in(path) > 5
    assert content["prompt_tokens"] == 10
    assert content["capacity"] == engine.capacity
    assert set(content) >= {"seconds", "busy_share", "cached_tokens", "retries"}


def test_each_engine_of_a_run_reports_and_each_run_anew(path: Path) -> None:
    write(ScriptedEngine(), path, range(3))
    write(ScriptedEngine(seed=1), path, range(4))
    write(ScriptedEngine(), path, range(4))
    counts = [(c["generated"], c["replayed"]) for _, _, c in reports_in(path)]
    assert counts == [(3, 0), (4, 0), (1, 3)]


def test_an_engine_that_only_replayed_says_so_and_an_idle_one_nothing(path: Path) -> None:
    write(ScriptedEngine(), path, range(3))
    write(ScriptedEngine(), path, range(3))
    write(ScriptedEngine(), path, range(0))
    counts = [(c["generated"], c["replayed"]) for _, _, c in reports_in(path)]
    assert counts == [(3, 0), (0, 3)]


def test_failures_are_reported_too(path: Path) -> None:
    engine = ScriptedEngine(failure_fraction=1.0)
    with pytest.raises(RuntimeError, match="as it was told to"):
        write(engine, path, range(1))
    engine.unload()
    ((_, _, content),) = reports_in(path)
    assert (content["generated"], content["failed"]) == (0, 1)
