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


@pytest.mark.parametrize("flag", ["--model", "--base-model", "--reward-model"])
def test_a_model_that_is_not_there_is_one_line_before_anything_starts(flag, tmp_path):
    script = ROOT / "pipelines" / "magpie_ultra.py"
    done = run(script, flag, "./nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("magpie_ultra: error: there is no model folder './nowhere'")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_topics_that_were_asked_for_stand_beside_those_that_came(tmp_path):
    script = ROOT / "pipelines" / "magpie_ultra.py"
    done = run(script, "--dry-run", "--num-rows", 20, "--output-dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(asked ") == 11
    assert "mean reward difference" in done.stdout
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "a system prompt that names a topic" in card
    assert "follow-ups that belong" in card
    assert (tmp_path / "out" / "sft").is_dir()
