"""Who waits for a place at a server, and who looks after the servers meanwhile?"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from magpie_steps.engines.routing import Place, Router, Server
from magpie_steps.engines.stats import ServerStats
from magpie_steps.redaction import redacted

TICK_SECONDS = 0.1
"""How often the servers are looked after."""

SILENCE_SECONDS = 10.0
"""A server that has requests and answers none for so long is asked whether it is well."""

MOST_SILENCES = 2
"""Times in a row that it may leave that unanswered before its requests go elsewhere."""

SHOWN_CHARACTERS = 300
"""How much is told of an error."""


class Fault(Enum):
    """Whose fault is it that a request has no answer?"""

    OWN = "the request's own"
    ONCE = "the server's, perhaps not at the next request"
    OVERLOADED = "the server has too much to do"
    LOST = "the connection was lost"
    GONE = "nobody listens there"
    REFUSED = "the server answers none like it: its key, model, address or certificate"


OUT = (Fault.LOST, Fault.GONE, Fault.REFUSED)
"""What takes a server out at once."""


class MovedError(ConnectionError):
    """The server of a request was taken out while the request was there."""


class NoServerError(ConnectionError):
    """All servers are out, and none came back for a long time."""


class Verdict(NamedTuple):
    """What a check found.

    Attributes:
        wrong: what is wrong with a server, "" if nothing is.
        away: whether it may simply not be there.
    """

    wrong: str = ""
    away: bool = False


@dataclass(slots=True)
class Watch:
    """How servers are looked after, where there are several.

    Attributes:
        check: asks a server whether it is well; with True also whether it is of the others' kind.
            It raises nothing and ends in good time.
        tell: takes a line about a server that goes or comes back.
        wait: seconds until a server is asked again after so many troubles.
        patience_seconds: how long requests wait when all servers are out.
    """

    check: Callable[[str, bool], Awaitable[Verdict]]
    tell: Callable[[str], object]
    wait: Callable[[int], float]
    patience_seconds: float


@dataclass(slots=True, eq=False)
class Absence:
    """A server that is out.

    Attributes:
        whole: whether all must be found out anew before it comes back: it may be another one.
        told: whether it was told that it is out.
        check_at: when it is asked whether it is back, by the router's clock.
        checking: what asks.
    """

    whole: bool
    told: bool
    check_at: float
    checking: "asyncio.Task[None] | None" = None


@dataclass(slots=True, eq=False)
class Flight:
    """A request on its way, at one server or at two.

    Attributes:
        send: sends it to a server and returns the answer.
        avoid: servers that failed on it; if there are any, it goes before others.
        attempts: times that it was sent before, but for those that a busy server turned away.
        refusals: where it was refused as if it were at fault, and what was said.
    """

    send: Callable[[Server], Awaitable[Any]]
    avoid: set[Server] = field(default_factory=set)
    attempts: int = 0
    refusals: list[tuple[Place, Exception]] = field(default_factory=list)
    _done: "asyncio.Future[Any] | None" = None
    _tasks: "dict[asyncio.Task[Any], Place]" = field(default_factory=dict)

    @property
    def places(self) -> list[Place]:
        """Where it is."""
        return list(self._tasks.values())

    @property
    def landed(self) -> bool:
        """Whether its answer is there, or its last error."""
        return self._done is not None and self._done.done()

    async def land(self) -> Any:
        """Return the first answer, or raise the last error; the other copy is dropped."""
        assert self._done is not None
        try:
            return await self._done
        finally:
            for task in list(self._tasks):
                task.cancel()
            if self._done.done() and not self._done.cancelled():
                self._done.exception()  # nobody may have waited for it to the end

    def start(self, place: Place, sending: Awaitable[Any]) -> "asyncio.Future[Any]":
        """Send it from this place, too; returns what does."""
        loop = asyncio.get_running_loop()
        if self._done is None or self.landed:
            self._done = loop.create_future()
        task = asyncio.ensure_future(sending)
        self._tasks[task] = place
        task.add_done_callback(self._landed)
        return task

    def leave(self, server: Server) -> None:
        """Wait for that server no more."""
        for task, place in list(self._tasks.items()):
            if place.server is server:
                task.cancel()

    def _landed(self, task: "asyncio.Task[Any]") -> None:
        place, done = self._tasks.pop(task), self._done
        error = MovedError() if task.cancelled() else task.exception()
        if error is not None:
            self.avoid.add(place.server)
        if done is None or done.done() or (error is not None and self._tasks):
            return
        if error is None:
            done.set_result(task.result())
        else:
            done.set_exception(error)


class ServerPool:
    """The servers as one event loop sees them.

    Args:
        router: who gets which place.
        blame: whose fault an error is.
        rest: seconds that an overloaded server is left alone, after the error that told so and
            attempts before it at the same request.
        figures: what is counted of each server, by its address.
        watch: how they are looked after; None leaves it to the requests.
    """

    def __init__(
        self,
        router: Router,
        blame: Callable[[Exception], Fault],
        rest: Callable[[Server, Exception, int], float],
        figures: Mapping[str, ServerStats],
        watch: Watch | None = None,
    ) -> None:
        self.router = router
        self._blame = blame
        self._rest = rest
        self._figures = figures
        self._watch = watch
        self._waiting: OrderedDict[asyncio.Future[Place], Flight] = OrderedDict()
        self._flights: dict[Flight, None] = {}
        self._silences: dict[Server, int] = {}
        self._hearing: dict[Server, asyncio.Task[None]] = {}
        self._none_since: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        # They were told to be out by who began without them.
        gone = (server for server in router.servers if not server.up)
        self._absent = {server: Absence(True, True, 0.0) for server in gone}

    async def ask(self, flight: Flight) -> Any:
        """Return the answer to a request, from whichever server gives it first.

        Raises:
            Exception: what sending it raised.
            MovedError: its server was taken out; send it again.
            NoServerError: there is no server any more.
        """
        place = await self._place(flight)
        if self._watch is None:
            return await self._sent(place, flight)
        self._start(flight, place)
        self._flights[flight] = None
        try:
            return await flight.land()
        finally:
            del self._flights[flight]

    async def look_after(self) -> None:
        """Look after the servers until cancelled; returns at once where nobody need."""
        while self._watch is not None:
            await asyncio.sleep(TICK_SECONDS)
            self._ask_absent(self._watch)
            self._ask_silent(self._watch)
            self._rescue()
            self._dispatch()
            self._give_up(self._watch)

    async def _place(self, flight: Flight) -> Place:
        """Wait for a place: in order, but those that were sent before come before the others."""
        if not self._waiting and (place := self.router.take(1, flight.avoid)):
            return place
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting[future] = flight
        if flight.avoid:
            self._waiting.move_to_end(future, last=False)
        self._dispatch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self.router.given_up(future.result())
                self._dispatch()
            raise
        finally:
            self._waiting.pop(future, None)

    def _start(self, flight: Flight, place: Place) -> None:
        # A task that is cancelled before its first step gives nothing back itself.
        task = flight.start(place, self._sent(place, flight))
        task.add_done_callback(lambda _: self._free(place))

    def _free(self, place: Place) -> None:
        if self.router.given_up(place):
            self._dispatch()

    def _dispatch(self) -> None:
        """Give places to those who wait, as long as there are any."""
        self._give_places()
        if self._waiting and self._alarm is None and (seconds := self._rest_seconds()) is not None:
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._wake)

    def _rest_seconds(self) -> float | None:
        """Seconds until there may be places that nobody gives back; None if there may be none."""
        up = self.router.up
        if (seconds := self.router.rest_seconds()) is None and up:
            # A rest that ended just now: nothing else would tell.
            return None if any(server.in_flight for server in up) else 0.0
        return seconds

    def _wake(self) -> None:
        self._alarm = None
        self._dispatch()

    def _give_places(self) -> None:
        served: list[asyncio.Future[Place]] = []
        in_vain: set[frozenset[Server]] = set()
        for future, flight in self._waiting.items():
            avoid = frozenset(flight.avoid)
            if future.done() or avoid in in_vain:
                continue
            place = self.router.take(len(self._waiting) - len(served), avoid)
            if place is not None:
                future.set_result(place)
                served.append(future)
            elif not avoid or self.router.full:  # nobody has more to choose from
                break
            else:
                in_vain.add(avoid)
        for future in served:
            del self._waiting[future]

    async def _sent(self, place: Place, flight: Flight) -> Any:
        try:
            answer = await flight.send(place.server)
        except Exception as error:
            self._judge(place, error, flight)
            flight.avoid.add(place.server)
            raise
        else:
            self.router.answered(place)
            self._silences.pop(place.server, None)
            self._hold_against(flight, place.server)
            return answer
        finally:
            self.router.given_up(place)
            self._dispatch()

    def _judge(self, place: Place, error: Exception, flight: Flight) -> None:
        fault, server = self._blame(error), place.server
        if fault is Fault.OVERLOADED:
            self.router.overloaded(place, self._rest(server, error, flight.attempts))
        elif self._watch is None:
            return
        elif fault is Fault.OWN:
            flight.refusals.append((place, error))
        elif fault is Fault.ONCE and self.router.missed(place):
            self._put_out(self._watch, server, _said(error), fault)
        elif fault in OUT and place.epoch == server.epoch:
            self.router.given_up(place)
            self._put_out(self._watch, server, _said(error), fault)

    def _hold_against(self, flight: Flight, server: Server) -> None:
        """Count it as a miss of the others that they refused what this server has answered."""
        for place, error in flight.refusals:
            wrong = place.server is not server and self.router.missed(place)
            if wrong and self._watch is not None:
                self._put_out(self._watch, place.server, _said(error), Fault.ONCE)

    def _put_out(self, watch: Watch, server: Server, reason: str, fault: Fault) -> None:
        if not self.router.put_out(server, reason):
            return
        self._figures[server.url].up = False
        # A connection may be lost by chance: that is told only if the server is not well either.
        told = fault is not Fault.LOST
        first = server.troubles <= 1
        wait = 0.0 if first else watch.wait(server.troubles - 1)
        whole = fault is not Fault.LOST
        absence = Absence(whole, told, self.router.clock() + wait)
        self._absent[server] = absence
        self._silences.pop(server, None)
        if told:
            self._tell_out(watch, server, reason)
        self._ask_absent(watch)

    def _move(self, server: Server) -> None:
        """Wait no more for what is at a server that does not even say that it is well."""
        for flight in list(self._flights):
            flight.leave(server)

    def _tell_out(self, watch: Watch, server: Server, reason: str) -> None:
        up, all_of_them = len(self.router.up), len(self.router.servers)
        watch.tell(
            f"{server.url} is out: {reason}. Its requests go to the others ({up} of {all_of_them}"
            " are up); it is asked now and then, and gets requests again when it is well"
        )

    def _ask_absent(self, watch: Watch) -> None:
        now = self.router.clock()
        for server, absence in self._absent.items():
            if absence.checking is None and now >= absence.check_at:
                work = self._look_up(watch, server, absence)
                absence.checking = asyncio.get_running_loop().create_task(work)

    async def _look_up(self, watch: Watch, server: Server, absence: Absence) -> None:
        """Ask a server that is out whether it is well, and take it back if so."""
        wrong, away = await watch.check(server.url, absence.whole)
        absence.checking = None
        if wrong:
            self._move(server)
            server.troubles += 1
            absence.whole = True  # by the next time it may be another one
            absence.check_at = self.router.clock() + watch.wait(server.troubles - 1)
            if not absence.told or not (away or wrong == server.why):
                self._tell_out(watch, server, wrong)
                absence.told, server.why = True, wrong
            return
        del self._absent[server]
        self.router.bring_back(server)
        self._figures[server.url].up = True
        if absence.told:
            up, all_of_them = len(self.router.up), len(self.router.servers)
            watch.tell(f"{server.url} gets requests again ({up} of {all_of_them} are up)")
        self._dispatch()

    def _ask_silent(self, watch: Watch) -> None:
        now = self.router.clock()
        for server in self.router.up:
            silent = server.in_flight and now - server.quiet_since > SILENCE_SECONDS
            if silent and server not in self._hearing:
                task = asyncio.get_running_loop().create_task(self._hear(watch, server))
                self._hearing[server] = task

    async def _hear(self, watch: Watch, server: Server) -> None:
        """Ask a silent server whether it is well, and take it out if it is not, twice in a row."""
        epoch = server.epoch
        wrong, _ = await watch.check(server.url, False)
        self._silences[server] = self._silences.get(server, 0) + 1 if wrong else 0
        if self._silences[server] >= MOST_SILENCES and server.epoch == epoch:
            self._put_out(watch, server, wrong, Fault.GONE)
            self._move(server)
        if not wrong:
            await asyncio.sleep(SILENCE_SECONDS)
        del self._hearing[server]

    def _rescue(self) -> None:
        """Send requests that take too long to another server, too, if nobody waits for it."""
        if self._waiting or not self._flights:
            return
        patient: set[Server] = set()
        for flight in list(self._flights):
            places = flight.places
            if flight.landed or len(places) != 1 or places[0].server in patient:
                continue
            second = self.router.second(places[0])
            if second is None:
                patient.add(places[0].server)  # the others there have been sent later
            else:
                self._start(flight, second)
                self._figures[places[0].server.url].rescued += 1

    def _give_up(self, watch: Watch) -> None:
        """Let nobody wait for ever where there is no server."""
        now = self.router.clock()
        if self.router.up:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
        elif now - self._none_since > watch.patience_seconds:
            whys = (f"{server.url}: {server.why or 'no answer'}" for server in self._absent)
            error = NoServerError(f"all servers are out: {'; '.join(whys)}")
            for future in self._waiting:
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()
            self._none_since = None  # who goes on has as long again


def _said(error: Exception) -> str:
    return redacted(str(error)).strip()[:SHOWN_CHARACTERS] or type(error).__name__
