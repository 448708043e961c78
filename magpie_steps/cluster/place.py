"""How is a Ray cluster the place of a run?"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie_steps.cluster.journals import JournalKeeper
from magpie_steps.cluster.reception import Reception
from magpie_steps.cluster.session import connected

if TYPE_CHECKING:
    from magpie_steps.cluster.step_actor import ActorLauncher


@dataclass(frozen=True)
class OnRay:
    """A cluster as the place of a run.

    Attributes:
        launcher: starts the steps' processes.
        reception: where they call this process.
    """

    launcher: "ActorLauncher"
    reception: Reception

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the steps' processes; their servers' is not known."""
        return self.launcher.cpu_seconds

    def servers(self, engines: list[Any]) -> AbstractContextManager[object]:
        """Start the servers that engines share, and end them."""
        from magpie_steps.cluster.servers import servers_on

        return servers_on(self.reception, engines)


@contextmanager
def on_ray(
    address: str, work_dir: Path, journal_name: str, options: Mapping[str, Any]
) -> Iterator[OnRay]:
    """Connect to a cluster, or start one; ended with the block.

    Args:
        address: where it is; "auto" for this machine's, "" for the one that RAY_ADDRESS names, else
            a new one on this machine.
        work_dir: the run's folder.
        journal_name: the name of the journal in it.
        options: further arguments of `ray.init`.

    Raises:
        PipelineRunError: Ray is not installed, or there is no such cluster.
    """
    with connected(address, options) as host, Reception(host) as reception:
        from magpie_steps.cluster.step_actor import ActorLauncher  # it has Ray imported

        keeper = JournalKeeper(work_dir / journal_name)
        journal = reception.expect(keeper.serve)
        launcher = ActorLauncher(reception, journal, work_dir)
        with launcher.probe():
            yield OnRay(launcher, reception)
