"""Steps that say when they were ready and when a row came, for benchmarks of whole pipelines.

They are in a module of their own because distilabel sends steps to processes by pickling them. The
times are of the machine's one monotonic clock, which all processes share.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distilabel.steps import Step, StepInput
from pydantic import PrivateAttr

import magpie_steps
from magpie_steps import columns
from magpie_steps.steps.rows import Plan

if TYPE_CHECKING:
    from distilabel.typing import GeneratorStepOutput, StepOutput


@dataclass(frozen=True)
class Times:
    """When a run's rows came.

    Attributes:
        loaded: When the first step had loaded its engine.
        first: When the first row came to the last step.
        last: When the last one did.
    """

    loaded: float
    first: float
    last: float

    @property
    def seconds(self) -> float:
        """From the loaded engine to the last row."""
        return self.last - self.loaded


class TimedConversations(magpie_steps.ConversationGenerator):
    """Writes in each row when the engine had been loaded."""

    _loaded_at: float = PrivateAttr(default=0.0)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return [*super().outputs, "loaded_at"]

    def load(self) -> None:
        """Load the engine and look at the clock."""
        super().load()
        self._loaded_at = time.monotonic()

    def process(self, offset: int = 0) -> "GeneratorStepOutput":
        """Yield the rows with the time.

        Args:
            offset: Number of the first row.

        Yields:
            Rows, and whether they are the last ones.
        """
        for rows, last in super().process(offset):
            yield [{**row, "loaded_at": self._loaded_at} for row in rows], last

    def _plan(self) -> Plan:
        plan: Plan = super()._plan()
        return replace(plan, names=columns.written_by("ConversationGenerator"))


class Arrivals(Step):
    """Passes rows on and writes in each when it came."""

    @property
    def outputs(self) -> list[str]:
        """The column that the step writes."""
        return ["arrived_at"]

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with the time.

        Args:
            inputs: The rows.

        Yields:
            As many rows.
        """
        now = time.monotonic()
        yield [{**row, "arrived_at": now} for row in inputs]


def times_of(dataset: Any) -> Times:
    """Return when the rows of a dataset came that both steps have written."""
    arrived = list(_values(dataset, "arrived_at"))
    return Times(min(_values(dataset, "loaded_at")), min(arrived), max(arrived))


def _values(dataset: Any, column: str) -> Iterator[float]:
    for chunk in dataset.data.column(column).chunks:
        yield from chunk.to_pylist()
