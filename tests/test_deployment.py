"""The files in docs/deploy do what they say, as far as a machine without a cluster can tell."""

import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from packaging.requirements import Requirement
from waiting import completions, wait_for

from magpie_steps.job.flags import _parser
from magpie_steps.supervision.switchboard import DRAIN_SECONDS

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sbatch"))
TERMINATED = 143


def asked(command: str) -> Any:
    """What the main job's flags in a command mean; the test fails if it has no such flags."""
    words = shlex.split(command)
    job = runpy.run_path(str(ROOT / "pipelines" / "magpie_pro.py"))["JOB"]
    start = next(i for i, word in enumerate(words) if word.startswith("--"))
    return _parser(job, "").parse_args(words[start:])


def told_in(path: Path) -> str:
    """The command in a script's head."""
    lines = [line.removeprefix("#").strip() for line in path.read_text().splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("sbatch "))
    command = lines[first]
    while command.endswith("\\"):
        first += 1
        command = f"{command[:-1]} {lines[first]}"
    return command


# Shell


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed; bash reads the script")
    subprocess.run(["shellcheck", str(script)], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_slurm_ends_a_job_in_time_and_is_told_what_it_knows(script: Path) -> None:
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", script.read_text(), re.M))
    assert options.keys() <= {
        *("job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "mem"),
        *("exclusive", "time", "signal", "requeue", "open-mode", "output"),
    }
    assert int(options["signal"].partition("@")[2]) > 2 * DRAIN_SECONDS
    assert "%" in options["output"]  # jobs of an array, and of a week, do not share a file


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_command_in_a_script_s_head_asks_for_what_there_is(script: Path) -> None:
    command = told_in(script)
    assert f"docs/deploy/{script.name}" in command
    flags = command.partition(script.name)[2]
    assert asked(flags).num_rows > 1


# Shards under Slurm


def slurm(tmp_path: Path, shard: int, shards: int) -> dict[str, str]:
    """The environment of a job of an array, with a `scontrol` that writes down what it is told."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    scontrol = programs / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(tmp_path / "told"))}\n')
    scontrol.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "MAGPIE_PARTS": str(tmp_path / "parts"),
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": str(shard),
        "SLURM_ARRAY_TASK_COUNT": str(shards),
    }


def submitted(tmp_path: Path, shard: int, *flags: str) -> "subprocess.Popen[str]":
    """A job of an array of two, as Slurm starts it."""
    return subprocess.Popen(
        ["bash", str(DEPLOY / "slurm_shards.sbatch"), "--dry-run", *flags],
        cwd=ROOT,
        env=slurm(tmp_path, shard, 2),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=os.setpgrp,
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_array_writes_every_shard(tmp_path: Path) -> None:
    for shard in range(2):
        job = submitted(tmp_path, shard, "--num-rows", "21")
        said = job.communicate(timeout=280)[1]
        assert job.returncode == 0, said
    parts = sorted((tmp_path / "parts").glob("part-*[0-9]"))
    rows = [n for part in parts for n in pq.read_table(part / "data")["row"].to_pylist()]
    assert rows == list(range(21))
    assert not (tmp_path / "told").exists()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_job_that_slurm_ends_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    rows = "600"
    job = submitted(tmp_path, 1, "--num-rows", rows)
    journal = tmp_path / "parts" / "part-1.work" / "journal.sqlite"
    try:
        wait_for(lambda: completions(journal) > 0, 120)
        time.sleep(0.2)
        os.kill(job.pid, signal.SIGTERM)  # to the script alone, as --signal=B: asks for
        said = job.communicate(timeout=120)[1]
    finally:
        job.kill()
    assert job.returncode == TERMINATED, said
    assert "terminated; the same command goes on from here" in said
    assert (tmp_path / "told").read_text() == "requeue 77_1\n"
    again = submitted(tmp_path, 1, "--num-rows", rows)
    said = again.communicate(timeout=280)[1]
    assert again.returncode == 0, said
    written = pq.read_table(tmp_path / "parts" / "part-1" / "data")["row"].to_pylist()
    assert written == list(range(300, 600))


# Kubernetes


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    found = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text(encoding="utf-8"))
    return {each["kind"]: each for each in found}


def test_the_cluster_in_kubernetes_has_what_the_job_asks_for(manifests: dict[str, Any]) -> None:
    spec = manifests["RayJob"]["spec"]
    flags = asked(spec["entrypoint"])
    [workers] = spec["rayClusterSpec"]["workerGroupSpecs"]
    [worker] = workers["template"]["spec"]["containers"]
    gpus = int(worker["resources"]["limits"]["nvidia.com/gpu"])
    assert flags.ray == "auto"
    assert flags.engine == "server"
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"]
    assert workers["replicas"] * gpus == flags.replicas * flags.tensor_parallel_size


def test_the_job_writes_to_the_claim(manifests: dict[str, Any]) -> None:
    flags = asked(manifests["RayJob"]["spec"]["entrypoint"])
    head = manifests["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    [mount] = head["containers"][0]["volumeMounts"]
    [volume] = head["volumes"]
    assert flags.output_dir.is_relative_to(mount["mountPath"])
    assert mount["name"] == volume["name"]
    claim = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim


def test_image_and_cluster_have_a_ray_that_the_package_takes(manifests: dict[str, Any]) -> None:
    version = manifests["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"]
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [extra] = re.findall(r'^ray = \["(ray[^"]+)"\]$', pyproject, re.M)
    assert version in Requirement(extra).specifier
    image = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM rayproject/ray:{version}-py311" in image
    assert '".[ray,vllm]"' in image


def test_the_cluster_asks_for_a_token(manifests: dict[str, Any]) -> None:
    assert manifests["RayJob"]["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH_MODE=token" in (DEPLOY / "slurm_ray.sbatch").read_text(encoding="utf-8")
