"""Waiting for what happens in other processes."""

import time
from collections.abc import Callable
from pathlib import Path

from magpie_steps.engines.journal import Journal


def completions(journal: Path) -> int:
    """Return how many a run has finished so far."""
    if not journal.is_file():
        return 0
    opened = Journal(journal, run_id="look")
    try:
        return opened.counts()["completions"]
    finally:
        opened.close()


def wait_for(so: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
