"""How busy an engine was follows from when its requests came and went."""

import asyncio
import json
from typing import Any

import pytest

from magpie_steps.engines.base import EngineStats as FromBase
from magpie_steps.engines.base import Sampling
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.engines.stats import EngineStats


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def stats_of(capacity: int, start: float = 0.0) -> tuple[EngineStats, Clock]:
    clock = Clock(start)
    return EngineStats(capacity=capacity, clock=clock), clock


def enter(stats: EngineStats, times: int) -> None:
    for _ in range(times):
        stats.enter()


def leave(stats: EngineStats, times: int) -> None:
    for _ in range(times):
        stats.leave()


def test_an_engine_that_was_never_asked_has_done_nothing() -> None:
    stats, clock = stats_of(4)
    clock.move(10)
    assert stats.seconds == stats.busy_share == stats.cached_share == 0
    assert stats.in_flight == stats.waiting == 0
    assert FromBase is EngineStats


@pytest.mark.parametrize("start", [0.0, 1000.0])
def test_half_the_places_all_the_time_is_half_busy(start: float) -> None:
    """A clock that began at 0 was taken for one that had not begun."""
    stats, clock = stats_of(4, start)
    enter(stats, 2)
    clock.move(10)
    assert stats.busy_share == pytest.approx(0.5)
    leave(stats, 2)
    assert stats.busy_share == pytest.approx(0.5)
    assert stats.seconds == 10


def test_half_the_places_half_the_time_is_a_quarter() -> None:
    stats, clock = stats_of(4)
    enter(stats, 2)
    clock.move(5)
    leave(stats, 2)
    clock.move(5)
    enter(stats, 1)  # the idle time counts only now that there is something after it
    leave(stats, 1)
    assert stats.seconds == 10
    assert stats.busy_share == pytest.approx(0.25)


def test_idle_time_counts_between_requests_but_not_before_and_after_them() -> None:
    stats, clock = stats_of(1)
    clock.move(100)
    for _ in range(2):
        stats.enter()
        clock.move(1)
        stats.leave()
        clock.move(2)
    assert stats.seconds == 4
    assert stats.busy_share == pytest.approx(2 / 4)
    clock.move(1000)
    assert stats.seconds == 4
    assert stats.busy_share == pytest.approx(2 / 4)


def test_requests_beyond_the_places_wait_and_make_an_engine_no_busier() -> None:
    stats, clock = stats_of(4)
    enter(stats, 10)
    assert (stats.in_flight, stats.waiting) == (10, 6)
    clock.move(3)
    assert stats.busy_share == pytest.approx(1)
    leave(stats, 8)
    assert (stats.in_flight, stats.waiting) == (2, 0)
    clock.move(3)
    assert stats.busy_share == pytest.approx(0.75)
    leave(stats, 2)
    assert stats.waiting == 0


def test_the_share_is_right_whenever_it_is_looked_at() -> None:
    """Looking settles what has passed; looking often must not count it twice."""
    stats, clock = stats_of(2)
    stats.enter()
    for second in range(1, 9):
        clock.move(1)
        assert stats.busy_share == pytest.approx(0.5)
        assert stats.busy_share == pytest.approx(0.5)
        assert stats.seconds == second
    stats.enter()
    clock.move(8)
    assert stats.busy_share == pytest.approx(0.75)


def test_the_share_is_never_above_one() -> None:
    stats, clock = stats_of(3)
    for step in range(1, 400):
        (stats.leave if stats.in_flight and step % 3 == 0 else stats.enter)()
        clock.move(0.1 * (step % 7))
        assert 0 <= stats.busy_share <= 1
    assert stats.in_flight > 3


def test_a_moment_without_length_is_no_division_by_zero() -> None:
    stats, _ = stats_of(1)
    stats.enter()
    assert stats.busy_share == 0
    stats.leave()
    assert stats.busy_share == stats.seconds == 0


def test_the_cached_share_is_of_the_prompt_tokens() -> None:
    stats = EngineStats(prompt_tokens=200, cached_tokens=50, completion_tokens=1000)
    assert stats.cached_share == 0.25


def test_a_record_of_it_is_json_and_holds_what_a_run_is_judged_by() -> None:
    stats, clock = stats_of(3)
    enter(stats, 2)
    clock.move(1.23456)
    leave(stats, 2)
    stats.generated, stats.retries, stats.gpus = 2, 1, 8
    stats.prompt_tokens, stats.cached_tokens, stats.completion_tokens = 20, 5, 70
    record: dict[str, Any] = json.loads(json.dumps(stats.as_dict()))
    assert record == {
        "capacity": 3,
        "gpus": 8,
        "generated": 2,
        "replayed": 0,
        "failed": 0,
        "retries": 1,
        "prompt_tokens": 20,
        "cached_tokens": 5,
        "completion_tokens": 70,
        "seconds": 1.235,
        "busy_share": 0.6667,
    }


def test_an_engine_counts_what_it_is_asked_while_it_is_asked() -> None:
    engine = ScriptedEngine(delay_seconds=0.05)
    engine.load()
    seen: list[int] = []

    async def main() -> None:
        rows = [
            asyncio.create_task(engine.complete((0, 1), Sampling(seed=seed))) for seed in range(5)
        ]
        await asyncio.sleep(0.01)
        seen.append(engine.stats.in_flight)
        rows[0].cancel()
        await asyncio.wait(rows)

    asyncio.run(main())
    stats = engine.stats
    assert seen == [5]
    assert (stats.in_flight, stats.generated, stats.failed) == (0, 4, 0)
    assert stats.capacity == engine.capacity == 256
    assert 0.03 < stats.seconds < 5
    assert 0 < stats.busy_share <= 5 / 256
    engine.load()
    assert engine.stats.seconds == engine.stats.generated == 0
    engine.unload()


def test_a_request_that_fails_leaves_too() -> None:
    engine = ScriptedEngine(failure_fraction=1.0)
    engine.load()
    with pytest.raises(RuntimeError, match="as it was told to"):
        asyncio.run(engine.complete((0, 1), Sampling()))
    assert (engine.stats.in_flight, engine.stats.failed) == (0, 1)
    engine.unload()
