"""What does the actor of a model's server do on its node?"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import ray
from distilabel.errors import DistilabelUserError
from ray import cloudpickle

from magpie_steps.engines.server import Server

POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Started:
    """Whether a server has started: its address, or why not."""

    host: str = ""
    port: int = 0
    failure: str = ""


class ServerHost:
    """The actor: it starts the server on its node, and ends it.

    A server that ends by itself is not started again here, since the main process has to know.

    Args:
        engine: whose server it is, pickled.
        key: the key that the server is to want.
        environment: variables to set for it.
        path: where the main process finds modules: what is there on this node is looked at, too.
    """

    def __init__(
        self, engine: bytes, key: str, environment: Mapping[str, str], path: Sequence[str]
    ) -> None:
        os.environ.update(environment)
        sys.path.extend(place for place in path if place not in sys.path)
        self._engine = cloudpickle.loads(engine)
        self._key = key
        self._server: Server | None = None

    def start(self) -> Started:
        """Start the server and wait until it answers."""
        host = str(ray.util.get_node_ip_address())
        try:
            server = self._engine.make_server(
                self._engine.command(), host=host, key=self._key, restarts=0
            )
            self._server = server
            server.start()
        except DistilabelUserError as error:
            return Started(failure=str(error))
        parts = urlsplit(server.address.url)
        return Started(host, int(parts.port or 0))

    def wait(self) -> str:
        """Wait for the server's end; returns what happened, "" if it was to end."""
        assert self._server is not None
        while True:
            state, reason = self._server.address.state()
            if state in ("failed", "stopped"):
                return reason if state == "failed" else ""
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.stop()
