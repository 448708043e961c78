"""Where are a model's servers now? They may come back on another node when theirs is lost.

A step's process knows them by names that stay, and asks the run's main process for the address
behind a name each time that it connects.
"""

import asyncio
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp.abc import AbstractResolver, ResolveResult

from magpie_steps.cluster.reception import Number

State = Literal["starting", "ready", "failed"]

DOMAIN = ".localhost"
"""No proxy is asked for these names, and no other resolver has any of them."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """How one server is.

    Attributes:
        state: whether it answers, is on its way, or will not come any more.
        host: its node's address, if it answers.
        port: its port there.
        reason: why it has failed.
    """

    state: State
    host: str = ""
    port: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ServersOnCluster:
    """The servers of one model, for the processes that use them.

    Attributes:
        number: whom to ask where they are.
        count: how many there are.
        key: the key that they want.
    """

    number: Number
    count: int
    key: str = field(repr=False)

    @property
    def urls(self) -> list[str]:
        """Their names, as addresses."""
        return [f"http://server-{index}{DOMAIN}/v1" for index in range(self.count)]

    @property
    def resolver(self) -> "Resolver":
        """What finds them by their names."""
        return Resolver(self)

    def find(self) -> Sequence[Whereabouts]:
        """How each of them is.

        Raises:
            OSError: the main process is gone.
        """
        try:
            line = self.number.call()
            try:
                line.send_bytes(b"?")
                # It has proved that it knows the run's key.
                found: list[Whereabouts] = pickle.loads(line.recv_bytes())  # nosec B301
            finally:
                line.close()
        except EOFError as error:
            raise ConnectionError("the run's main process is gone") from error
        return found

    def state(self) -> tuple[str, str]:
        """How they are together: "ready" if one is; and why if all have failed."""
        try:
            found = self.find()
        except OSError as error:
            return "stopped", f"its owner has ended: {error}"
        for state in ("ready", "starting"):
            if any(each.state == state for each in found):
                return state, ""
        return "failed", found[0].reason


class Resolver(AbstractResolver):
    """Finds servers by their names.

    Args:
        servers: the servers.
    """

    def __init__(self, servers: ServersOnCluster) -> None:
        self._servers = servers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The address behind a name.

        Raises:
            OSError: the server is not there now.
        """
        index = int(host.removesuffix(DOMAIN).removeprefix("server-"))
        found: Any = (await asyncio.to_thread(self._servers.find))[index]
        if found.state != "ready":
            raise ConnectionRefusedError(f"{host} is not there now ({found.state})")
        return [
            ResolveResult(
                hostname=host,
                host=found.host,
                port=found.port,
                family=socket.AF_INET6 if ":" in found.host else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """It holds nothing open."""
