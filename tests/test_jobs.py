"""Every dataset's script runs as a user starts it, without a model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for path in (ROOT / "pipelines").glob("*.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(script, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_dry_run_writes_the_dataset(script, tmp_path):
    done = run(script, "--dry-run", "--num-rows", 30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "data" / script.stem.replace("_", "-")
    assert f"datasets.load_dataset('data/{output.name}') opens them" in done.stdout
    content = json.loads((output / "run.json").read_text(encoding="utf-8"))
    assert content["counts"]["generated"] == 30
    assert content["counts"]["kept"] > 0
    assert (output / "README.md").is_file()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_says_what_it_makes_and_names_at_most_ten_flags(script, tmp_path):
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--dry-run" in done.stdout
    assert done.stdout.count("\n  --") <= 10
    assert script.name in done.stdout
