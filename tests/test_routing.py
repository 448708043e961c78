"""Requests go where they are answered soonest, and every place is given back."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.engines.routing import MEMORY, MOST_MISSES, RESCUE, TRIAL, Place, Router, Server


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def router_of(*names: str, places: int = 4) -> tuple[Router, Clock]:
    clock = Clock()
    return Router(list(names), places, clock), clock


def fill(router: Router, waiting: int = 1000) -> list[Place]:
    """Take all places that are given while so many requests wait."""
    taken = []
    while place := router.take(waiting):
        taken.append(place)
    return taken


def teach(router: Router, clock: Clock, paces: dict[str, float], answers: int = 40) -> None:
    """Let each server answer so many requests, one after the other, each in its own time."""
    for server in router.servers:
        for _ in range(answers):
            place = Place(server, clock.now, server.epoch)
            server.add(1, clock.now)
            clock.now += paces[server.url]
            router.answered(place)


def spread(places: list[Place]) -> dict[str, int]:
    return dict(Counter(place.server.url for place in places))


def test_equal_servers_get_as_much() -> None:
    router, _ = router_of("a", "b", "c", places=100)
    taken = [router.take() for _ in range(30)]
    assert spread([place for place in taken if place]) == {"a": 10, "b": 10, "c": 10}


def test_a_request_without_a_place_waits() -> None:
    router, _ = router_of("a", "b", places=2)
    taken = fill(router)
    assert spread(taken) == {"a": 2, "b": 2}
    router.answered(taken[0])
    again = router.take()
    assert again is not None
    assert again.server is taken[0].server


@pytest.mark.parametrize("places", [0, -1])
def test_a_server_has_a_place(places: int) -> None:
    with pytest.raises(ValueError, match=r"needs a place at least, got .*; give 1 or more"):
        Router(["a"], places)


def test_a_pace_is_requests_there_over_answers_per_second() -> None:
    router, clock = router_of("a", places=8)
    there = fill(router)
    for _ in range(200):  # 8 at once, each takes 8 s, one ends each second
        clock.now += 1
        router.answered(there.pop(0))
        there += fill(router)
    assert router.pace(router.servers[0]) == pytest.approx(8, rel=0.01)


def test_a_server_that_hangs_becomes_slow_without_an_answer() -> None:
    router, clock = router_of("a", "b")
    teach(router, clock, {"a": 1.0, "b": 1.0})
    a, b = router.servers
    for _ in range(4):
        a.add(1, clock.now)
    clock.now += 60
    assert router.pace(a) > 10 * router.pace(b)


def test_a_slow_server_gets_nothing_while_a_fast_one_has_places() -> None:
    router, clock = router_of("fast", "slow")
    teach(router, clock, {"slow": 10.0, "fast": 1.0})
    taken = [router.take() for _ in range(4)]
    assert spread([place for place in taken if place]) == {"fast": 4}
    assert router.take(waiting=1) is None  # to wait for a place is quicker


def test_a_slow_server_works_while_there_is_work_for_all() -> None:
    """All places of both are taken, so none of what they can do is lost."""
    router, clock = router_of("fast", "slow")
    teach(router, clock, {"slow": 10.0, "fast": 1.0})
    assert spread(fill(router, waiting=100)) == {"fast": 4, "slow": 4}


def test_a_server_that_is_a_little_slower_is_as_good() -> None:
    router, clock = router_of("a", "b")
    teach(router, clock, {"a": 1.0, "b": 1.5})
    assert spread(fill(router, waiting=1)) == {"a": 4, "b": 4}


def test_a_server_that_was_left_alone_for_long_is_tried_again() -> None:
    router, clock = router_of("fast", "slow")
    teach(router, clock, {"slow": 10.0, "fast": 1.0})
    slow = router.servers[1]
    for _ in range(200):
        place = router.take()
        assert place is not None
        if place.server is slow:
            break
        clock.now += 1.0
        router.answered(place)
    assert place.server is slow
    assert clock.now - slow.answered_at > TRIAL * 10
    second = router.take()
    assert second is not None
    assert second.server is not slow  # one is enough to see


def test_what_takes_too_long_is_sent_to_a_faster_server_too() -> None:
    router, clock = router_of("fast", "slow")
    teach(router, clock, {"fast": 1.0, "slow": 20.0})
    fast, slow = router.servers
    slow.add(1, clock.now)
    place = Place(slow, clock.now, slow.epoch)
    assert router.second(place) is None  # not at once
    clock.now += 2.0
    second = router.second(place)
    assert second is not None
    assert second.server is fast


def test_what_takes_as_long_as_elsewhere_is_not() -> None:
    router, clock = router_of("a", "b")
    teach(router, clock, {"a": 1.0, "b": 1.0})
    place = router.take()
    assert place is not None
    clock.now += RESCUE - 1
    assert router.second(place) is None
    clock.now += 2
    second = router.second(place)  # a single one may be lost at a good server
    assert second is not None
    assert second.server is not place.server


def test_nothing_is_sent_twice_to_a_server_that_nothing_is_known_of() -> None:
    router, clock = router_of("a", "b")
    place = router.take()
    assert place is not None
    clock.now += 1000
    assert router.second(place) is None


def test_an_overloaded_server_rests_and_then_gets_half_as_many() -> None:
    router, clock = router_of("a", "b", places=8)
    taken = [place for place in fill(router) if place.server.url == "a"]
    a, b = router.servers
    assert router.overloaded(taken[0], 5.0)
    assert not router.overloaded(taken[1], 5.0)  # the same news
    assert (a.limit, a.in_flight, a.troubles) == (4.0, 6, 1)
    for place in taken[2:]:
        router.given_up(place)
    assert router.take(100) is None
    assert router.rest_seconds() == pytest.approx(5)
    clock.now += 5.0
    assert router.rest_seconds() is None
    back = fill(router)
    assert spread(back) == {"a": 4}
    for _ in range(100):  # it earns its places back, one for as many answers as it has
        router.answered(back.pop())
        place = router.take()
        assert place is not None
        back.append(place)
    assert a.limit == 8.0
    assert b.in_flight == 8


def test_a_limit_never_falls_below_one_place() -> None:
    router, clock = router_of("a")
    for _ in range(20):
        place = router.take()
        assert place is not None
        router.overloaded(place, 1.0)
        clock.now += 1.0
    assert router.servers[0].limit == 1.0


def test_a_server_that_fails_again_and_again_is_told() -> None:
    """It answers at once, so it would draw all requests."""
    router, _ = router_of("a", "b", places=MOST_MISSES)
    mine = [place for place in fill(router) if place.server.url == "a"]
    assert [router.missed(place) for place in mine] == [False] * (MOST_MISSES - 1) + [True]
    assert router.put_out(mine[0].server)
    assert not router.put_out(mine[0].server)


def test_answers_between_failures_make_them_the_requests_own() -> None:
    router, _ = router_of("a", places=1)
    for _ in range(3 * MOST_MISSES):
        bad = router.take()
        assert bad is not None
        assert not router.missed(bad)
        good = router.take()
        assert good is not None
        router.answered(good)


def test_a_request_avoids_servers_that_failed_on_it_while_there_are_others() -> None:
    router, _ = router_of("a", "b", places=1)
    a, b = router.servers
    assert router.has_other({a})
    place = router.take(avoid={a})
    assert place is not None
    assert place.server is b
    assert router.take(avoid={a}) is None  # it waits for b
    router.put_out(b)
    assert not router.has_other({a})
    last = router.take(avoid={a})
    assert last is not None
    assert last.server is a


def test_a_server_that_is_out_gets_nothing_until_it_is_back() -> None:
    router, clock = router_of("a", "b")
    teach(router, clock, {"a": 1.0, "b": 30.0})
    b = router.servers[1]
    router.put_out(b)
    assert spread(fill(router)) == {"a": 4}
    router.bring_back(b)
    assert not b.known
    assert spread(fill(router)) == {"b": 4}  # what it was before counts no more


def test_what_was_sent_before_a_server_went_is_no_news_after_it_is_back() -> None:
    router, _ = router_of("a", places=MOST_MISSES)
    taken = fill(router)
    router.put_out(router.servers[0])
    router.bring_back(router.servers[0])
    assert not any(router.missed(place) for place in taken)
    assert not router.overloaded(taken[0], 9.0)
    assert router.servers[0].in_flight == 0


def test_an_heir_knows_the_servers_and_has_nothing_under_way() -> None:
    router, clock = router_of("a", "b")
    teach(router, clock, {"a": 1.0, "b": 9.0})
    router.put_out(router.servers[0])
    fill(router)
    heir = router.heir()
    assert [server.up for server in heir.servers] == [False, True]
    assert [server.in_flight for server in heir.servers] == [0, 0]
    heir.bring_back(heir.servers[0])
    assert heir.pace(heir.servers[1]) == pytest.approx(9.0)


def test_an_heir_of_heirs_tries_a_server_again_that_was_left_alone() -> None:
    """Each batch of rows has a router of its own, which may never live long enough."""
    router, clock = router_of("fast", "slow")
    teach(router, clock, {"slow": 10.0, "fast": 1.0})
    for _ in range(40):
        clock.now += 4.0
        router = router.heir()
        place = router.take()
        assert place is not None
        if place.server.url == "slow":
            return
        clock.now += 1.0
        router.answered(place)
    pytest.fail("it was never tried again")


def test_a_router_is_full_when_nobody_could_get_a_place() -> None:
    router, clock = router_of("a", "b", "c", places=1)
    for place in fill(router)[:2]:
        router.overloaded(place, 1.0)
    assert router.full
    clock.now += 1.0
    assert not router.full
    router.put_out(router.servers[0])
    router.put_out(router.servers[1])
    assert router.full


def test_a_failure_may_be_told_after_its_place_was_given_back() -> None:
    router, _ = router_of("a", places=MOST_MISSES)
    places = fill(router)
    for place in places:
        router.given_up(place)
    assert [router.missed(place) for place in places][-1]
    assert router.servers[0].in_flight == 0


def test_a_place_is_given_back_once() -> None:
    router, _ = router_of("a")
    place = router.take()
    assert place is not None
    assert router.given_up(place)
    assert not router.given_up(place)
    router.answered(place)
    router.missed(place)
    router.overloaded(place, 1.0)
    assert router.servers[0].in_flight == 0
    assert not router.servers[0].known


def end(router: Router, place: Place, how: str) -> None:
    if how == "answered":
        router.answered(place)
    elif how == "missed":
        if router.missed(place):
            router.put_out(place.server)
    elif how == "overloaded":
        router.overloaded(place, 3.0)
    else:
        router.given_up(place)


def act(router: Router, held: list[Place], event: str, number: int) -> None:
    """Let something happen; `held` are the places that are not given back."""
    some = held[number % len(held)] if held else None
    if event == "flip":
        change(router, router.servers[number % len(router.servers)])
    elif event == "take" or some is None:
        taken = router.take(1 + number, set(router.servers[: number % len(router.servers)]))
        held += [taken] if taken else []
    elif event == "second":
        other = router.second(some)
        assert other is None or other.server is not some.server
        held += [other] if other else []
    else:
        held.remove(some)
        end(router, some, event)


def change(router: Router, server: Server) -> None:
    """Put a server out, or bring it back."""
    if not router.put_out(server):
        router.bring_back(server)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["take", "second", "answered", "missed", "overloaded", "given up", "flip"]),
        st.integers(0, 1000),
        st.floats(0.0, 20.0),
    ),
    max_size=120,
)


@given(EVENTS, st.integers(1, 4), st.integers(1, 5))
def test_whatever_happens_limits_hold_and_all_places_come_back(
    events: list[tuple[str, int, float]], count: int, places: int
) -> None:
    router, clock = router_of(*"abcd"[:count], places=places)
    held: list[Place] = []
    for event, number, seconds in events:
        clock.now += seconds
        before = len(held)
        act(router, held, event, number)
        if len(held) > before:
            server = held[-1].server
            assert server.up
            assert server.rests_until <= clock.now
            assert server.in_flight <= int(server.limit)
        for server in router.servers:
            assert server.in_flight == sum(place.server is server for place in held)
            assert 0 <= server.in_flight <= places
            assert 1 <= server.limit <= places
            assert router.pace(server) >= 0
    for place in held:
        router.given_up(place)
    assert all(server.in_flight == 0 for server in router.servers)


@given(
    st.lists(st.floats(0.01, 50.0), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 60)
)
def test_nobody_waits_for_ever(paces: list[float], places: int, requests: int) -> None:
    """Servers of any paces answer all requests, and none waits while no server works."""
    names = "abcde"[: len(paces)]
    router, clock = router_of(*names, places=places)
    teach(router, clock, dict(zip(names, paces, strict=True)), answers=MEMORY)
    paces_of = dict(zip(names, paces, strict=True))
    under_way: list[tuple[float, int, Place]] = []
    answered = 0
    while answered < requests:
        waiting = requests - answered - len(under_way)
        while waiting and (place := router.take(waiting)):
            under_way.append((clock.now + paces_of[place.server.url], waiting, place))
            waiting -= 1
        assert under_way
        under_way.sort(key=lambda each: each[:2])
        clock.now, _, done = under_way.pop(0)
        router.answered(done)
        answered += 1
