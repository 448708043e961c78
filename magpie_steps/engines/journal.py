"""Which completions are already there, whatever happened to the run that made them?"""

import asyncio
import json
import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

APPLICATION_ID = 0x4D475053  # "MGPS", so that another program's SQLite file is never taken for ours
SCHEMA_VERSION = 2

BUSY_TIMEOUT_MS = 60_000
"""How long a write waits for another process's write, in milliseconds."""

CHECKPOINT_PAGES = 8_000
"""Pages of 4 KiB in the write-ahead file before SQLite folds them into the main file: each fold
waits for the disk, so fewer are faster."""

Record = tuple[str, tuple[int, ...], str, int | str | None, int, int]
"""text, token_ids, finish_reason, stop_reason, prompt_tokens, completion_tokens."""

_SCHEMA = f"""
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, started REAL NOT NULL,
    generated INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE completions (
    key BLOB NOT NULL UNIQUE, run INTEGER NOT NULL, text TEXT NOT NULL, token_ids BLOB NOT NULL,
    finish_reason TEXT NOT NULL, stop_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
"""

_REPORTS = f"""
CREATE TABLE IF NOT EXISTS reports (
    report INTEGER PRIMARY KEY, run_id TEXT NOT NULL, model TEXT NOT NULL, content TEXT NOT NULL
);
PRAGMA user_version = {SCHEMA_VERSION};
"""
"""What version 1 did not have."""


_LOOKUP = """
SELECT text, token_ids, finish_reason, stop_reason, prompt_tokens, completion_tokens
FROM completions WHERE key = ?
"""


KEY_START = 8
"""So many bytes of a key tell it from all others, but for one journal in many thousands."""

_KEY_STARTS = f"SELECT substr(key, 1, {KEY_START}) FROM completions"  # nosec B608 - a number

_REPORTS_AFTER = "SELECT report, model, content FROM reports WHERE report > ? ORDER BY report"


_logger = logging.getLogger(__name__)


class JournalError(ValueError):
    """The journal's file cannot be used."""


_PASSING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY)
"""What is no fault of the file's content."""


def _failed(path: Path, error: Exception) -> JournalError:
    if getattr(error, "sqlite_errorcode", -1) & 0xFF in _PASSING:
        return JournalError(
            f"the journal {path} cannot be written: {error}; make room or free the file, then run"
            " the same command again"
        )
    return JournalError(
        f"the journal {path} cannot be used: {error}; move that file away (its completions are then"
        " generated again) or give another folder"
    )


class CompletionLog(ABC):
    """What an engine keeps its completions in, wherever that is.

    Completions recorded in one turn of an event loop are committed together at the end of that
    turn; outside a loop each is committed at once.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pending: dict[bytes, Record] = {}
        self._flush_due = False
        self._failure: JournalError | None = None

    @abstractmethod
    def _find(self, key: bytes) -> Any:
        """The record of a key that has been committed, or None."""

    @abstractmethod
    def _commit(self, records: Mapping[bytes, Record]) -> None:
        """Keep records, all or none; raises `JournalError`."""

    @abstractmethod
    def _is_open(self) -> bool:
        """Whether anything can be kept."""

    @abstractmethod
    def _drop(self) -> None:
        """Close without a word."""

    @abstractmethod
    def report(self, model: str, content: dict[str, Any]) -> None:
        """Keep what an engine says about its work in this run; never raises.

        Args:
            model: the engine's model.
            content: what JSON can hold.
        """

    def lookup(self, key: bytes) -> Any:
        """The record of a key as a tuple in `Record`'s order, or None."""
        with self._lock:
            pending = self._pending.get(key)
            return self._find(key) if pending is None else pending

    def record(self, key: bytes, record: Record) -> None:
        """Keep a finished completion; written by the end of this turn of the event loop.

        Raises:
            JournalError: an earlier completion could not be written (the disk is full, say).
        """
        with self._lock:
            if self._failure is not None:
                raise JournalError(str(self._failure)) from self._failure
            self._pending[key] = record
            if self._flush_due:
                return
            try:
                asyncio.get_running_loop().call_soon(self._flush_later)
                self._flush_due = True
            except RuntimeError:
                self.flush()

    def _flush_later(self) -> None:
        try:
            self.flush()
        except JournalError as exc:
            self._failure = exc  # nobody waits for a callback: the next record tells it

    def flush(self) -> None:
        """Commit what was recorded since the last commit, in one transaction.

        Raises:
            JournalError: it cannot be written; what was recorded is tried again the next time.
        """
        with self._lock:
            self._flush_due = False
            if self._pending and self._is_open():
                self._commit(self._pending)
                self._pending.clear()

    def close(self) -> None:
        """Write what is pending and close the file; never raises, but logs what is lost."""
        with self._lock:
            try:
                self.flush()
            except JournalError as error:
                _logger.error("%d completions are lost: %s", len(self._pending), error)
            self._pending.clear()
            self._drop()


class Journal(CompletionLog):
    """A write-ahead log of finished completions, safe against `kill -9` at any moment.

    SQLite in WAL mode: a transaction is there as a whole or not at all after its process was
    killed, and several processes may share the file.

    Args:
        path: the file; made, with its folder, when missing.
        run_id: the run that new completions belong to; by default each `Journal` is a run. A run
            gets the next number when its first completion is written.

    Raises:
        JournalError: the file is not a journal, was written by a newer version, or is not writable.
    """

    def __init__(self, path: Path, run_id: str | None = None) -> None:
        """Open the journal."""
        super().__init__()
        self.path = Path(path)
        self._database: sqlite3.Connection | None = None
        self._run_id = run_id or uuid4().hex
        self._run: int | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _connect(self.path)
            _check(self._database, self.path)
        except (sqlite3.Error, OSError) as exc:
            self._drop()
            raise _failed(self.path, exc) from exc
        except JournalError:
            self._drop()
            raise

    def _find(self, key: bytes) -> Any:
        try:
            row = self._open().execute(_LOOKUP, (key,)).fetchone()
        except sqlite3.Error as exc:
            raise _failed(self.path, exc) from exc
        return None if row is None else _record(row)

    def write(self, records: Mapping[bytes, Record]) -> None:
        """Commit records in one transaction.

        Raises:
            JournalError: they cannot be written; none of them is.
        """
        with self._lock:
            self._commit(records)

    def _commit(self, records: Mapping[bytes, Record]) -> None:
        try:
            self._write(self._open(), records)
        except sqlite3.Error as exc:
            raise _failed(self.path, exc) from exc

    def _write(self, database: sqlite3.Connection, records: Mapping[bytes, Record]) -> None:
        run = self._run = self._run or _register(database, self._run_id)
        rows = [_row(key, run, record) for key, record in records.items()]
        tokens = sum(row[7] for row in rows)
        with _transaction(database):
            # Another process may have made the same completion meanwhile: it is the same one.
            database.executemany(
                "INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )
            database.execute(
                "UPDATE runs SET generated = generated + ?,"
                " completion_tokens = completion_tokens + ? WHERE run = ?",
                (len(rows), tokens, run),
            )

    def key_starts(self) -> bytes:
        """The first `KEY_START` bytes of every key, one after the other."""
        with self._lock:
            self.flush()
            try:
                rows = self._open().execute(_KEY_STARTS).fetchall()
            except sqlite3.Error as exc:
                raise _failed(self.path, exc) from exc
        return b"".join(start for (start,) in rows)

    def counts(self) -> dict[str, int]:
        """What the journal holds.

        Returns:
            `completions` (distinct), `generated` (by all runs together, so a completion made twice
            counts twice), `generated_this_run`, `completion_tokens` (of all generated), `runs`.
        """
        with self._lock:
            self.flush()
            try:
                return _counts(self._open(), self._run_id)
            except sqlite3.Error as exc:
                raise _failed(self.path, exc) from exc

    def report(self, model: str, content: dict[str, Any]) -> None:
        """Keep what an engine says about its work in this run; never raises."""
        with self._lock, suppress(sqlite3.Error):
            if self._database is not None:
                with _transaction(self._database) as database:
                    database.execute(
                        "INSERT INTO reports (run_id, model, content) VALUES (?, ?, ?)",
                        (self._run_id, model, json.dumps(content)),
                    )

    def reports(self, after: int = 0) -> list[tuple[int, str, dict[str, Any]]]:
        """The reports of engines: number, model and content of each, in the order of their ends.

        Args:
            after: only those with a higher number.
        """
        with self._lock:
            try:
                rows = self._open().execute(_REPORTS_AFTER, (after,)).fetchall()
            except sqlite3.Error as exc:
                raise _failed(self.path, exc) from exc
        return [(number, model, json.loads(content)) for number, model, content in rows]

    def _is_open(self) -> bool:
        return self._database is not None

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise JournalError(f"the journal {self.path} is closed")
        return self._database


def open_journal(path: Path, run_id: str) -> CompletionLog:
    """Open the journal of a run, the way that `open_with` has set."""
    return _opener(path, run_id)


def open_with(opener: Callable[[Path, str], CompletionLog]) -> None:
    """Set how this process opens journals: in one that cannot reach the file, by another way."""
    global _opener
    _opener = opener


_opener: Callable[[Path, str], CompletionLog] = Journal


class _transaction:
    """BEGIN IMMEDIATE ... COMMIT: taking the write lock first, so that waiting cannot deadlock."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def _row(key: bytes, run: int, record: Record) -> tuple[Any, ...]:
    text, ids, finish, stop, prompt_tokens, completion_tokens = record
    try:
        text.encode()
        stored: str | bytes = text
    except UnicodeEncodeError:  # half a surrogate pair, which SQLite takes for no text
        stored = text.encode("utf-8", "surrogatepass")
    ids_bytes, stop_json = array("i", ids).tobytes(), json.dumps(stop)
    return (key, run, stored, ids_bytes, finish, stop_json, prompt_tokens, completion_tokens)


def _record(row: tuple[Any, ...]) -> Record:
    text, ids_bytes, finish, stop_json, prompt_tokens, completion_tokens = row
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogatepass")
    ids = array("i")
    ids.frombytes(ids_bytes)
    return (text, tuple(ids), finish, json.loads(stop_json), prompt_tokens, completion_tokens)


def _counts(database: sqlite3.Connection, run_id: str) -> dict[str, int]:
    completions = database.execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    generated, tokens, runs = database.execute(
        "SELECT COALESCE(SUM(generated), 0), COALESCE(SUM(completion_tokens), 0), COUNT(*)"
        " FROM runs"
    ).fetchone()
    mine = database.execute("SELECT generated FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return {
        "completions": completions,
        "generated": generated,
        "generated_this_run": mine[0] if mine else 0,
        "completion_tokens": tokens,
        "runs": runs,
    }


def _connect(path: Path) -> sqlite3.Connection:
    # Used from the event loop's thread and from load()'s; the journal's lock keeps them apart.
    database = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return database


def _check(database: sqlite3.Connection, path: Path) -> None:
    # One transaction: another process may be creating the tables between two of these reads.
    database.execute("BEGIN")
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    database.execute("COMMIT")
    if tables and application != APPLICATION_ID:
        raise JournalError(
            f"{path} is a SQLite file of another program, not a journal; give another folder"
        )
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} was written by a newer version of magpie-steps (format {version},"
            f" this one reads {SCHEMA_VERSION}); update magpie-steps or give another folder"
        )
    _use_wal(database)
    # With WAL, NORMAL keeps every commit across a killed process; only a power cut may lose the
    # last.
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    if version < SCHEMA_VERSION:
        _create(database)


def _use_wal(database: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, which SQLite's busy timeout does not cover."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # another process that opens the same new journal


def _create(database: sqlite3.Connection) -> None:
    with _transaction(database):
        # Another process may have been quicker.
        tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        for statement in (_REPORTS if tables else _SCHEMA + _REPORTS).split(";"):
            database.execute(statement)


def _register(database: sqlite3.Connection, run_id: str) -> int:
    with _transaction(database):
        database.execute(
            "INSERT OR IGNORE INTO runs (run_id, started) VALUES (?, ?)", (run_id, time.time())
        )
        found = database.execute("SELECT run FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return int(found[0])
