"""How far is a long piece of work?"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from magpie_steps.summary import duration


@dataclass(slots=True)
class Pace:
    """Says every few seconds how much of a piece of work is done and how long the rest will take.

    Attributes:
        what: The parts that are counted, for example "blocks compared".
        say: Takes a line of text.
        every_seconds: Least time between two lines.
        clock: Returns seconds; only differences count.
    """

    what: str
    say: Callable[[str], None]
    every_seconds: float = 5.0
    clock: Callable[[], float] = time.monotonic
    _started: float = 0.0
    _said: float = 0.0

    def __post_init__(self) -> None:
        self._started = self._said = self.clock()

    def __call__(self, done: int, total: int) -> None:
        """Count up to `done` parts of `total`."""
        now = self.clock()
        if done and now - self._said >= self.every_seconds:
            self._said = now
            left = (now - self._started) * (total - done) / done
            self.say(f"{done:,}/{total:,} {self.what}, ETA {duration(left)}")
