"""What do all steps have in common that write something to each row?"""

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Protocol

from distilabel.steps import Step, StepInput
from pydantic import Field, PrivateAttr

from magpie_steps import reasons
from magpie_steps.dataflow import flow
from magpie_steps.engines.base import Engine
from magpie_steps.steps.answers import Row
from magpie_steps.steps.engine_work import Failures, load_engine, window_for, work_of
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import Count, MaxInFlight, Seed

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class Writer(Protocol):
    """What writes a step's columns to a row."""

    async def write(self, row: Row) -> Row:
        """Return the row with the step's columns."""

    def drop(self, row: Row, reason: str) -> Row:
        """Return the row with the step's columns empty, and with the reason."""


class AnsweringStep(Step, ABC):
    """A step that asks an engine about each row, many rows at once.

    A subclass says which columns it writes and makes the writer of a row; the engine is loaded by
    then.
    """

    llm: Engine
    seed: Seed = Field(default=0, description="The run's seed.")
    # Large: at the end of each batch the engine runs out of work until the next one is there.
    input_batch_size: Count = Field(default=10_000, description="Rows per batch between steps.")
    max_in_flight: MaxInFlight = Field(
        default=None, description="Rows that are worked on at once; None follows the engine."
    )

    _writer: Writer | None = PrivateAttr(default=None)
    _failures: Failures | None = PrivateAttr(default=None)

    @abstractmethod
    def _make_writer(self, progress: Progress) -> Writer:
        """Return what writes the rows, prepared with all that they share."""

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row needs one of the first two."""
        names = ("instruction", "messages", "keep", "drop_reason", "row")
        return dict.fromkeys(names, False)

    def load(self) -> None:
        """Load the engine and prepare what all rows share."""
        super().load()
        load_engine(self.llm)
        self._failures = Failures(self._logger)
        self._writer = self._make_writer(
            Progress(0, self._logger.info, partial(work_of, self.llm.stats))
        )

    def unload(self) -> None:
        """Unload the engine."""
        self._writer = None
        self.llm.unload()
        super().unload()

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with the step's columns, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        writer = self._writer
        if writer is None:
            raise RuntimeError(f"step {self.name!r} is not loaded; call load() before process()")
        window = window_for(self.max_in_flight, self.llm)
        rows = flow(
            inputs, writer.write, window=window, on_error=self._failed_row, run=self.llm.run
        )
        yield list(rows)

    def _failed_row(self, row: Row, error: Exception) -> Row:
        """Return a row that the engine failed to answer."""
        assert self._writer is not None
        assert self._failures is not None
        self._failures.note(row.get("row"), error)
        return self._writer.drop(row, reasons.ENGINE_ERROR)
