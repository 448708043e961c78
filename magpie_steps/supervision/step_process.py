"""What runs in a step's process: it is given a step, runs it, and never outlives its parent."""

import gc
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from distilabel.constants import SIGINT_HANDLER_CALLED_ENV_NAME

from magpie_steps.dataflow import drain, draining
from magpie_steps.supervision.messages import DONE, FAILED, LOG, Channel, Disconnected, Failure
from magpie_steps.supervision.step_loop import SafeStepWrapper, StepFailed, _short

GRACE_SECONDS = 5.0
"""How long a step may take to unload once it has been told to go."""
PARENT_POLL_SECONDS = 0.5


def run_step_process(
    connection: "Connection[Any, Any]",
    parent: int,
    environment: dict[str, str],
    inherited: Iterable[Callable[[], object]],
) -> None:
    """Wait for a step, run it, say how it ended.

    Args:
        connection: the pipe to the main process.
        parent: process id of the main process; when it is gone, this process goes too.
        environment: variables to set.
        inherited: each closes something of the main process that this process must not keep open.
    """
    for close in inherited:
        close()
    gc.freeze()  # or every collection would walk over, and so copy, the main process's objects
    # In a group of its own, so that whatever the step starts can be ended with it and a Ctrl-C
    # at the terminal reaches the main process alone.
    os.setpgid(0, 0)
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _finish)
    threading.Thread(target=_leave_with_parent, args=(parent,), daemon=True).start()
    channel = Channel(connection)
    _log_to(channel)
    try:
        _run(channel)
    except Disconnected:
        return  # the run has ended
    finally:
        if os.getppid() != parent:
            # Nobody is left to end what the step has started.
            os.killpg(0, signal.SIGKILL)


def _run(channel: Channel) -> None:
    try:
        step, replica = channel.receive()
    except Exception as error:  # noqa: BLE001 - unpickling runs foreign code
        channel.send(FAILED, Failure("start", _short(error), traceback.format_exc()))
        return
    try:
        SafeStepWrapper(step, replica, channel).run()
    except StepFailed as error:
        channel.send(FAILED, error.failure)
    else:
        channel.send(DONE)


class _ChannelHandler(QueueHandler):
    """Sends log records to the main process."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(LOG, record)  # type: ignore[attr-defined]


def _log_to(channel: Channel) -> None:
    """Send what steps report (INFO and up) and what distilabel warns about to the main process."""
    root = logging.getLogger()
    root.handlers.clear()
    root.addHandler(_ChannelHandler(channel))  # type: ignore[arg-type]
    root.setLevel(logging.WARNING)
    for name in ("distilabel.step", "magpie_steps"):
        logger = logging.getLogger(name)
        logger.handlers.clear()  # the parent's, which was there when this process was forked
        logger.setLevel(logging.INFO)


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _finish(signal_number: int, frame: object) -> None:
    """Leave once the engines' work in flight is done."""
    # distilabel's offline batch generation polls this variable.
    os.environ[SIGINT_HANDLER_CALLED_ENV_NAME] = "1"
    if not draining():
        drain()
        raise SystemExit(128 + signal_number)


def _leave(signal_number: int, frame: object) -> None:
    """Leave likewise; the second time at once, since this ends the waiting."""
    drain()
    raise SystemExit(128 + signal_number)
