"""Which cluster does a run use, and who ends it?"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from magpie_steps.engines.guard import Guard
from magpie_steps.supervision.errors import PipelineRunError
from magpie_steps.supervision.stop_signs import postponed

INSTALL = "pip install 'magpie-steps[ray]'"

LOCAL = "local"
"""The address of a new cluster of this machine alone, as Ray names it."""

ALONE: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": 100 * 2**20,  # bytes; rows do not pass through it
}
"""What such a cluster is started with."""

ANSWER_SECONDS = 10.0

GRACE_SECONDS = 3.0
"""How long a cluster of this machine has to end when its owner was killed."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no run calls out to the network on its own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what will be the default, and warns until then
}
"""Variables for Ray, unless they are set already."""


def check_address(address: str) -> None:
    """Check that an address can be one of a cluster to run on, without asking for it.

    Raises:
        ValueError: it cannot, or Ray is not installed.
    """
    if find_spec("ray") is None:
        raise ValueError(f"runs on Ray need ray, which is not installed: {INSTALL}")
    if address.startswith("ray://"):
        raise ValueError(
            f"the Ray address {address!r} is for clients outside of the cluster, which its nodes"
            ' cannot call back: run on one of its nodes with "auto", or use `ray job submit`'
        )
    if address and address != "auto" and not _names_a_port(address):
        raise ValueError(
            f'the Ray address is {address!r}; give "auto" or HOST:PORT, such as 10.0.0.1:6379'
        )


def _names_a_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(host) and "/" not in host and port.isdecimal() and 0 < int(port) < 65536


@contextmanager
def connected(address: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Connect to a cluster, or start one here; let go of it, or end it, with the block.

    A caller that has called `ray.init` itself keeps its connection, and it is used.

    Args:
        address: see `magpie_steps.cluster.on_ray`.
        options: further arguments of `ray.init`.

    Yields:
        This machine's address, as the other nodes know it.

    Raises:
        PipelineRunError: there is no such cluster, or it does not start.
    """
    try:
        check_address(address or os.environ.get("RAY_ADDRESS", ""))
    except ValueError as error:
        raise PipelineRunError(str(error)) from error
    with _variables_kept():
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        where = address or os.environ.get("RAY_ADDRESS", "") or LOCAL
        if where == LOCAL:
            _protect()
        import ray  # it reads its variables now

        if ray.is_initialized():
            yield str(ray.util.get_node_ip_address())
            return
        with ExitStack() as stack:
            stack.callback(_leave)
            _start(where, options)
            if where == LOCAL:
                stack.enter_context(_guarded())
            yield str(ray.util.get_node_ip_address())


def _start(where: str, options: Mapping[str, Any]) -> None:
    import ray

    own = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _check_answers(where)
        with _handlers_kept(), _silent():
            ray.init(address=where, **own, **(ALONE if where == LOCAL else {}), **options)
    except (OSError, RuntimeError, ValueError) as error:
        what = "could not be started here" if where == LOCAL else f"does not answer at {where}"
        raise PipelineRunError(
            f"the Ray cluster {what}: {' '.join(str(error).split())}; see to it, or give the"
            " address of another"
        ) from error


def _leave() -> None:
    """Let go of the cluster; one that was started here ends."""
    import ray

    with postponed(), _handlers_kept():
        ray.shutdown()


@contextmanager
def _guarded() -> Iterator[None]:
    """Have the cluster that was started here ended if this process is killed.

    Ray sees to most of that itself, but its agents would live on for a minute.
    """
    import ray

    guard = Guard(GRACE_SECONDS)
    try:
        for processes in ray._private.worker._global_node.all_processes.values():
            for each in processes:
                guard.watch(each.process.pid)
        yield
    finally:
        _leave()  # first, so that it ends gently
        guard.close()


def _check_answers(where: str) -> None:
    """Ask whether anybody listens at an address: Ray itself would ask for ever.

    Raises:
        OSError: nobody does.
    """
    from ray._private.utils import read_ray_address

    found = read_ray_address() if where == "auto" else where
    if found and found != LOCAL:
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _protect() -> None:
    """Have a new cluster take only who knows a key of its own.

    Left to itself, Ray leaves that key in the home folder, and then asks every other cluster for
    it, too.
    """
    if {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & set(os.environ):
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    if "ray" in sys.modules:
        loader = import_module("ray._raylet").AuthenticationTokenLoader
        loader.instance().reset_cache()  # it has an earlier cluster's


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep the handlers of signals: Ray sets its own, with which no step would be ended well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def _variables_kept() -> Iterator[None]:
    """Leave the environment as it was."""
    before = {name: os.environ.get(name) for name in (*QUIET, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _silent() -> Iterator[None]:
    """Say nothing of what Ray always says when it begins."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        with suppress(ValueError):
            logger.setLevel(max(before, logging.ERROR))
