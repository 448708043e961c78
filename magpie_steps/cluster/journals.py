"""How do completions that are made on other machines get into the run's journal?

They are sent to the main process, which alone has the journal's file open. SQLite's write-ahead
log needs memory that all its users share, so it fails on folders of a network; and a file per
process, merged in the end, would lose its completions with its node. Sent at once, a completion is
safe as soon as it is on a machine that the run cannot go on without anyway.
"""

import pickle
import threading
from collections.abc import Mapping
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from magpie_steps.cluster.reception import Number
from magpie_steps.engines import journal
from magpie_steps.engines.journal import KEY_START, CompletionLog, Journal, JournalError, Record


class JournalKeeper:
    """Keeps what callers send in one journal, in the process that has its file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def serve(self, line: "Connection[Any, Any]") -> None:
        """Answer one caller until it hangs up."""
        run_id = str(_unpickle(line.recv_bytes()))
        try:
            kept = Journal(self._path, run_id)
            known = kept.key_starts()
        except JournalError as error:
            line.send_bytes(pickle.dumps(error))
            return
        try:
            line.send_bytes(pickle.dumps(known))
            while True:
                name, arguments = _unpickle(line.recv_bytes())
                line.send_bytes(pickle.dumps(_answer(kept, name, arguments)))
        except EOFError:
            return
        finally:
            kept.close()


def _answer(kept: Journal, name: str, arguments: tuple[Any, ...]) -> Any:
    """Do what is asked for; an error is an answer too."""
    try:
        if name == "lookup":
            return kept.lookup(*arguments)
        if name == "write":
            return kept.write(*arguments)
        return kept.report(*arguments)
    except JournalError as error:
        return error
    except Exception as error:  # noqa: BLE001 - or the step would take this process for gone
        return JournalError(f"the journal failed: {type(error).__name__}: {error}")


class CollectedJournal(CompletionLog):
    """The journal of a process on another machine than the file: what it records is sent there.

    Completions recorded in one turn of an event loop are sent together at its end, and have been
    committed when that returns. A key is asked for only if it may be there: the keys of the journal
    are known since it was opened.

    Args:
        number: the number of the `JournalKeeper`.
        run_id: the run that new completions belong to.

    Raises:
        JournalError: the main process does not answer, or cannot use the file.
    """

    def __init__(self, number: Number, run_id: str) -> None:
        super().__init__()
        self._asking = threading.Lock()
        try:
            self._line: Connection[Any, Any] | None = number.call()
        except (OSError, EOFError, AuthenticationError) as error:
            raise JournalError(
                f"the run's main process, which keeps the journal, does not answer: {error}; run"
                " again to go on"
            ) from error
        self._known = KnownKeys(self._ask(run_id))

    def _find(self, key: bytes) -> Any:
        return self._ask(("lookup", (key,))) if key in self._known else None

    def _commit(self, records: Mapping[bytes, Record]) -> None:
        self._ask(("write", (dict(records),)))
        self._known.update(records)

    def report(self, model: str, content: dict[str, Any]) -> None:
        """Keep what an engine says about its work in this run; never raises."""
        try:
            self._ask(("report", (model, content)))
        except JournalError:
            return

    def _is_open(self) -> bool:
        return self._line is not None

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _ask(self, question: object) -> Any:
        with self._asking:
            if self._line is None:
                raise JournalError("the journal is closed")
            try:
                self._line.send_bytes(pickle.dumps(question, pickle.HIGHEST_PROTOCOL))
                answer = _unpickle(self._line.recv_bytes())
            except (OSError, EOFError) as error:
                raise JournalError(
                    "the run's main process, which keeps the journal, is gone; run again to go on"
                ) from error
        if isinstance(answer, JournalError):
            raise answer
        return answer


class KnownKeys:
    """Which keys may be in the journal: the first eight bytes of each, in little memory.

    Args:
        starts: those that are there at first, one after the other.
    """

    def __init__(self, starts: bytes) -> None:
        self._old = np.sort(np.frombuffer(starts, dtype=_START))
        self._new: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        start = key[:KEY_START]
        if start in self._new:
            return True
        wanted = np.frombuffer(start, dtype=_START)[0]
        place = int(np.searchsorted(self._old, wanted))
        return place < len(self._old) and bool(self._old[place] == wanted)

    def update(self, keys: Mapping[bytes, object]) -> None:
        """Add keys."""
        self._new.update(key[:KEY_START] for key in keys)
        if len(self._new) > MOST_LOOSE:
            more = np.frombuffer(b"".join(self._new), dtype=_START)
            self._old = np.sort(np.concatenate([self._old, more]))
            self._new.clear()


MOST_LOOSE = 200_000
"""Keys that are kept one by one, at some 100 bytes each, before they join the sorted ones."""

_START = np.dtype(">u8")


def collect_at(number: Number) -> None:
    """Have all engines of this process use the main process's journal."""
    journal.open_with(partial(_collected, number))


def _collected(number: Number, path: Path, run_id: str) -> CollectedJournal:
    return CollectedJournal(number, run_id)  # the path is that of the main process's machine


def _unpickle(data: bytes) -> Any:
    # Both ends of the line have proved that they know the run's key.
    return pickle.loads(data)  # nosec B301
