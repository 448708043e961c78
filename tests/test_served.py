"""A server is started once for all who need it, comes back once, and is never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline
from waiting import completions, wait_for

from magpie_steps import ConversationGenerator, SampleResponses, run_pipeline
from magpie_steps.embedded import model_path
from magpie_steps.engines.base import EngineLostError, Sampling
from magpie_steps.engines.journal import Journal
from magpie_steps.engines.served import ServedEngine, servers_for
from magpie_steps.engines.server import HOST, PORT
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.running import PipelineRunError

pytestmark = pytest.mark.alone

WORKER = "PYTEST_XDIST_WORKER"
"""The variable that tells the processes apart that run tests at once."""

SCRIPT = Path(__file__).with_name("completions_server.py")
MODEL = str(model_path("tiny-instruct"))


class Served(ServedEngine):
    """An engine whose server is not vLLM but the tests' own."""

    extra: str = ""

    def command(self) -> list[str]:
        extra = self.extra.split()
        return [sys.executable, str(SCRIPT), "--host", HOST, "--port", PORT, *extra]


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magpie_steps.engines.vllm_api.require_vllm", lambda say: "0")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 15
    while servers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not servers()


def servers() -> list[psutil.Process]:
    """The servers of this process's tests that are alive; others may run tests beside it."""
    found = []
    for process in psutil.process_iter(["cmdline", "status", "environ"]):
        line, environment = process.info["cmdline"] or [], process.info["environ"] or {}
        ours = environment.get(WORKER) == os.environ.get(WORKER)
        if str(SCRIPT) in line and ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def ask(engine: ServedEngine | TransformersEngine, *seeds: int) -> list[str]:
    prompt = engine.template.pre_query_ids().ids

    async def all_of_them() -> list[str]:
        wanted = [Sampling(seed=7 * s, max_new_tokens=24) for s in seeds]
        done = await asyncio.gather(*(engine.complete(prompt, each) for each in wanted))
        return [each.text for each in done]

    return asyncio.run(all_of_them())


def pipeline_of(engine: ServedEngine, num_rows: int = 60) -> Pipeline:
    with Pipeline(name="served") as pipeline:
        rows = ConversationGenerator(llm=engine, num_rows=num_rows, batch_size=20, seed=3)
        rows >> SampleResponses(llm=engine, num_responses=2, input_batch_size=20)
    return pipeline


def kill_servers_at(journal: Path, counts: list[int]) -> threading.Thread:
    """Kill the server with SIGKILL each time the journal holds so many completions."""

    def watch() -> None:
        for count in counts:
            wait_for(lambda: completions(journal) >= count)  # noqa: B023 - called at once
            wait_for(lambda: bool(servers()))
            before = servers()
            for process in before:
                process.kill()
            wait_for(lambda: servers() != before)  # noqa: B023 - called at once

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_an_engine_alone_starts_and_ends_its_own_server():
    engine, true = Served(model=MODEL), TransformersEngine(model=MODEL)
    engine.load()
    true.load()
    assert len(servers()) == 1
    assert ask(engine, 1, 2, 3) == ask(true, 1, 2, 3)
    true.unload()
    engine.unload()
    assert not servers()
    engine.load()  # and once more
    assert len(servers()) == 1
    engine.unload()


def test_the_key_is_in_no_command_line_and_others_have_none():
    with servers_for([Served(model=MODEL)]) as (server,):
        key = server.address.key
        assert len(key) > 30
        for process in psutil.process_iter(["cmdline"]):
            assert not any(key in part for part in process.info["cmdline"] or [])
        assert key not in repr(server.address)
        engine = Served(model=MODEL)
        engine.use(server.address)
        assert key not in str(engine.dump()) + repr(engine)


def test_equal_settings_share_a_server_and_others_do_not():
    same, other = [Served(model=MODEL) for _ in range(2)], Served(model=MODEL, extra="--other")
    with servers_for([*same, other]) as started:
        assert len(started) == len(servers()) == 2
        addresses = [engine._address for engine in (*same, other)]
        assert addresses[0] is addresses[1]
        assert addresses[0] != addresses[2]


def test_a_server_that_does_not_start_shows_its_last_lines(tmp_path: Path):
    engine = Served(model=MODEL, extra="--fail")
    with pytest.raises(DistilabelUserError, match=r"(?s)exit status 1.*the weights are not there"):
        engine.load()
    with pytest.raises(PipelineRunError, match="the weights are not there"):
        run_pipeline(pipeline_of(engine), work_dir=tmp_path)


def test_one_that_fails_ends_the_others():
    with (
        pytest.raises(DistilabelUserError, match="the weights are not there"),
        servers_for([Served(model=MODEL), Served(model=MODEL, extra="--fail")]),
    ):
        pass
    assert not servers()


def test_all_steps_of_a_run_share_one_server(tmp_path: Path):
    seen: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.update(process.pid for process in servers())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = run_pipeline(pipeline_of(Served(model=MODEL)), work_dir=tmp_path)
    finally:
        done.set()
        watcher.join()
    assert result.rows == 60
    assert len(seen) == 1
    assert result.cpu_seconds > 0


@pytest.mark.slow
def test_a_killed_server_comes_back_once_and_nothing_is_doubled(tmp_path: Path):
    engine = Served(model=MODEL)
    calm = run_pipeline(pipeline_of(engine), work_dir=tmp_path / "calm", expected_rows=60)
    journal = tmp_path / "wild" / "journal.sqlite"
    killer = kill_servers_at(journal, [30])
    wild = run_pipeline(pipeline_of(engine), work_dir=tmp_path / "wild", expected_rows=60)
    killer.join(1)
    assert not killer.is_alive()
    assert wild.dataset.to_list() == calm.dataset.to_list()
    assert completions(journal) == completions(tmp_path / "calm" / "journal.sqlite")
    opened = Journal(journal, run_id="look")
    counts = opened.counts()
    assert sum(content["retries"] for _, _, content in opened.reports()) > 0
    opened.close()
    assert counts["generated"] == counts["completions"]


@pytest.mark.slow
def test_killed_twice_is_one_clear_error_and_a_run_goes_on_from_there(tmp_path: Path):
    engine, journal = Served(model=MODEL), tmp_path / "journal.sqlite"
    killer = kill_servers_at(journal, [20, 40])
    with pytest.raises(PipelineRunError, match=r"(?s)was killed \(signal 9\), for the second time"):
        run_pipeline(pipeline_of(engine), work_dir=tmp_path, expected_rows=60)
    killer.join(1)
    before = completions(journal)
    assert before >= 40
    result = run_pipeline(pipeline_of(engine), work_dir=tmp_path, expected_rows=60)
    assert all(row["keep"] for row in result.dataset)
    opened = Journal(journal, run_id="look")
    assert opened.counts()["generated"] == opened.counts()["completions"]
    opened.close()


def test_an_engine_whose_server_is_gone_for_good_is_lost():
    with servers_for([Served(model=MODEL)]) as (server,):
        engine = Served(model=MODEL)
        engine.use(server.address)
        engine.load()
    with pytest.raises(EngineLostError, match=r"its owner has ended|stopped|Run again"):
        ask(engine, 1)
    engine.unload()


OWNER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.path.insert(0, {tests!r})
import test_served
from magpie_steps.engines import vllm_api
vllm_api.require_vllm = lambda say: "0"
from magpie_steps import run_pipeline
engine = test_served.Served(model=test_served.MODEL)
if __name__ == "__main__":
    print("ready", flush=True)
    run_pipeline(test_served.pipeline_of(engine, 5000), work_dir={work!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGTERM, signal.SIGINT)),
    ],
)
def test_no_server_outlives_its_owner(number: int, tmp_path: Path):
    code = textwrap.dedent(OWNER).format(tests=str(SCRIPT.parent), work=str(tmp_path))
    script = tmp_path / "owner.py"
    script.write_text(code, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as owner:
        journal = tmp_path / "journal.sqlite"
        try:
            wait_for(lambda: completions(journal) > 20)
            assert servers()
            children = psutil.Process(owner.pid).children(recursive=True)
            os.kill(owner.pid, number)
            owner.wait(30)
        finally:
            owner.kill()
    wait_for(lambda: not any(map(_alive, children)), 30)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
