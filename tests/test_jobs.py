"""Every dataset's script runs as a user starts it, without a model."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from completions_server import running

from magpie_steps.embedded import model_path
from magpie_steps.engines.transformers import TransformersEngine

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for path in (ROOT / "pipelines").glob("*.py"))
CONFIGS = {
    "magpie_air": {"default", "sft"},
    "magpie_air_mt": {"default", "sft", "multi_turn"},
    "magpie_preference": {"default", "preference", "kto"},
    "magpie_pro": {"default", "sft", "filtered"},
    "magpie_pro_mt": {"default", "sft", "multi_turn"},
    "magpie_ultra": {"default", "sft", "multi_turn"},
}
"""What each script's dataset opens as; of 30 scripted rows the recipe removes none."""

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
    front = yaml.safe_load((output / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["language"][0] == "en"
    assert front["license"] == "apache-2.0"
    names = {each["config_name"] for each in front["configs"]}
    assert names == CONFIGS[script.stem]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_says_what_it_makes_and_names_at_most_thirty_flags(script, tmp_path):
    done = run(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--dry-run" in done.stdout
    assert done.stdout.count("\n  --") <= 30
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


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "completions"], "give its address, such as --base-url"),
        (
            ["--engine", "transformers", "--base-url", "http://localhost:1/v1"],
            "--base-url is for --engine completions, not for transformers",
        ),
        *(
            []
            if find_spec("vllm")
            else [(["--engine", name], "needs vLLM: pip install") for name in ("vllm", "server")]
        ),
    ],
)
def test_an_engine_that_cannot_work_is_one_line_before_anything_starts(arguments, says, tmp_path):
    done = run(ROOT / "pipelines" / "magpie_pro.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_comes_from_a_server_that_is_there(tmp_path):
    """The card tells what it took, as far as the server says."""
    model = TransformersEngine(model=str(model_path("tiny-instruct")))
    model.load()
    script = ROOT / "pipelines" / "magpie_pro.py"
    with running(model) as server:
        arguments = ["--base-url", server.url, "--num-rows", 20, "--output-dir", "out"]
        done = run(script, *arguments, cwd=tmp_path)
    model.unload()
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    (engine,) = content["engines"]
    assert engine["generated"] == content["completions"]["generated"] >= 40
    assert engine["prompt_tokens"] == content["effort"]["prompt_tokens"] > 100
    assert 0 < content["effort"]["busy_share"] <= 1
    assert content["effort"]["cpu_seconds_per_1000_kept_rows"] > 0
    assert "engine busy" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
