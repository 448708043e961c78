"""How much of what is left do several servers give when one dies and one becomes slow?

Three completions servers, each a process of its own with a fixed number of places and a measured
spread of seconds, write instructions for the step that makes rows of them. When a third of the
requests is answered, one is killed with SIGKILL and another goes on at a tenth of its pace. What
the rest could do is measured in the same run: the rate of an untouched server and of a slowed one,
each alone with more requests than it has places. The rows must be those of an undisturbed run.
"""

import argparse
import asyncio
import itertools
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import quiet, report, say
from paced_server import Running, running

from magpie_steps import CompletionsEngine, InstructionGenerator
from magpie_steps.embedded import model_path
from magpie_steps.engines.base import Sampling
from magpie_steps.engines.journal import Journal

MODEL = str(model_path("tiny-instruct"))
SLOWED = 0.1
UNTOUCHED, KILLED, SLOW = range(3)


@dataclass(slots=True)
class Faults:
    """Waits until a third of a run's requests is answered, then kills and slows servers.

    Attributes:
        engine: whose requests.
        servers: the servers.
        after: answers to wait for.
        at: when it was, by `time.perf_counter`.
        answers: how many answers there were by then.
        until: answers from which on there is less to do than there are places.
        tail_at: when there were so many.
        over: ends the waiting.
    """

    engine: CompletionsEngine
    servers: list[Running]
    after: int
    at: float = 0.0
    answers: int = 0
    until: int = 0
    tail_at: float = 0.0
    over: bool = False

    def run(self) -> None:
        """Do it."""
        self._wait_for(self.after)
        self.servers[SLOW].set_speed(SLOWED)
        self.servers[KILLED].kill()
        self.at, self.answers = time.perf_counter(), self.engine.stats.generated
        self._wait_for(self.until)
        self.tail_at = time.perf_counter()

    def _wait_for(self, answers: int) -> None:
        while self.engine.stats.generated < answers and not self.over:
            time.sleep(0.005)


def engine_on(servers: list[Running], places: int) -> CompletionsEngine:
    """An engine on servers, not yet loaded."""
    urls = [server.url for server in servers]
    return CompletionsEngine(model=MODEL, base_urls=urls, max_in_flight=places)


def rows_of(engine: CompletionsEngine, num_rows: int, faults: Faults | None = None) -> list[Any]:
    """Run the step; returns its rows."""
    step = InstructionGenerator(name="rows", llm=engine, num_rows=num_rows, batch_size=100, seed=7)
    step.load()
    thread = threading.Thread(target=faults.run) if faults else None
    if thread:
        thread.start()
    try:
        return [row for batch, _ in step.process() for row in batch]
    finally:
        if faults and thread:
            faults.over = True
            thread.join()


def rate_alone(server: Running, places: int, seconds: float) -> float:
    """Requests per second of one server that has always more than it has places for."""
    engine = engine_on([server], places)
    engine.load()
    prompt = engine.template.pre_query_ids().ids
    seeds = itertools.count(10**6, 7)

    async def ask() -> None:
        while True:
            await engine.complete(prompt, Sampling(seed=next(seeds), max_new_tokens=256))

    async def answers_per_second() -> float:
        asking = [asyncio.create_task(ask()) for _ in range(2 * places)]
        await asyncio.sleep(seconds / 3)
        began, before = time.perf_counter(), engine.stats.generated
        await asyncio.sleep(seconds)
        answers: int = engine.stats.generated - before
        rate = answers / (time.perf_counter() - began)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        return rate

    try:
        return asyncio.run(answers_per_second())
    finally:
        engine.unload()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything; returns the figures."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(args.places, args.mean_seconds)) for _ in range(3)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say("undisturbed")
        engine = engine_on(servers, args.places)
        calm = rows_of(engine, args.rows)
        requests, calm_seconds = engine.stats.generated, engine.stats.seconds
        engine.unload()

        say("alone")
        untouched = rate_alone(servers[UNTOUCHED], args.places, args.seconds)
        servers[SLOW].set_speed(SLOWED)
        slow = rate_alone(servers[SLOW], args.places, 2 * args.seconds)
        servers[SLOW].set_speed(1.0)

        say("one is killed, one becomes slow")
        journal = folder / "journal.sqlite"
        engine = engine_on(servers, args.places)
        engine.use_journal(journal)
        faults = Faults(engine, servers, requests // 3, until=requests - 2 * args.places)
        wild = rows_of(engine, args.rows, faults)
        seconds = time.perf_counter() - faults.at
        rate = (engine.stats.generated - faults.answers) / seconds
        full_rate = (faults.until - faults.answers) / (faults.tail_at - faults.at)
        stats = engine.stats.as_dict()
        connections = servers[UNTOUCHED].told()["connections"]
        engine.unload()
    opened = Journal(journal, run_id="look")
    counts = opened.counts()
    opened.close()
    return {
        "rows": len(wild),
        "same_rows": wild == calm,
        "generated_twice": counts["generated"] - counts["completions"],
        "requests": requests,
        "retries": stats["retries"],
        "servers": list(stats["servers"].values()),
        "connections_to_untouched": connections,
        "undisturbed_requests_per_second": round(requests / calm_seconds, 1),
        "alone_requests_per_second": {"untouched": round(untouched, 1), "slowed": round(slow, 1)},
        "after_the_faults": {
            "seconds": round(seconds, 2),
            "requests_per_second": round(rate, 1),
            "share_of_what_is_left": round(rate / (untouched + slow), 3),
            "share_before_the_last_places_empty": round(full_rate / (untouched + slow), 3),
        },
    }


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2400)
    parser.add_argument("--places", type=int, default=16, help="of each server")
    parser.add_argument("--mean-seconds", type=float, default=0.4, help="that a request takes")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a server is alone")
    return parser.parse_args()


def main() -> None:
    """Measure and say."""
    args = parse_args()
    quiet()
    found = measure(args)
    after, alone = found["after_the_faults"], found["alone_requests_per_second"]
    report(
        [
            ("rows, as in an undisturbed run", f"{found['rows']} {found['same_rows']}"),
            ("requests/s undisturbed", f"{found['undisturbed_requests_per_second']}"),
            ("requests/s alone: untouched, slowed", f"{alone['untouched']}, {alone['slowed']}"),
            ("requests/s after the faults", f"{after['requests_per_second']}"),
            ("share of what is left", f"{after['share_of_what_is_left']:.1%}"),
            ("retries", f"{found['retries']}"),
        ],
        vars(args),
        found,
    )


if __name__ == "__main__":
    main()
