"""What runs in a step's process on a cluster: it calls for its step, then runs as a forked one."""

import pickle
import signal
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

from magpie_steps.cluster.caretaker import Orders, Probe


def main() -> None:
    """Run a step, with the orders that come by standard input."""
    # Ray blocks SIGINT in its nodes' processes, and what they start inherits that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    # They come from the actor, which started this process, through a pipe of its own.
    orders: Orders = pickle.load(sys.stdin.buffer)  # nosec B301
    # Slow; only then does it call, so that what is missing on this node is told by this process.
    from magpie_steps.cluster.journals import collect_at
    from magpie_steps.supervision.messages import FAILED, Channel, Failure
    from magpie_steps.supervision.step_process import run_step_process

    collect_at(orders.journal)
    line: Connection[Any, Any] = orders.step.call()
    if orders.probe is not None and (fault := fault_of(orders.probe)):
        channel = Channel(line)
        channel.receive()  # the step, which would find nothing here
        channel.send(FAILED, Failure("start", fault, ""))
        return
    run_step_process(line, orders.parent, dict(orders.environment), ())


def fault_of(probe: Probe) -> str:
    """Why files that are written here would not be found elsewhere; "" if they would."""
    try:
        seen = probe.path.read_text(encoding="utf-8")
    except OSError as error:
        seen, why = "", f" ({error.strerror or error})"
    else:
        why = ""
    if seen == probe.content:
        return ""
    return (
        f"it keeps files in {probe.path.parent}, and the node {socket.gethostname()} does not see"
        f" that folder as the run's main process does{why}; use an --output-dir that is shared by"
        " all nodes"
    )


if __name__ == "__main__":
    main()
