"""What a run on a cluster is made of, without a cluster: calls, journal, restarts, resources."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest
from distilabel.steps import StepInput
from pydantic import Field
from running_steps import Numbers, Plus, Total
from test_running import line, rows_of

from magpie_steps import running
from magpie_steps.cluster.caretaker import Orders, Probe
from magpie_steps.cluster.journals import CollectedJournal, JournalKeeper, KnownKeys
from magpie_steps.cluster.reception import Number, Reception
from magpie_steps.cluster.session import check_address
from magpie_steps.cluster.step_main import fault_of
from magpie_steps.cluster.whereabouts import ServersOnCluster, Whereabouts
from magpie_steps.engines.journal import Journal, JournalError
from magpie_steps.engines.served import ServedEngine
from magpie_steps.running import PipelineRunError, run_pipeline
from magpie_steps.supervision.processes import ForkLauncher

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

RECORD = ("text", (1, 2), "stop", None, 3, 2)


@pytest.fixture
def reception() -> Iterator[Reception]:
    with Reception("127.0.0.1") as opened:
        yield opened


def echo(line: Any) -> None:
    while True:
        line.send_bytes(line.recv_bytes())


# Calls


def test_a_caller_with_the_key_and_the_name_is_served(reception: Reception) -> None:
    number = pickle.loads(pickle.dumps(reception.expect(echo)))
    for _ in range(2):
        line = number.call()
        line.send_bytes(b"x" * 100_000)
        assert line.recv_bytes() == b"x" * 100_000
        line.close()


def test_no_other_caller_is(reception: Reception) -> None:
    number = reception.expect(echo)
    with pytest.raises((AuthenticationError, OSError, EOFError)):
        Number(number.host, number.port, b"another key", number.name).call()
    wrong = Number(number.host, number.port, number.key, "another name").call()
    with pytest.raises((EOFError, OSError)):
        wrong.recv_bytes()
    with socket.create_connection((number.host, number.port)):  # says nothing, holds nobody up
        assert number.call().send_bytes(b"") is None
    assert "key" not in repr(number)
    assert number.name not in repr(number)


def test_a_call_that_is_expected_once_is_taken_once(reception: Reception) -> None:
    taken = threading.Event()
    number = reception.expect(lambda line: taken.set(), once=True)
    number.call()
    assert taken.wait(10)
    with pytest.raises((EOFError, OSError)):
        number.call().recv_bytes()


def test_callers_notice_the_end() -> None:
    with Reception("127.0.0.1") as reception:
        line = reception.expect(echo).call()
        line.send_bytes(b"1")
        assert line.recv_bytes() == b"1"
    with pytest.raises((EOFError, OSError)):
        line.recv_bytes()


# The journal


def collected(reception: Reception, path: Path, run_id: str = "run") -> CollectedJournal:
    return CollectedJournal(reception.expect(JournalKeeper(path).serve), run_id)


def test_completions_are_in_the_main_processs_journal_at_once(
    reception: Reception, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = collected(reception, path)
    assert journal.lookup(b"a" * 32) is None
    journal.record(b"a" * 32, RECORD)
    kept = Journal(path, run_id="look")
    assert kept.lookup(b"a" * 32) == RECORD == journal.lookup(b"a" * 32)
    assert kept.counts()["generated"] == 1
    journal.report("model", {"generated": 1})
    journal.close()
    assert [model for _, model, _ in kept.reports()] == ["model"]
    kept.close()
    again = collected(reception, path, "another run")
    assert again.lookup(b"a" * 32) == RECORD
    assert again.lookup(b"a" * 8 + b"b" * 24) is None  # begins as a key that is there
    again.close()


def test_what_cannot_be_kept_is_an_error_where_it_was_made(
    reception: Reception, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("this is no journal, it is a text of some length, long enough for a header")
    with pytest.raises(JournalError, match="cannot be used"):
        collected(reception, path)
    with Reception("127.0.0.1") as other:
        number = other.expect(JournalKeeper(tmp_path / "sound.sqlite").serve)
        journal = CollectedJournal(number, "run")
    with pytest.raises(JournalError, match="main process, which keeps the journal, is gone"):
        journal.record(b"a" * 32, RECORD)
    with pytest.raises(JournalError, match="does not answer"):
        CollectedJournal(number, "run")


def test_keys_are_known_by_their_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("magpie_steps.cluster.journals.MOST_LOOSE", 10)
    keys = [bytes([n]) * 32 for n in range(1, 100)]
    known = KnownKeys(b"".join(key[:8] for key in keys[:30]))
    for n in range(30, 60):
        known.update({keys[n]: None})
    assert [key in known for key in keys] == [n < 60 for n in range(99)]
    assert b"a" * 32 not in KnownKeys(b"")


# Restarts


class Losing(ForkLauncher):
    """Forks a process for each step, and takes its loss as a cluster's launcher does."""

    starts_ahead = False
    restarts = 2

    def launch(
        self, step: Any, environment: Mapping[str, str], connected: Callable[[], object]
    ) -> Any:
        return super().launch(None, environment, connected)


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.Here, "launcher", Losing())


class DiesAt(Plus):
    """Its process is killed at some batches, once each, before or after they are done."""

    folder: str = ""
    rows: list[int] = Field(default_factory=list)

    def process(self, inputs: StepInput) -> Any:
        for row in inputs:
            mark = Path(self.folder) / f"died-at-{row['n']}"
            if row["n"] in self.rows and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        yield from super().process(inputs)


class NumbersThatDie(Numbers):
    """Killed once before its batches from 4 and from 8."""

    folder: str = ""

    def process(self, offset: int = 0) -> Any:
        for rows, last in super().process(offset):
            mark = Path(self.folder) / f"generator-died-at-{rows[0]['n']}"
            if rows[0]["n"] in (4, 8) and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield rows, last


@pytest.mark.usefixtures("losing")
def test_a_lost_step_is_started_again_and_no_row_is_lost_or_doubled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = line(
        lambda: NumbersThatDie(num_rows=23, batch_size=4, folder=str(tmp_path)),
        lambda: DiesAt(folder=str(tmp_path), rows=[0, 22], input_batch_size=4),
        Total,
        lambda: Plus(column="after", input_batch_size=5),
    )
    result = run_pipeline(pipeline, work_dir=tmp_path / "run", expected_rows=23)
    wanted = [{"n": n, "text": f"row {n}", "plus": n + 1, "total": 253} for n in range(23)]
    assert rows_of(result) == [{**row, "after": row["n"] + 1} for row in wanted]
    assert not result.notes
    said = [r.getMessage() for r in caplog.records if "it is started again" in r.getMessage()]
    assert len(said) == 4
    assert "step 'dies_at_0'" in "".join(said)
    assert "(2 of at most 2 times)" in "".join(said)


class NumbersThatDieUnloading(Numbers):
    """Killed once after its last batch, and slow to be there again."""

    folder: str = ""

    def load(self) -> None:
        super().load()
        if (Path(self.folder) / "died").exists():
            time.sleep(1)

    def unload(self) -> None:
        mark = Path(self.folder) / "died"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("losing")
def test_a_generator_that_is_lost_after_its_last_batch_costs_nothing(tmp_path: Path) -> None:
    pipeline = line(lambda: NumbersThatDieUnloading(folder=str(tmp_path)), Plus)
    result = run_pipeline(pipeline, work_dir=tmp_path / "run", expected_rows=10)
    assert [row["n"] for row in rows_of(result)] == list(range(10))


@pytest.mark.usefixtures("losing")
def test_one_that_is_lost_each_time_ends_the_run(tmp_path: Path) -> None:
    pipeline = line(Numbers, lambda: DiesAt(folder=str(tmp_path), rows=[1, 2, 3]))
    with pytest.raises(PipelineRunError, match=r"dies_at_0.*SIGKILL.*as 2 before it were lost"):
        run_pipeline(pipeline, work_dir=tmp_path / "run")


def test_a_step_s_process_can_be_interrupted_where_ray_blocks_that(reception: Reception) -> None:
    called, ended = threading.Event(), threading.Event()

    def answer(line: Any) -> None:
        called.set()
        ended.wait()  # the call lasts as long as this does

    orders = Orders(reception.expect(answer), reception.expect(echo), {}, parent=os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-m", "magpie_steps.cluster.step_main"],
        stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}),
    )
    assert process.stdin is not None
    with process.stdin as told:
        told.write(pickle.dumps(orders))
    try:
        assert called.wait(60)
        time.sleep(1)  # until it has its handlers
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 128 + signal.SIGINT
    finally:
        ended.set()
        process.kill()
        process.wait()


# Where servers are


def test_servers_together_are_as_well_as_the_best_of_them(reception: Reception) -> None:
    now: list[Whereabouts] = []

    def tell(line: Any) -> None:
        line.recv_bytes()
        line.send_bytes(pickle.dumps(now))

    servers = ServersOnCluster(reception.expect(tell), 2, "key")
    now[:] = [Whereabouts("failed", reason="no weights"), Whereabouts("starting")]
    assert servers.state() == ("starting", "")
    now[1] = Whereabouts("ready", "10.0.0.2", 8000)
    assert servers.state() == ("ready", "")
    now[1] = now[0]
    assert servers.state() == ("failed", "no weights")
    assert "'key'" not in repr(servers)


# What is asked for


@needs_ray
@needs_ray
def test_engines_that_only_ask_in_other_ways_share_servers() -> None:
    from magpie_steps.cluster.servers import _settings_of

    first, patient, other = (
        ServedEngine(model="m"),
        ServedEngine(model="m", timeout_seconds=5, max_retries=1, add_bos="never"),
        ServedEngine(model="m", max_num_seqs=8),
    )
    assert _settings_of(first) == _settings_of(patient) != _settings_of(other)


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("", ""),
        ("auto", ""),
        ("10.0.0.1:6379", ""),
        ("ray://10.0.0.1:10001", "cannot call back"),
        ("http://10.0.0.1:8265", "HOST:PORT"),
        ("10.0.0.1", "HOST:PORT"),
        ("10.0.0.1:0", "HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_one_is_told_at_once(address: str, wrong: str) -> None:
    if not wrong:
        check_address(address)
        return
    with pytest.raises(ValueError, match=wrong):
        check_address(address)


def test_without_ray_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("magpie_steps.cluster.session.find_spec", lambda name: None)
    with pytest.raises(PipelineRunError, match=r"pip install 'magpie-steps\[ray\]'"):
        run_pipeline(line(Numbers), work_dir=tmp_path, ray="")


@needs_ray
def test_an_address_that_nobody_listens_at_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PipelineRunError, match=f"does not answer at 127.0.0.1:{port}"):
        run_pipeline(line(Numbers).ray(f"127.0.0.1:{port}"), work_dir=tmp_path)


@needs_ray
def test_a_step_asks_for_its_own_resources() -> None:
    from magpie_steps.cluster.placing import demand_of, shown

    step = Plus(
        name="plus",
        resources={"cpus": 2, "gpus": 1, "memory": 2**30, "resources": {"fast": 1}},
    )
    demand = demand_of(step)
    assert demand.options == {
        "num_cpus": 2,
        "num_gpus": 1,
        "memory": 2**30,
        "resources": {"fast": 1},
    }
    assert shown(demand.bundle) == "2 CPU, 1 GPU, 1 fast, 1.0 GiB of memory"
    assert demand_of(Plus(name="plus")).options["scheduling_strategy"] == "SPREAD"


# A folder that all see


def test_a_step_that_keeps_files_needs_the_folder_that_the_main_process_has(
    tmp_path: Path,
) -> None:
    seen = tmp_path / "seen"
    seen.write_text("content", encoding="utf-8")
    assert fault_of(Probe(seen, "content")) == ""
    for probe in (Probe(seen, "another run's"), Probe(tmp_path / "nowhere" / "seen", "content")):
        fault = fault_of(probe)
        assert str(probe.path.parent) in fault
        assert f"the node {socket.gethostname()} does not see" in fault


@needs_ray
def test_only_steps_that_name_a_place_in_the_work_folder_keep_files_in_it(tmp_path: Path) -> None:
    from magpie_steps import NeighbourDistance
    from magpie_steps.cluster.step_actor import keeps_files_in

    inside = NeighbourDistance(store_dir=str(tmp_path / "embeddings"))
    assert keeps_files_in(inside, tmp_path)
    assert not keeps_files_in(inside, tmp_path / "elsewhere")
    assert not keeps_files_in(Plus(), tmp_path)
