"""Which of several servers gets the next request? Numbers and a clock, no network."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

MEMORY = 16
"""Answers that a server's pace is judged by, at least; a server with more places has one for each,
so that each row that it works on counts."""

SLOWER = 2.0
"""A server is left alone for others that answer so many times as fast, until they are so busy that
a request would wait there for longer than it takes here."""

RESCUE = 5.0
"""A request is sent a second time where the answer may be expected so many times as soon."""

TRIAL = 10.0
"""A server that was left alone for so many of its own answers' time gets a request again: it may
have become faster."""

MOST_MISSES = 3
"""Requests that a server fails on, without an answer between them, before it is taken out: one may
be its prompt's own fault, and what fails at once would draw more and more requests to it."""


@dataclass(slots=True, eq=False)
class Server:
    """What is known of a server.

    Attributes:
        url: where it is.
        most: places that it has: requests that may be there at once.
        up: whether it gets requests.
        why: why it got none, the last time.
        limit: places that are used of these; fewer for a while after it was overloaded.
        in_flight: requests that are there.
        rests_until: when it gets requests again, by the router's clock.
        troubles: times that it rested or was taken out since its last answer.
        misses: requests in a row that it failed on.
        epoch: goes up when it rests, goes or comes, so that what was sent before tells no news.
        answered_at: when it last answered, or came.
        quiet_since: since when requests are there without an answer to one, or the last answer.
    """

    url: str
    most: int
    up: bool = True
    why: str = ""
    limit: float = 0.0
    in_flight: int = 0
    rests_until: float = 0.0
    troubles: int = 0
    misses: int = 0
    epoch: int = 0
    answered_at: float = 0.0
    quiet_since: float = 0.0
    _exposure: float = 0.0
    _answers: float = 0.0
    _seen: float = 0.0

    def __post_init__(self) -> None:
        self.limit = float(self.most)

    @property
    def known(self) -> bool:
        """Whether it has answered, so that its pace is its own."""
        return self._answers > 0

    def open(self, now: float) -> bool:
        """Whether it gets requests now: it is up and does not rest."""
        return self.up and self.rests_until <= now

    @property
    def has_room(self) -> bool:
        """Whether a place of it is free."""
        return self.in_flight < int(self.limit)

    def pace(self, now: float, usual: float) -> float:
        """Seconds that a request takes, by Little's law: requests there over answers per second.

        Requests that are still there count, so a server that hangs is slow before it says so.

        Args:
            now: the time.
            usual: what it is taken to be before there are answers enough.
        """
        exposure = self._exposure + self.in_flight * (now - self._seen)
        enough = max(MEMORY, self.in_flight) / 2
        unknown = max(enough - self._answers, 0.0)
        return (exposure + unknown * usual) / (self._answers + unknown)

    def own_pace(self, now: float) -> float:
        """The pace by its own answers alone; it must be known."""
        return (self._exposure + self.in_flight * (now - self._seen)) / self._answers

    def add(self, requests: int, now: float) -> None:
        """Count requests that come (or, below 0, go)."""
        self._exposure += self.in_flight * (now - self._seen)
        self._seen = now
        if not self.in_flight:
            self.quiet_since = now
        self.in_flight += requests

    def count_answer(self, now: float) -> None:
        """Count an answer, and forget as much of the past."""
        keep = 1 - 1 / max(MEMORY, self.in_flight + 1)
        self._exposure *= keep
        self._answers = (self._answers + 1) * keep
        self.answered_at = self.quiet_since = now
        self.limit = min(self.limit + 1 / self.limit, float(self.most))
        self.troubles = self.misses = 0

    def begin(self, now: float) -> None:
        """Forget what it was like before it went."""
        self.up, self.epoch, self.misses = True, self.epoch + 1, 0
        self.answered_at = self.quiet_since = self._seen = now
        self.limit, self.rests_until = float(self.most), 0.0
        self._exposure = self._answers = 0.0


@dataclass(slots=True, eq=False)
class Place:
    """A request's place at a server.

    Attributes:
        server: where.
        since: since when.
        epoch: the server's, when the place was taken.
        held: whether it has not been given back.
    """

    server: Server
    since: float
    epoch: int
    held: bool = True


@dataclass(slots=True)
class Router:
    """Gives each request a place at the server that will answer it soonest.

    Every server has places of its own, so that a slow or dead one holds no more than these, and the
    others are as busy as they can be. A request that finds none waits for one.

    Attributes:
        urls: the servers.
        places: requests at each of them at once, >= 1.
        clock: returns seconds; only differences count.
    """

    urls: Sequence[str]
    places: int
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    servers: list[Server] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.places < 1:
            raise ValueError(f"a server needs a place at least, got {self.places}; give 1 or more")
        now = self.clock()
        self.servers = [Server(url, self.places) for url in self.urls]
        for server in self.servers:
            server.begin(now)

    def heir(self) -> "Router":
        """A router that knows what this one does, with nothing under way."""
        other = Router(self.urls, self.places, self.clock)
        for mine, theirs in zip(self.servers, other.servers, strict=True):
            theirs.up, theirs.why, theirs.limit = mine.up, mine.why, mine.limit
            theirs.rests_until, theirs.troubles = mine.rests_until, mine.troubles
            theirs.answered_at = mine.answered_at
            theirs._exposure, theirs._answers = mine._exposure, mine._answers
        return other

    @property
    def up(self) -> list[Server]:
        """The servers that get requests, those that rest included."""
        return [server for server in self.servers if server.up]

    def has_other(self, avoid: Collection[Server]) -> bool:
        """Whether a server that gets requests now is not among these."""
        now = self.clock()
        return any(s.open(now) and s not in avoid for s in self.servers)

    @property
    def full(self) -> bool:
        """Whether no server has a place for any request now."""
        now = self.clock()
        return not any(s.open(now) and s.has_room for s in self.servers)

    def rest_seconds(self) -> float | None:
        """Seconds until the next of the servers that rest gets requests; None if none rests."""
        now = self.clock()
        rests = (s.rests_until - now for s in self.servers if s.up and s.rests_until > now)
        return min(rests, default=None)

    def take(self, waiting: int = 1, avoid: Collection[Server] = ()) -> Place | None:
        """Take a place for a request.

        Args:
            waiting: requests without a place, this one included.
            avoid: servers that failed on this one, used only where no other one is up.

        Returns:
            The place; None if all are taken, or those of faster servers are worth the wait.
        """
        now = self.clock()
        fit = [server for server in self.servers if server.open(now)]
        others = [server for server in fit if server not in avoid] if avoid else fit
        fit = others or fit
        free = [server for server in fit if server.has_room]
        if not free:
            return None
        if len(fit) == 1:
            return self._place(free[0], now)
        usual = self._usual(now)
        for server in free:
            if _on_trial(server, now, usual):
                return self._place(server, now)
        best = min(free, key=lambda server: _expected(server, now, usual))
        if _worth_a_wait(best, fit, waiting, now, usual):
            return None
        return self._place(best, now)

    def second(self, place: Place) -> Place | None:
        """Take another place for a request that takes too long where it is.

        Returns:
            The place; None if no other server may be expected to answer much sooner.
        """
        now = self.clock()
        age = now - place.since
        usual = self._usual(now)
        free = [
            server
            for server in self.servers
            if server is not place.server and server.open(now) and server.known and server.has_room
        ]
        if not free:
            return None
        best = min(free, key=lambda server: _expected(server, now, usual))
        there = best.pace(now, usual)
        # What has taken long takes long: lengths of texts have heavy tails.
        here = max(age, place.server.pace(now, usual))
        return self._place(best, now) if age > there and here > RESCUE * there else None

    def answered(self, place: Place) -> None:
        """Give a place back whose request was answered."""
        if self.given_up(place):
            place.server.count_answer(self.clock())

    def given_up(self, place: Place) -> bool:
        """Give a place back, which tells nothing of the server; returns whether it was held."""
        if not place.held:
            return False
        place.held = False
        place.server.add(-1, self.clock())
        return True

    def missed(self, place: Place) -> bool:
        """Tell that a place's request failed, and give it back if it is still held.

        Returns:
            Whether it is one too many in a row.
        """
        server = place.server
        self.given_up(place)
        if place.epoch != server.epoch:
            return False
        server.misses += 1
        return server.misses >= MOST_MISSES

    def overloaded(self, place: Place, seconds: float) -> bool:
        """Give a place back that the server did not have: it rests, and gets half as many then.

        Returns:
            Whether that was news: the other requests that it turns away tell the same.
        """
        server = place.server
        there = server.in_flight
        if not self.given_up(place) or place.epoch != server.epoch:
            return False
        server.limit = max(min(server.limit, float(there)) / 2, 1.0)
        server.rests_until = self.clock() + seconds
        server.troubles += 1
        server.epoch += 1
        return True

    def put_out(self, server: Server, why: str = "") -> bool:
        """Give a server no requests any more; returns whether it got some."""
        if not server.up:
            return False
        server.up, server.why = False, why
        server.troubles += 1
        server.epoch += 1
        return True

    def bring_back(self, server: Server) -> None:
        """Give a server requests again, as one that nothing is known of but its troubles."""
        server.begin(self.clock())

    def pace(self, server: Server) -> float:
        """Seconds that a request takes at a server."""
        now = self.clock()
        return server.pace(now, self._usual(now))

    def _place(self, server: Server, now: float) -> Place:
        server.add(1, now)
        return Place(server, now, server.epoch)

    def _usual(self, now: float) -> float:
        """What a server is taken for that has not answered yet: as fast as the fastest."""
        return min((s.own_pace(now) for s in self.servers if s.up and s.known), default=1.0)


def _expected(server: Server, now: float, usual: float) -> float:
    """Seconds until the answer; a full server takes about twice as long as an empty one."""
    return server.pace(now, usual) * (1 + server.in_flight / server.limit)


def _on_trial(server: Server, now: float, usual: float) -> bool:
    if server.in_flight or not server.known:
        return False
    return now - server.answered_at > TRIAL * server.pace(now, usual)


def _worth_a_wait(
    best: Server, fit: Sequence[Server], waiting: int, now: float, usual: float
) -> bool:
    """Whether faster servers, which are full, would answer all that wait sooner than this one.

    So a slow server works while there is work for all, and stays idle at the end of it.
    """
    here = best.pace(now, usual)
    paces = [(server.pace(now, usual), int(server.limit)) for server in fit if server is not best]
    faster = [(pace, limit) for pace, limit in paces if pace < here]
    if not faster:
        return False
    answers_per_second = sum(limit / max(pace, 1e-9) for pace, limit in faster)
    wait = waiting / answers_per_second + min(pace for pace, _ in faster)
    return here > SLOWER * wait
