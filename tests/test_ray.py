"""A run on a Ray cluster has the rows of one without it, whichever node is lost on the way.

The cluster is of this machine: a head without processors and two nodes, each a raylet of its own.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from completions_server import __file__ as SERVER
from distilabel.pipeline import Pipeline
from running_steps import Numbers, Plus
from test_running import line, rows_of
from waiting import completions, wait_for

from magpie_steps import ConversationGenerator, SampleResponses, run_pipeline
from magpie_steps.embedded import model_path
from magpie_steps.engines.journal import Journal
from magpie_steps.engines.served import ServedEngine
from magpie_steps.engines.server import HOST, PORT, Server
from magpie_steps.running import PipelineRunError

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed: pip install 'magpie-steps[ray]'"
    ),
]

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "pipelines" / "magpie_pro.py"
MODEL = str(model_path("tiny-instruct"))

SETTINGS = {
    "RAY_AUTH_MODE": "disabled",  # Ray reads it but once, and may have been imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Nodes:
    """A head and worker nodes on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": quick},
        )
        self.workers: list[Any] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, **resources: Any) -> Any:
        node = self._cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20, **resources)
        self.workers.append(node)
        return node

    def kill(self, node: Any) -> None:
        """Kill a node's raylet and every process of it, with SIGKILL, as a power cut would."""
        family = processes_of(node)
        for process in family:
            process.suspend()
        for process in family:
            process.kill()
        self.workers.remove(node)

    def stop(self) -> None:
        self._cluster.shutdown()


def processes_of(node: Any) -> list[psutil.Process]:
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]


def on(node: Any, word: str) -> list[psutil.Process]:
    """The processes on a node that have a word in their command."""
    return [p for p in processes_of(node) if word in " ".join(command_of(p))]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def everywhere(word: str) -> list[psutil.Process]:
    found = [p for p in psutil.process_iter() if word in " ".join(command_of(p))]
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.stop()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """Two worker nodes that are alive and run nothing."""
    while len(cluster.workers) < 2:
        cluster.add()
    wait_for(lambda: not everywhere("magpie_steps.cluster.step_main"), 60)
    return cluster


def job(output: Path, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--output-dir", str(output), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=output.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
    )


def end_of(started: "subprocess.Popen[str]", seconds: float = 400) -> tuple[int, str, str]:
    try:
        out, err = started.communicate(timeout=seconds)
    finally:
        started.kill()
    return started.returncode, out, err


def table(output: Path) -> list[str]:
    """The rows of a dataset; as texts, in which NaN is NaN."""
    files = sorted((output / "data").glob("*.parquet")) + sorted(output.glob("filtered/*.parquet"))
    return [repr(row) for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The main job's rows without Ray."""
    output = tmp_path_factory.mktemp("calm") / "out"
    code, _, err = end_of(job(output, "--num-rows", 60))
    assert code == 0, err
    return table(output)


def test_the_main_job_on_two_nodes_has_the_rows_of_one_without_ray(
    nodes: Nodes, calm: list[str], tmp_path: Path
) -> None:
    started = job(tmp_path / "out", "--num-rows", 60, "--ray", nodes.address)
    seen = [0, 0]
    while started.poll() is None:
        now = [len(on(node, "step_main")) for node in nodes.workers]
        seen = max(seen, now, key=lambda counts: (all(counts), sum(counts)))
        time.sleep(0.2)
    code, out, err = end_of(started)
    assert code == 0, err
    assert table(tmp_path / "out") == calm
    assert all(seen), f"the steps were not on both nodes: {seen}"
    assert "rows generated" in out
    noise = [line for line in err.splitlines() if "ray" in line.lower()]
    assert noise == []


def test_a_node_is_killed_in_mid_run_and_no_row_is_lost_or_doubled(
    nodes: Nodes, calm: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    started = job(output, "--num-rows", 60, "--ray", nodes.address)
    journal = tmp_path / "out.work" / "journal.sqlite"
    wait_for(lambda: completions(journal) >= 20 or started.poll() is not None)
    # The one that has the step which writes.
    busy = max(
        nodes.workers,
        key=lambda node: sum(sum(p.cpu_times()[:2]) for p in on(node, "step_main")),
    )
    assert on(busy, "step_main")
    nodes.kill(busy)
    code, _, err = end_of(started)
    assert code == 0, err
    assert "it is started again" in err
    assert table(output) == calm
    opened = Journal(journal, run_id="look")
    assert opened.counts()["completions"] >= 120
    opened.close()


# Servers that steps share


class Served(ServedEngine):
    """An engine whose server is not vLLM but the tests' own, on any node."""

    @property
    def gpus(self) -> int:
        return 0

    def command(self) -> list[str]:
        return [sys.executable, SERVER, "--host", HOST, "--port", PORT]

    def make_server(self, command: Any, **place: Any) -> Server:
        return Server(
            self.model_name,
            command,
            environment={"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(SERVER).parent}"},
            key_variable="VLLM_API_KEY",
            say=self._tell,
            **place,
        )


def two_steps(engine: Any, num_rows: int = 40) -> Pipeline:
    with Pipeline(name="served") as pipeline:
        rows = ConversationGenerator(llm=engine, num_rows=num_rows, batch_size=10, seed=3)
        rows >> SampleResponses(llm=engine, num_responses=2, input_batch_size=10)
    return pipeline


def servers() -> list[psutil.Process]:
    return everywhere(f"{SERVER} --host")


def without_stamps(rows: list[dict[str, Any]]) -> list[str]:
    return [repr({**row, "gen_input_configs": None}) for row in rows]


@pytest.mark.long
@pytest.mark.parametrize("replicas", [1, 2])
def test_steps_share_servers_and_one_whose_node_is_killed_comes_back_elsewhere(
    nodes: Nodes, replicas: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calm = run_pipeline(two_steps(Served(model=MODEL)), work_dir=tmp_path / "calm")
    journal = tmp_path / "wild" / "journal.sqlite"
    most = 0

    def kill() -> None:
        nonlocal most
        while not done.is_set() and completions(journal) < 30:
            most = max(most, len(servers()))
            time.sleep(0.05)
        if not done.is_set():
            nodes.kill(next(node for node in nodes.workers if on(node, f"{SERVER} --host")))
        while not done.is_set():
            most = max(most, len(servers()))
            time.sleep(0.05)

    done = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        wild = run_pipeline(
            two_steps(Served(model=MODEL, replicas=replicas)),
            work_dir=tmp_path / "wild",
            expected_rows=40,
            ray=nodes.address,
        )
    finally:
        done.set()
        killer.join()
    assert most == replicas
    assert any("starting it again" in record.getMessage() for record in caplog.records)
    assert without_stamps(rows_of(wild)) == without_stamps(rows_of(calm))
    opened = Journal(journal, run_id="look")
    assert opened.counts()["completions"] == completions(tmp_path / "calm" / "journal.sqlite")
    opened.close()
    wait_for(lambda: not servers(), 30)


# What is left behind


OWNER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
sys.path.insert(0, {tests!r})
from running_steps import FailsOnRows, Numbers, Stamps
from test_running import line
from magpie_steps import run_pipeline
if __name__ == "__main__":
    failing = [*range(100)] if {fails} else []
    steps = line(
        lambda: Numbers(num_rows={rows}, batch_size=5),
        lambda: Stamps(input_batch_size=5),
        lambda: FailsOnRows(column="last", bad=failing, input_batch_size=25),
    )
    run_pipeline(steps, work_dir={work!r}, ray={ray!r})
"""
"""A run on a cluster: one of its own by default."""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("success", marks=pytest.mark.long),
        pytest.param("error", marks=pytest.mark.long),
        "interrupt",
        pytest.param("terminate", marks=pytest.mark.long),
        "kill",
    ],
)
def test_no_process_is_left_behind(how: str, tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    rows = 20 if how == "success" else 100_000
    places = {"tests": str(ROOT / "tests"), "work": str(tmp_path), "ray": ""}
    code = OWNER.format(**places, fails=how == "error", rows=rows)
    script.write_text(code, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    owner = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, "PYTHONPATH": str(ROOT)},
    )
    family: dict[psutil.Process, str] = {}

    def look() -> bool:
        """Whether all steps run; keeps every process that is seen meanwhile."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(owner.pid).children(recursive=True):
                # Seen between fork and exec, it has its parent's command for a moment.
                family[process] = " ".join(command_of(process)) or family.get(process, "")
        steps = [command for command in family.values() if "step_main" in command]
        return len(steps) == 3 or owner.poll() is not None

    try:
        wait_for(look, 120)
        if how in ("interrupt", "terminate", "kill"):
            time.sleep(8)  # until they are at work
            look()
            assert owner.poll() is None, owner.communicate()[1]
            number = {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM}.get(how)
            owner.send_signal(number or signal.SIGKILL)
        _, err = owner.communicate(timeout=120)
    finally:
        owner.kill()
        owner.communicate()
    expected = {"success": 0, "error": 1, "interrupt": 1, "terminate": 143, "kill": -9}
    # Python itself ends by SIGINT where nobody has caught it.
    assert owner.returncode in (expected[how], -signal.SIGINT if how == "interrupt" else 0), err
    assert ("cannot do row" in err) == (how == "error")
    for word in ("raylet/raylet", "gcs_server", "step_main"):
        assert any(word in command for command in family.values())
    wait_for(lambda: not any(map(is_alive, family)), 30)


@pytest.mark.long
def test_a_killed_main_process_leaves_nothing_on_a_cluster_that_lives_on(
    nodes: Nodes, tmp_path: Path
) -> None:
    script = tmp_path / "owner.py"
    places = {"tests": str(ROOT / "tests"), "work": str(tmp_path), "ray": nodes.address}
    script.write_text(OWNER.format(**places, fails=False, rows=100_000), encoding="utf-8")
    owner = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        wait_for(lambda: len(everywhere("cluster.step_main")) == 3, 120)
        assert len(everywhere("ray::Caretaker")) == 3
    finally:
        owner.kill()
        owner.wait()
    wait_for(lambda: not everywhere("cluster.step_main"), 30)
    wait_for(lambda: not everywhere("ray::Caretaker"), 30)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# What a cluster cannot do


def test_a_step_that_no_node_can_take_ends_the_run_with_what_there_is(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from magpie_steps.cluster import placing

    monkeypatch.setattr(placing, "SOON_SECONDS", 1.0)
    monkeypatch.setattr(placing, "NO_NODE_SECONDS", 2.0)
    pipeline = line(Numbers, lambda: Plus(resources={"gpus": 3, "resources": {"fast_disk": 1}}))
    wanted = (
        r"step 'plus_0' waits for a place: it asks for 0.01 CPU, 3 GPU, 1 fast_disk, no node has"
        r" that since \d+ s; the cluster's nodes have: .*2 CPU, .*2 CPU, .*ask for less"
    )
    with pytest.raises(PipelineRunError, match=wanted):
        run_pipeline(pipeline.ray(nodes.address), work_dir=tmp_path)
    assert not ray_is_connected()


def ray_is_connected() -> bool:
    import ray

    return bool(ray.is_initialized())
