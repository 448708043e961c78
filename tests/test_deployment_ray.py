"""What the documentation says of Slurm and `ray job submit` ends with the rows."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [
    pytest.mark.alone,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed: pip install 'magpie-steps[ray]'"
    ),
]

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
JOB = ["pipelines/magpie_air.py", "--dry-run", "--num-rows", "10"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **QUIET, "PATH": f"{BIN}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def rows_of(folder: Path) -> list[int]:
    found: list[int] = pq.read_table(folder / "data")["row"].to_pylist()
    return found


@pytest.fixture
def ray_stopped() -> Iterator[None]:
    """Whatever a command has started, nothing of Ray is left."""
    yield
    run(["ray", "stop", "--force"])


@pytest.mark.usefixtures("ray_stopped")
def test_the_script_for_slurm_starts_ray_on_its_nodes_and_runs_the_pipeline(tmp_path: Path) -> None:
    """One node, and `srun` and `scontrol` as they are there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in (
        ("scontrol", "echo 127.0.0.1"),
        ("srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    output = tmp_path / "rows"
    flags = [*JOB[1:], "--output-dir", str(output)]
    done = run(
        ["bash", "docs/deploy/slurm_ray.sbatch", *flags],
        PATH=f"{programs}:{BIN}:{os.environ['PATH']}",
        SLURM_JOB_NODELIST="node[1]",
        SLURM_JOB_NUM_NODES="1",
        RAY_PORT=str(free_port()),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert rows_of(output) == list(range(10))


@pytest.mark.usefixtures("ray_stopped")
def test_a_submitted_job_runs_on_its_cluster(tmp_path: Path) -> None:
    """`ray job submit`: without an address, the job's own cluster is taken."""
    dashboard = free_port()
    start = ["ray", "start", "--head", f"--port={free_port()}", "--num-cpus=4"]
    started = run(
        [*start, "--include-dashboard=true", f"--dashboard-port={dashboard}"],
        RAY_AUTH_MODE="disabled",
    )
    assert started.returncode == 0, started.stderr
    output = tmp_path / "rows"
    script, *flags = JOB
    command = [sys.executable, str(ROOT / script), *flags, "--ray", "--output-dir", str(output)]
    done = run(
        ["ray", "job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--", *command],
        RAY_AUTH_MODE="disabled",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert rows_of(output) == list(range(10))
