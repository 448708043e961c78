"""Where does a run take place: on this machine, or on a cluster?"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pydantic import BaseModel

from magpie_steps.supervision.processes import Launcher


class Place(Protocol):
    """Where a run's processes are started."""

    @property
    def launcher(self) -> Launcher:
        """What starts the steps' processes."""

    @property
    def cpu_seconds(self) -> float:
        """Processor time of processes of which this machine knows nothing."""

    def servers(self, engines: list[Any]) -> AbstractContextManager[object]:
        """Start the servers that engines share, and end them.

        Raises:
            DistilabelUserError: one does not start; the others are ended.
        """


def parts_of(model: BaseModel) -> Iterator[Any]:
    """Whatever is set in a step, however deep."""
    for value in model.__dict__.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            yield item
            if isinstance(item, BaseModel):
                yield from parts_of(item)


def engines_of(model: BaseModel) -> Iterator[Any]:
    """Every engine in a step, however deep."""
    return (item for item in parts_of(model) if hasattr(item, "use_journal"))
