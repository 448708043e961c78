"""Several servers do what they can together, whatever happens to some of them."""

import asyncio
import importlib
import math
import os
import signal
import socket
import ssl
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from completions_server import CompletionsServer, Habits, running
from distilabel.errors import DistilabelUserError
from troubled_answers import Trouble, says, stays_silent

from magpie_steps import CompletionsEngine
from magpie_steps.embedded import model_path
from magpie_steps.engines import admission, http_client, routing, server_pool
from magpie_steps.engines.base import Completion, EngineLostError, Sampling
from magpie_steps.engines.http_client import HttpClient, ServerError
from magpie_steps.engines.routing import Router
from magpie_steps.engines.server_pool import Fault, Flight, ServerPool, Verdict, Watch
from magpie_steps.engines.stats import EngineStats, ServerStats
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.steps.engine_work import work_of

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MODEL = str(model_path("tiny-instruct"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(server_pool, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(admission, "CHECK_SECONDS", 0.5)
    monkeypatch.syspath_prepend(BENCHMARKS)


def paced(places: int, mean_seconds: float) -> Any:
    return importlib.import_module("paced_server").running(places, mean_seconds)


@contextmanager
def engine_on(*urls: str, **fields: Any) -> Iterator[CompletionsEngine]:
    engine = CompletionsEngine(model=MODEL, base_urls=list(urls), **fields)
    engine.load()
    try:
        yield engine
    finally:
        engine.unload()


async def ask(engine: Any, seeds: range, tokens: int = 4) -> list[Completion]:
    prompt = engine.template.pre_query_ids().ids
    # Seeds that follow one another would be one request.
    wanted = (Sampling(seed=7 * seed, max_new_tokens=tokens) for seed in seeds)
    return list(await asyncio.gather(*(engine.complete(prompt, each) for each in wanted)))


def answers(engine: Any, seeds: range, tokens: int = 4) -> list[Completion]:
    return asyncio.run(ask(engine, seeds, tokens))


async def ask_until(engine: Any, so: Any, seconds: float = 30.0) -> None:
    """Go on asking until something is so."""
    seed = 10_000
    async with asyncio.timeout(seconds):
        while not so():
            await ask(engine, range(seed, seed + 4))
            seed += 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(behind: TransformersEngine, port: int, **habits: Any) -> CompletionsServer:
    server = CompletionsServer(behind, Habits(**habits), port)
    server.start()
    return server


# Faults in the middle of a run


@pytest.mark.slow
@pytest.mark.alone
def test_what_is_left_is_used_when_one_is_killed_and_one_becomes_slow() -> None:
    """The best of two, since other work may share the machine."""
    several = importlib.import_module("several_servers")
    shares = []
    for _ in range(2):
        found = several.measure(Namespace(rows=900, places=8, mean_seconds=0.15, seconds=5.0))
        assert found["rows"] == 900
        assert found["same_rows"]
        assert found["generated_twice"] == 0
        assert found["retries"] >= 1
        shares.append(found["after_the_faults"]["share_of_what_is_left"])
        if shares[-1] >= 0.9:
            break
    assert max(shares) >= 0.9


@pytest.mark.alone
def test_a_killed_servers_requests_are_answered_by_the_others(caplog: Any) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(paced(8, 0.05)) for _ in range(2)]
        engine = stack.enter_context(engine_on(*(s.url for s in servers), max_in_flight=8))

        async def all_of_them() -> list[Completion]:
            asking = asyncio.create_task(ask(engine, range(200)))
            while engine.stats.generated < 40:
                await asyncio.sleep(0.01)
            servers[0].kill()
            return await asking

        found = asyncio.run(all_of_them())
        assert len(found) == engine.stats.generated == 200
        assert engine.stats.failed == 0
        assert 1 <= engine.stats.retries <= 16
        alone = stack.enter_context(engine_on(servers[1].url))
        assert answers(alone, range(200)) == found
    assert caplog.text.count(f"{servers[0].url} is out: ") == 1
    assert "(1 of 2 are up)" in caplog.text


@pytest.mark.alone
def test_a_server_that_hangs_is_found_out_and_its_requests_go_elsewhere(
    caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "RESCUE", math.inf)  # or all are answered before it is found out
    with ExitStack() as stack:
        servers = [stack.enter_context(paced(8, 0.05)) for _ in range(2)]
        engine = stack.enter_context(engine_on(*(s.url for s in servers), max_in_flight=8))
        os.kill(servers[0].process.pid, signal.SIGSTOP)

        async def all_of_them() -> list[Completion]:
            async with asyncio.timeout(30):
                return await ask(engine, range(200))

        assert len(asyncio.run(all_of_them())) == 200
        assert "is out: " in caplog.text
        assert not engine.stats.servers[0].up
        os.kill(servers[0].process.pid, signal.SIGCONT)
        before = engine.stats.servers[0].answers
        asyncio.run(ask_until(engine, lambda: engine.stats.servers[0].answers > before))
        assert f"{servers[0].url} gets requests again (2 of 2 are up)" in caplog.text


def test_what_a_server_never_answers_is_asked_of_another(
    behind: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would say that it is well, so that only the time tells."""
    monkeypatch.setattr(server_pool, "SILENCE_SECONDS", 60.0)
    with running(behind) as good, running(behind) as bad, engine_on(good.url, bad.url) as engine:
        answers(engine, range(500, 540))
        bad.habits.trouble = stays_silent

        async def all_of_them() -> list[Completion]:
            async with asyncio.timeout(30):
                return await ask(engine, range(20))

        assert asyncio.run(all_of_them()) == answers(behind, range(20))
        assert sum(server.rescued for server in engine.stats.servers) >= 1
        assert engine.stats.generated == 60


@pytest.mark.parametrize(
    ("trouble", "most"),
    [
        (says(429, headers={"Retry-After": "0.1"}), 60),
        (says(503), 60),
        (says(500), 25),
        (says(200, "no JSON"), 25),
        (says(401), 20),
        (says(404, "there is no such model"), 20),
        (says(400), 150),
        (says(422), 150),
    ],
    ids=["429", "503", "500", "garbled", "401", "404", "400", "422"],
)
def test_a_server_that_answers_wrongly_harms_nobody(
    behind: TransformersEngine, caplog: Any, trouble: Trouble, most: int
) -> None:
    """What fails at once has the fewest requests: it must not draw them all."""
    asked = 0

    async def counted(request: Any) -> Any:
        nonlocal asked
        asked += 1
        return await trouble(request)

    with (
        running(behind) as good,
        running(behind) as bad,
        engine_on(good.url, bad.url, max_in_flight=8) as engine,
    ):
        bad.habits.trouble = counted
        assert answers(engine, range(150)) == answers(behind, range(150))
        assert engine.stats.failed == 0
        assert 1 <= asked <= most + 50  # the trials of one that asks to come back are among them
        assert engine.stats.retries <= most
    assert caplog.text.count(f"{bad.url} is out: ") <= 2


def test_all_servers_gone_is_the_end(behind: TransformersEngine) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(running(behind)) for _ in range(2)]
        engine = stack.enter_context(engine_on(*(s.url for s in servers), max_retries=2))
        for server in servers:
            server.stop()
        with pytest.raises(EngineLostError, match="run again"):
            answers(engine, range(3))


@pytest.mark.parametrize("trouble", [says(503), says(401)], ids=["503", "401"])
def test_all_servers_that_answer_nobody_are_the_end(
    behind: TransformersEngine, trouble: Trouble
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(running(behind)) for _ in range(2)]
        engine = stack.enter_context(engine_on(*(s.url for s in servers), max_retries=2))
        for server in servers:
            server.habits.trouble = trouble
        with pytest.raises(EngineLostError, match="run again"):
            answers(engine, range(3))


def test_a_request_outlives_a_storm_at_all_servers(behind: TransformersEngine) -> None:
    """Each server rests as often as a lone one would, however many turn a request away."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(behind)) for _ in range(3)]
        engine = stack.enter_context(engine_on(*(s.url for s in servers)))
        for server in servers:
            server.habits.trouble = says(503)

        async def all_of_it() -> list[Completion]:
            asking = asyncio.create_task(ask(engine, range(1)))
            await asyncio.sleep(0.7)
            for server in servers:
                server.habits.trouble = None
            return await asking

        assert asyncio.run(all_of_it()) == answers(behind, range(1))


def test_a_refused_request_waits_for_a_server_that_rests(behind: TransformersEngine) -> None:
    with running(behind) as good, running(behind) as bad, engine_on(good.url, bad.url) as engine:
        good.habits.troubles = [says(429, headers={"Retry-After": "0.3"})]
        bad.habits.trouble = says(401)
        assert answers(engine, range(1)) == answers(behind, range(1))
        assert not engine.stats.servers[1].up


def test_a_request_waits_for_a_server_that_rests_if_the_other_is_not_trusted(
    behind: TransformersEngine,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def check(url: str, whole: bool) -> Verdict:
        return Verdict("it is not trusted")

    async def post(good: CompletionsServer) -> Any:
        body = {"prompt": behind.template.pre_query_ids().ids, "max_tokens": 4, "temperature": 0}
        async with await asyncio.start_server(print, "127.0.0.1", 0, ssl=context) as other:
            port = other.sockets[0].getsockname()[1]
            client = HttpClient([good.url, f"https://127.0.0.1:{port}/v1"], check=check)
            return await client.post("/completions", body)

    with running(behind) as good:
        good.habits.troubles = [says(429, headers={"Retry-After": "0.3"})]
        assert asyncio.run(post(good))["choices"]


def test_what_all_servers_refuse_is_the_requests_own_fault(
    behind: TransformersEngine, caplog: Any
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(running(behind)) for _ in range(2)]
        engine = stack.enter_context(engine_on(*(s.url for s in servers)))
        for server in servers:
            server.habits.trouble = says(400)
        for number in range(5):
            with pytest.raises(ServerError, match="answered 400"):
                answers(engine, range(number, number + 1))
        assert engine.stats.retries == 5
        assert "is out: " not in caplog.text


@pytest.mark.parametrize("back", [True, False])
def test_servers_that_are_started_again_are_waited_for(
    behind: TransformersEngine, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    monkeypatch.setattr(http_client, "LEAST_PATIENCE_SECONDS", 0.2)
    ports = [free_port(), free_port()]
    servers = [started(behind, port) for port in ports]
    with engine_on(*(server.url for server in servers), max_retries=2) as engine:
        for server in servers:
            server.stop()
        asked = 0

        async def reconnect(attempt: int) -> None:
            """As of an owner that starts them again, long after all patience."""
            nonlocal asked
            asked += 1
            await asyncio.sleep(0.3)
            if asked == 4 and not back:
                raise EngineLostError("they will not be back; run again")
            if asked == 4:
                servers[:] = [started(behind, port) for port in ports]

        engine._client.reconnect = reconnect
        if not back:
            with pytest.raises(EngineLostError, match="will not be back"):
                answers(engine, range(1))
            return
        try:
            assert answers(engine, range(1)) == answers(behind, range(1))
        finally:
            for server in servers:
                server.stop()


# Places


def pool_of(router: Router, watch: Watch | None = None) -> ServerPool:
    """A pool whose requests succeed, or are turned away for a second."""
    figures = {url: ServerStats(url) for url in router.urls}
    return ServerPool(router, lambda _: Fault.OVERLOADED, lambda *_: 1.0, figures, watch)


def test_one_who_waits_long_does_not_keep_those_behind_who_are_served() -> None:
    router = Router(["a", "b"], 1)
    pool, a, b = pool_of(router), *router.servers

    async def answer(_: Any) -> str:
        await asyncio.sleep(0)
        return "yes"

    async def all_of_it() -> None:
        held = router.take(avoid={b})
        assert held is not None
        stuck = asyncio.create_task(pool.ask(Flight(answer, {b})))
        await asyncio.sleep(0)
        for _ in range(20):
            assert await asyncio.gather(*(pool.ask(Flight(answer)) for _ in range(5)))
            assert len(pool._waiting) == 1
        dropped = asyncio.create_task(pool.ask(Flight(answer, {b})))
        await asyncio.sleep(0)
        dropped.cancel()
        await asyncio.wait([dropped])
        assert len(pool._waiting) == 1
        router.given_up(held)
        assert await pool.ask(Flight(answer)) == await stuck == "yes"
        assert a.in_flight == b.in_flight == len(pool._waiting) == 0

    asyncio.run(all_of_it())


def test_a_rest_that_ends_between_two_looks_at_the_clock_wakes_who_waits() -> None:
    times = iter([0.0, 0.0, 0.0, 0.5, 0.5, 0.5])  # the last of them while it still rests
    router = Router(["a"], 1, lambda: next(times, 2.0))
    pool = pool_of(router)
    place = router.take()
    assert place is not None
    router.overloaded(place, 1.0)

    async def answer(_: Any) -> str:
        return "yes"

    async def all_of_it() -> str:
        async with asyncio.timeout(5):
            return str(await pool.ask(Flight(answer)))

    assert asyncio.run(all_of_it()) == "yes"


def test_a_request_that_is_cancelled_before_its_first_step_gives_its_place_back() -> None:
    router = Router(["a"], 1)

    async def check(url: str, whole: bool) -> Verdict:
        return Verdict()

    async def answer(_: Any) -> str:
        return "yes"

    pool = pool_of(router, Watch(check, print, lambda _: 0.0, 1.0))

    async def all_of_it() -> None:
        asking = asyncio.create_task(pool.ask(Flight(answer)))
        waiting = asyncio.create_task(pool.ask(Flight(answer)))
        asyncio.get_running_loop().call_soon(asking.cancel)
        asyncio.get_running_loop().call_soon(pool._move, router.servers[0])
        async with asyncio.timeout(5):
            await asyncio.wait([asking])
            assert await waiting == "yes"
        assert asking.cancelled()
        assert router.servers[0].in_flight == 0

    asyncio.run(all_of_it())


# Servers that come


def test_a_server_that_is_down_at_the_start_joins_later(
    behind: TransformersEngine, caplog: Any
) -> None:
    port = free_port()
    late = f"http://127.0.0.1:{port}/v1"
    with running(behind) as good, engine_on(late, good.url) as engine:
        assert f"{late} is out: " in caplog.text
        assert "(1 of 2 are up)" in caplog.text
        assert answers(engine, range(20)) == answers(behind, range(20))
        server = started(behind, port)
        try:
            asyncio.run(ask_until(engine, lambda: engine.stats.servers[0].answers > 3))
        finally:
            server.stop()
        assert f"{late} gets requests again (2 of 2 are up)" in caplog.text


def test_all_down_at_the_start_is_one_clear_error() -> None:
    urls = [f"http://127.0.0.1:{free_port()}/v1" for _ in range(2)]
    with pytest.raises(DistilabelUserError, match=f"no server to work with: {urls[0]}"):
        CompletionsEngine(model=MODEL, base_urls=urls).load()


def test_a_server_that_goes_and_comes_back_gets_requests_again(
    behind: TransformersEngine, caplog: Any
) -> None:
    port = free_port()
    first = started(behind, port)
    with running(behind) as good, engine_on(first.url, good.url) as engine:
        answers(engine, range(20))
        first.stop()
        assert answers(engine, range(20, 60)) == answers(behind, range(20, 60))
        assert not engine.stats.servers[0].up
        second, before = started(behind, port), engine.stats.servers[0].answers
        try:
            asyncio.run(ask_until(engine, lambda: engine.stats.servers[0].answers > before))
        finally:
            second.stop()
        assert caplog.text.count(f"{first.url} is out: ") == 1
        assert caplog.text.count(f"{first.url} gets requests again") == 1


def test_another_model_is_refused_by_its_name(behind: TransformersEngine) -> None:
    with (
        running(behind) as good,
        running(behind, lists=["llama"]) as other,
        pytest.raises(DistilabelUserError, match=r"has no model 'tiny-instruct'; it serves llama"),
    ):
        CompletionsEngine(model=MODEL, base_urls=[good.url, other.url]).load()


@pytest.mark.parametrize(
    ("habits", "wrong"),
    [
        ({"lists": ["llama"]}, "has no model 'tiny-instruct'; it serves llama"),
        ({"ignored": {"top_k"}}, "it ignores top_k, which the other servers obey"),
        ({"takes_ids": False}, "it is of another kind than the other servers"),
        ({"limit": 100}, "it takes 100 tokens, the other servers 512"),
        ({"chats": True}, "chat template"),
    ],
)
def test_who_comes_later_must_be_like_the_others(
    behind: TransformersEngine, caplog: Any, habits: dict[str, Any], wrong: str
) -> None:
    port = free_port()
    with (
        running(behind) as good,
        engine_on(f"http://127.0.0.1:{port}/v1", good.url) as engine,
    ):
        server = started(behind, port, **habits)
        try:
            asyncio.run(ask_until(engine, lambda: wrong in caplog.text))
            answers(engine, range(50))
        finally:
            server.stop()
        assert engine.stats.servers[0].answers == 0
        assert not engine.stats.servers[0].up
        assert caplog.text.count(wrong) == 1


# Connections, counters, the progress line


@pytest.mark.alone
def test_connections_are_used_again() -> None:
    with (
        paced(8, 0.01) as one,
        paced(8, 0.01) as two,
        engine_on(one.url, two.url, max_in_flight=8) as engine,
    ):
        before = [server.told() for server in (one, two)]
        answers(engine, range(400))
        after = [server.told() for server in (one, two)]
    made = [now["answers"] - then["answers"] for then, now in zip(before, after, strict=True)]
    opened = [
        now["connections"] - then["connections"] for then, now in zip(before, after, strict=True)
    ]
    assert sum(made) == 400
    assert all(each <= 8 for each in opened)


def test_servers_are_remembered_by_the_next_event_loop(behind: TransformersEngine) -> None:
    """A step asks each batch's rows on a loop of its own."""
    with running(behind) as good, running(behind) as bad, engine_on(good.url, bad.url) as engine:
        bad.stop()
        answers(engine, range(20))
        retries = engine.stats.retries
        assert retries >= 1
        answers(engine, range(20, 40))
        assert engine.stats.retries == retries


def test_the_progress_line_says_what_each_of_several_servers_gives() -> None:
    now = [0.0]
    one, two = (ServerStats(name, clock=lambda: now[0]) for name in ("a:1", "b:1"))
    stats = EngineStats(servers=[one, two])
    now[0], one.tokens, two.tokens = 10.0, 12_340, 100
    assert "2/2 servers up (a:1 1,234, b:1 10 tokens/s)" in work_of(stats, 10.0)
    two.up, one.tokens, now[0] = False, 12_440, 20.0
    assert "1/2 servers up (a:1 10, b:1 out tokens/s)" in work_of(stats, 20.0)
    assert stats.as_dict()["servers"]["a:1"] == {"answers": 0, "tokens": 12_440, "rescued": 0}
    assert not any("servers" in part for part in work_of(EngineStats(), 1.0))
