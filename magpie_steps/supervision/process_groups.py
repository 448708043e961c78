"""How is a process ended with all that it has started?"""

import os
import signal
from contextlib import suppress


def kill_group(leader: int | None) -> None:
    """Kill what is left of a process group; never raises.

    Args:
        leader: the process that the group is named by, itself a member of it; None for no process.
    """
    if leader is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
