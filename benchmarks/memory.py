"""How much memory do a process and its children take, while it works on?"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from types import TracebackType
from typing import Self

import psutil

MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """Resident memory at one moment, in MiB; what processes share counts in each of them.

    Attributes:
        at: The moment, on the monotonic clock.
        main: This process.
        all: This process and its children.
    """

    at: float
    main: float
    all: float


class Watch(ABC):
    """Looks at something every so often, in a thread, while the `with` block runs."""

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @abstractmethod
    def _watch(self) -> None:
        """Look until `_ended` is set."""


class MemoryWatch(Watch):
    """Looks at the memory while the `with` block runs and at its end.

    Long calls that hold Python's lock, such as pyarrow's, hide what is between.
    """

    def __init__(self, every_seconds: float = 0.2) -> None:
        super().__init__(every_seconds)
        self.samples: list[Sample] = []
        self._process = psutil.Process()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self.samples.append(self._look())

    def _watch(self) -> None:
        while True:
            self.samples.append(self._look())
            if self._ended.wait(self._every_seconds):
                return

    def _look(self) -> Sample:
        main = _resident(self._process)
        children = sum(map(_resident, self._process.children(recursive=True)))
        return Sample(time.monotonic(), main, main + children)


def between(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """Return the samples of a stretch of time, or the nearest one to it if there is none."""
    inside = [sample for sample in samples if start <= sample.at <= end]
    return inside or [min(samples, key=lambda sample: abs(sample.at - start))]


def quarters(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return this process's mean memory in the first and in the last quarter of the samples."""
    size = max(len(samples) // 4, 1)
    first, last = samples[:size], samples[-size:]
    return mean(sample.main for sample in first), mean(sample.main for sample in last)


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / MIB
    except psutil.NoSuchProcess:
        return 0.0
