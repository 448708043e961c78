"""What the benchmarks stand on, and that the cheap ones run to their last line."""

import asyncio
import importlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import magpie_steps
from magpie_steps.engines.base import Sampling

pytestmark = pytest.mark.alone

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = (
    "filtering",
    "memory_of_rows",
    "neighbours",
    "overhead",
    "prefix",
    "report",
    "scale",
    "startup",
    "throughput",
)
QUESTION = [{"role": "user", "content": "How are you?"}]


@pytest.fixture(autouse=True)
def _scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def simulated(**fields: Any) -> Any:
    engine = importlib.import_module("simulated_gpu").SimulatedEngine(**fields)
    engine.load()
    return engine


def answers(engine: Any, seeds: Sequence[int], most: int = 2048) -> tuple[list[Any], float]:
    """Ask for answers all at once; returns them and the seconds that it took."""
    prompt = engine.template.response_prompt_ids(QUESTION)

    async def ask() -> list[Any]:
        samplings = [Sampling(seed=seed, max_new_tokens=most) for seed in seeds]
        return await asyncio.gather(*(engine.complete(prompt, each) for each in samplings))

    start = time.perf_counter()
    done = asyncio.run(ask())
    return done, time.perf_counter() - start


def test_a_simulated_row_takes_a_step_for_each_token() -> None:
    engine = simulated(
        step_seconds=0.002, row_seconds=0.0001, response_mean=100, response_deviation=0
    )
    [answer], seconds = answers(engine, [1])
    assert answer.completion_tokens == len(answer.token_ids) == 100
    assert len(answer.text) == 400
    assert 0.21 <= seconds < 0.24


@pytest.mark.parametrize("devices", [1, 4])
def test_a_full_simulated_gpu_writes_a_token_for_each_slot_and_step(devices: int) -> None:
    engine = simulated(
        devices=devices,
        slots=16,
        step_seconds=0.0005,
        row_seconds=0.00002,
        response_mean=100,
        response_deviation=0,
    )
    assert engine.capacity == 16 * devices
    done, seconds = answers(engine, range(80 * devices))
    expected = devices * 16 / (0.0005 + 16 * 0.00002)
    assert sum(a.completion_tokens for a in done) / seconds == pytest.approx(expected, rel=0.1)


def test_simulated_rows_of_many_lengths_keep_the_slots_full() -> None:
    engine = simulated(slots=16, step_seconds=0.0001, row_seconds=0.000005)
    done, seconds = answers(engine, range(200))
    expected = 16 / (0.0001 + 16 * 0.000005)
    assert 0.85 * expected < sum(a.completion_tokens for a in done) / seconds <= expected


def test_simulated_lengths_are_spread_like_a_models_and_depend_on_the_request_alone() -> None:
    engine = simulated()
    samplings = [Sampling(seed=seed, max_new_tokens=100_000) for seed in range(4000)]
    for prompt, mean, deviation in (
        (engine.template.pre_query_ids().ids, 60, 40),
        (engine.template.response_prompt_ids(QUESTION), 450, 300),
    ):
        lengths = [engine.length(prompt, sampling) for sampling in samplings]
        assert lengths == [simulated().length(prompt, sampling) for sampling in samplings]
        average = sum(lengths) / len(lengths)
        assert average == pytest.approx(mean, rel=0.05)
        spread = (sum((length - average) ** 2 for length in lengths) / len(lengths)) ** 0.5
        assert spread == pytest.approx(deviation, rel=0.15)
    assert engine.length(prompt, Sampling(seed=1, max_new_tokens=7)) == 7


def test_a_simulated_engine_serves_one_event_loop_after_the_other() -> None:
    engine = simulated(step_seconds=0.0001, row_seconds=0.0)
    first, second = answers(engine, range(5))[0], answers(engine, range(5))[0]
    assert first == second


def test_a_simulated_row_that_is_cancelled_holds_up_nobody() -> None:
    engine = simulated(slots=1, step_seconds=0.0001, row_seconds=0.0)
    prompt = engine.template.response_prompt_ids(QUESTION)

    async def ask() -> int:
        tasks = [asyncio.create_task(engine.complete(prompt, Sampling(seed=s))) for s in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(isinstance(each, asyncio.CancelledError) for each in done)

    assert asyncio.run(ask()) == 1


def test_a_simulated_gpu_knows_for_how_long_its_places_were_taken() -> None:
    """Of 4 places, 6 rows of 100 tokens take 2 for the whole time and 2 for half of it, or more."""
    engine = simulated(
        slots=4, step_seconds=0.001, row_seconds=0.0, response_mean=100, response_deviation=0
    )
    _, seconds = answers(engine, range(6))
    [gpu] = engine._devices.gpus
    assert gpu.busy_seconds == pytest.approx(0.6, rel=0.01)
    assert seconds >= 0.2


def test_virtual_time_is_the_work_done_and_the_waits_that_were_skipped() -> None:
    virtual_time = importlib.import_module("virtual_time")

    async def work() -> tuple[list[str], float]:
        loop, order = asyncio.get_running_loop(), list[str]()

        async def wait(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        start = loop.time()
        await asyncio.gather(wait("second", 2000.0), wait("first", 1000.0))
        cpu = time.process_time()
        while time.process_time() < cpu + 0.05:
            pass
        await asyncio.sleep(0)
        return order, loop.time() - start

    start = time.perf_counter()
    order, seconds = virtual_time.run_in_virtual_time(work())
    assert order == ["first", "second"]
    assert 2000.05 <= seconds < 2001
    assert time.perf_counter() - start < 10


def test_virtual_time_stands_still_while_another_thread_is_waited_for() -> None:
    virtual_time = importlib.import_module("virtual_time")

    async def work() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.to_thread(time.sleep, 0.3)
        return loop.time() - start

    assert virtual_time.run_in_virtual_time(work()) < 0.2


class Asked:
    """Answers each request at the next turn of the loop; notes the order and how many wait."""

    def __init__(self) -> None:
        self.order: list[Any] = []
        self.waiting = self.most = 0

    async def ask(self, request: Any) -> int:
        self.order.append(request)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(0)
        self.waiting -= 1
        return 10


def test_all_at_once_asks_for_each_row_in_its_order_and_for_all_rows_together() -> None:
    feeding, asked = importlib.import_module("feeding"), Asked()
    chains = [[(row, turn) for turn in range(2)] for row in range(50)]
    assert asyncio.run(partial(feeding.all_at_once, chains)(asked.ask)) == 1000
    assert asked.most >= 50
    assert asked.order[:50] == [(row, 0) for row in range(50)]


def test_passes_are_static_batches_of_all_first_requests_before_any_second_one() -> None:
    feeding, asked = importlib.import_module("feeding"), Asked()
    chains = [[(row, turn) for turn in range(2 if row else 1)] for row in range(25)]
    assert asyncio.run(partial(feeding.in_passes, chains, 10, 1)(asked.ask)) == 490
    assert asked.most == 10
    assert [turn for _, turn in asked.order] == [0] * 25 + [1] * 24


def test_passes_of_several_workers_do_not_wait_for_each_other() -> None:
    feeding, asked = importlib.import_module("feeding"), Asked()
    chains = [[(row, turn) for turn in range(2)] for row in range(40)]
    asyncio.run(feeding.in_passes(chains, 10, 2, asked.ask))
    assert asked.most == 20
    assert Counter(asked.order) == {request: 1 for chain in chains for request in chain}


def test_a_kept_engine_remembers_what_was_asked_row_by_row(tmp_path: Path) -> None:
    engine = importlib.import_module("kept_engines").kept("scripted")
    engine.use_journal(tmp_path / "journal.sqlite")
    step = magpie_steps.ConversationGenerator(llm=engine, num_rows=50, max_in_flight=8)
    engine.listen()
    step.load()
    rows = [row for batch, _ in step.process() for row in batch]
    generated = engine.stats.generated
    step.unload()
    chains = engine.heard()
    pre_query = engine.template.pre_query_ids().ids
    assert sum(map(len, chains)) == generated
    assert [chain[0][0] for chain in chains] == [pre_query] * len(rows)
    assert {len(chain) for chain in chains} <= {1, 2}


def test_a_kept_engine_begins_new_counters_and_keeps_its_model() -> None:
    engine = importlib.import_module("kept_engines").kept("scripted")
    for _ in range(2):
        engine.load()
        answers(engine, range(3))
        assert engine.stats.generated == 3
        engine.unload()
    engine.end()


def run(script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{script}.py"), *flags],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def last_line(script: str, *flags: str) -> Any:
    """Run a script; returns what its last line says."""
    content = json.loads(run(script, *flags).stdout.splitlines()[-1])
    assert {"command", "machine", "versions", "settings", "figures"} == content.keys()
    assert content["command"].startswith(f"python benchmarks/{script}.py")
    assert str(BENCHMARKS) not in json.dumps(content)
    return content["figures"]


def test_throughput_runs_all_four_ways_on_the_simulated_engine() -> None:
    found = last_line("throughput", "--speed", "100", "--num-rows", "200", "--rounds", "1")
    ways = {"raw", "ours", "stock", "paper"}
    assert ways == found["tokens_per_second"].keys() == found["seconds"].keys()
    assert found["ratios"].keys() == {"ours / raw", "ours / stock", "ours / paper"}
    assert found["tokens"]["raw"] == found["tokens"]["ours"] == found["tokens"]["paper"]
    assert found["requests"] > 300


def test_overhead_measures_speed_memory_and_the_output_folder() -> None:
    found = last_line("overhead", "--rows", "200", "400", "--publish-rows", "200")
    small, large = found["sizes"]
    assert (small["rows"], large["rows"]) == (200, 400)
    assert large["rows_per_second"] > 0
    assert large["memory_mib"]["all_peak"] >= large["memory_mib"]["driver_peak"] > 10
    assert small["publish"]["seconds"] >= 0
    assert "publish" not in large
    assert found["last_to_one_before"] > 0


def test_startup_says_when_the_first_row_came() -> None:
    found = last_line("startup", "--rounds", "1", "--num-rows", "2")
    assert found["parts"].keys() == {"process", "import", "load", "first_completion"}
    moments = [found["pipeline"][name]["median"] for name in ("first_row", "last_row", "end")]
    assert moments == sorted(moments)


@pytest.mark.slow
def test_scale_tells_whether_coordinators_keep_their_engines_busy() -> None:
    flags = ["--engines", "4", "--coordinators", "2", "--sweep", "2"]
    found = last_line("scale", *flags, "--rows-per-engine", "3000")
    [fleet], [alone] = found["fleets"], found["one_coordinator"]
    assert (fleet["rows_measured"], fleet["coordinators"]) == (12_000, 2)
    assert fleet["steady_rows_per_second"] == pytest.approx(120, rel=0.35)
    assert alone["steady_rows_per_second"] == pytest.approx(60, rel=0.35)
    assert fleet["idle_steady_worst"] <= 0.03 < fleet["idle_whole"] < 1
    assert found["saturation"] is None


@pytest.mark.slow
def test_scale_tells_where_a_coordinator_is_too_slow() -> None:
    """Engines of 30,000 rows/s each are more than any process can feed."""
    flags = ["--engines", "--coordinators", "--sweep", "2", "--rows-per-engine", "3000"]
    found = last_line("scale", *flags, "--speed", "1000")
    point = found["saturation"]
    assert (point["engines_kept_busy"], point["engines_too_many"]) == (0, 2)
    assert 100 < point["rows_per_second"] < 20_000
    assert found["one_coordinator"][0]["coordinator_working_steady"] > 0.8


@pytest.mark.slow
def test_memory_of_rows_looks_at_every_process_while_rows_are_made_and_written() -> None:
    found = last_line("memory_of_rows", "--rows", "3000", "6000")
    assert [size["kept"] for size in found["sizes"]] == [3000, 6000]
    for size in found["sizes"]:
        assert size["most"]["driver"] >= size["phases_mib"]["run"]["own"] > 20
        assert size["most"]["child"] > 20
        assert size["folder_mib"] > 0
    assert 0.8 < found["largest_to_smallest"]["driver"] < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_what_it_answers(script: str) -> None:
    shown = run(script, "--help").stdout
    assert "?" in shown


@pytest.mark.slow
def test_prefix_counts_what_the_transformers_engine_shares() -> None:
    found = last_line("prefix", "--engine", "transformers", "--num-rows", "4", "--rounds", "1")
    for load in ("conversations", "taggers"):
        assert 0.3 < found[load]["with"]["cached_share"] < 1


@pytest.mark.slow
def test_filtering_tells_rates_and_memory() -> None:
    found = last_line("filtering", "--rows", "2000", "--longest", "100")
    for recipe in ("pro", "pro-card"):
        assert found[recipe]["kept"] == 100
        assert found[recipe]["decide_rows_per_core_second"] > 0
        assert found[recipe]["whole_peak_mib"] > 0


@pytest.mark.slow
def test_neighbours_finds_as_many_as_were_planted() -> None:
    found = last_line(
        "neighbours", "--rows", "600", "--dim", "32", "--queries", "100", "--curve", "200", "400"
    )
    assert found["exact"]["near_pairs"] >= 0.07 * 600
    assert found["ratio"] >= 0  # of hundredths of a second, so it may round to nothing
    assert [point["rows"] for point in found["curve"]["points"]] == [200, 400]
    assert found["curve"]["points"][0]["approximate"]["recall"]["near"] <= 1


@pytest.mark.slow
def test_report_tells_seconds_and_memory() -> None:
    found = last_line("report", "--rows", "300", "--no-map")
    for part in ("statistics", "report"):
        assert found[part]["seconds"] >= 0
        assert found[part]["peak_mib"] > 50
    assert found["page_bytes"] > 50_000
