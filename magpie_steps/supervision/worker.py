"""Which step does a process run, and how far is it?"""

import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.messages import Note, limit_waiting
from magpie_steps.supervision.processes import StepProcess

if TYPE_CHECKING:
    from magpie_steps.supervision.switchboard import InputQueue


class Worker:
    """One process, and the one replica of one step that it runs.

    Attributes:
        process: the process.
        step: the step's name; None while it has none.
        queue: where its input comes from.
        task: the step and its replica's number.
        introduced: whether they have been sent.
        held: the item that it has taken and not finished, where it may have to be given again.
        remarks: its notes on the batch that it is at.
        wants: whether it waits for an item.
        loaded: whether the step has said so, here or in the process before.
        done: whether it has ended as it should.
        gone: whether its connection is no longer listened to.
        starts: how often the step has been started.
    """

    def __init__(self, process: StepProcess) -> None:
        self.process = process
        self.step: str | None = None
        self.queue: InputQueue | None = None
        self.task: tuple[Any, int] = (None, 0)
        self.introduced = False
        self.held: bytes | None = None
        self.remarks: list[Note] = []
        self.wants = False
        self.loaded = False
        self.done = False
        self.gone = False
        self.starts = 1
        self.since = time.monotonic()

    @property
    def active(self) -> bool:
        """Whether it has a step to run and has not ended."""
        return self.step is not None and not (self.done or self.gone)

    @property
    def connection(self) -> "Connection[Any, Any] | None":
        """What is listened to; None while it is on its way or when it has gone."""
        return None if self.gone else self.process.connection

    def take_over(self, lost: "Worker") -> None:
        """Take the place of one that is lost."""
        self.step, self.queue, self.task = lost.step, lost.queue, lost.task
        self.loaded, self.starts = lost.loaded, lost.starts + 1

    def send(self, data: bytes) -> None:
        """Send one pickled item; one that is gone is noticed by `supervise()`."""
        self.since = time.monotonic()
        connection = self.connection
        if connection is None:
            return
        try:
            connection.send_bytes(data)
        except BlockingIOError as error:
            raise PipelineRunError(
                f"step {self.step!r}: its process ({self.process.place}) asked for a batch and"
                " does not take it; was it stopped?",
                step=self.step,
            ) from error
        except (OSError, TypeError):  # also closed while it was being sent
            return

    def introduce(self, data: bytes, seconds: float | None) -> None:
        """Send the step; no single read or write that has begun may take longer than so long."""
        connection = self.connection
        assert connection is not None
        limit_waiting(connection, int(seconds or 0) or 60)
        self.send(data)

    def death_notice(self) -> str:
        """What its death means for the run."""
        # A stage's steps are given out when the stage before has ended; their processes wait for
        # them.
        whose = f"step {self.step!r}: its process" if self.step else "a later step: its process"
        often = f", as {self.starts - 1} before it were lost" if self.starts > 1 else ""
        return (
            f"{whose} {self.process.how_it_ended()}{often}; no row of it is kept, run again to go"
            " on"
        )
