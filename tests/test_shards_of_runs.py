"""A shard of a run writes its own rows of it, and no others."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps import ConversationGenerator, InstructionGenerator, ScriptedEngine
from magpie_steps.embedded import model_path
from magpie_steps.job.flags import run_asked_for
from magpie_steps.merging import merge
from magpie_steps.run_shard import Shard

ROOT = Path(__file__).resolve().parents[1]
MAIN = ROOT / "pipelines" / "magpie_pro.py"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
pytestmark = pytest.mark.timeout(900)


def job(name):
    return runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"))["JOB"]


@given(st.integers(1, 10_000_000), st.integers(1, 500))
def test_shards_are_all_rows_once_in_order(all_rows, count):
    count = min(count, all_rows)
    shards = [Shard.parsed(f"{number}/{count}", all_rows) for number in range(count)]
    assert shards[0].rows.start == 0
    assert shards[-1].rows.stop == all_rows
    assert all(a.rows.stop == b.rows.start for a, b in pairwise(shards))
    sizes = {len(shard.rows) for shard in shards}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert [str(shard) for shard in shards][-1] == f"{count - 1}/{count}"


@pytest.mark.parametrize("component", [InstructionGenerator, ConversationGenerator])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_rows_follow_from_their_global_number(component, batch_size):
    def rows(**settings):
        step = component(llm=ScriptedEngine(), batch_size=batch_size, seed=3, **settings)
        step.load()
        batches = list(step.process())
        step.unload()
        assert [last for _, last in batches] == [False] * (len(batches) - 1) + [True]
        return [row for batch, _ in batches for row in batch]

    whole = rows(num_rows=13)
    parts = [
        row
        for number in range(4)
        for own in [Shard(number, 4, 13).rows]
        for row in rows(num_rows=len(own), first_row=own.start)
    ]
    assert parts == whole
    assert [row["row"] for row in parts] == list(range(13))


def test_a_step_that_is_taken_up_again_goes_on_within_its_own_rows():
    step = InstructionGenerator(llm=ScriptedEngine(), num_rows=5, first_row=7)
    step.load()
    rows, _ = next(step.process(offset=2))
    step.unload()
    assert [row["row"] for row in rows] == [9, 10, 11]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard", "4/4"], "--shard is '4/4', which is no number from 0"),
        (["--shard", "x"], "--shard is 'x', which is no number from 0"),
        (["--shard", "0/0"], "--shard is '0/0'"),
        (["--shard", ""], "--shard is ''"),  # as from a variable that is not set
        (["--shard", "1"], "--shard is '1'"),
        (["--shard", "1/"], "--shard is '1/'"),
        (["--shard=-1/4"], "--shard is '-1/4'"),
        (["--shard", "1.0/4"], "--shard is '1.0/4'"),
        (["--shard", "\u0661/4"], "which is no number from 0"),
        (["--shard", "0/5", "--num-rows", "4"], "--shard is 0/5, but 4 rows make at most 4 shards"),
        (["--shard", "0/" + "9" * 40], "which is no number from 0"),
    ],
)
@pytest.mark.parametrize("name", ["magpie_pro", "magpie_air"])
def test_what_is_no_shard_is_one_line(name, flags, message, tmp_path, capsys):
    arguments = ["--dry-run", "--output-dir", str(tmp_path / "out"), *flags]
    assert job(name).main("", arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_and_the_settings_know_the_shard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "4").touch()  # what looks like a shard is no file
    main_job = job("magpie_pro")
    run = run_asked_for(main_job, "", ["--dry-run", "--num-rows", "10", "--shard", "1/4"])
    assert (run.num_rows, run.first_row, run.all_rows) == (3, 2, 10)
    words = shlex.split(run.command)
    assert words[words.index("--shard") + 1] == "1/4"
    assert words[words.index("--num-rows") + 1] == "10"
    settings = main_job.settings_of(run)
    assert (settings["shard"], settings["num_rows"]) == ("1/4", 10)
    whole = run_asked_for(main_job, "", ["--dry-run", "--num-rows", "10"])
    assert (whole.num_rows, whole.first_row, whole.all_rows) == (10, 0, 10)
    assert not {"shard", "num_rows"} & main_job.settings_of(whole).keys()


def go(name, folder, *flags):
    assert job(name).main("", ["--dry-run", "--output-dir", str(folder), *flags]) == 0


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    """Return a folder with a whole run of two turns a row, `whole`, and its two shards."""
    folder = tmp_path_factory.mktemp("conversations")
    go("magpie_air_mt", folder / "whole", "--num-rows", "13")
    for n in range(2):
        go("magpie_air_mt", folder / f"s{n}", "--num-rows", "13", "--shard", f"{n}/2")
    return folder


def tables(folder):
    names = sorted(path.parent.name for path in folder.glob("*/*.parquet"))
    return {name: pq.read_table(folder / name).to_pylist() for name in names}


def test_shards_of_a_job_merge_to_the_whole_run(conversations, tmp_path):
    merge([conversations / f"s{n}" for n in (1, 0)], tmp_path / "whole")
    one, two = tables(conversations / "whole"), tables(tmp_path / "whole")
    assert set(one) == {"data", "sft", "multi_turn"}
    assert one == two
    assert (tmp_path / "whole" / "report.html").is_file()
    pipelines = [
        (folder / "whole" / "pipeline.yaml").read_text() for folder in (conversations, tmp_path)
    ]
    assert pipelines[0] == pipelines[1]


def test_another_shard_in_the_same_folder_is_refused(conversations, capsys):
    for flags, message in (
        (["--num-rows", "13", "--shard", "1/2"], "shard was '0/2' and is now '1/2'"),
        (["--num-rows", "13", "--shard", "0/4"], "shard was '0/2' and is now '0/4'"),
        (["--num-rows", "30", "--shard", "0/2"], "num_rows was 13 and is now 30"),
        (["--num-rows", "13"], "shard was '0/2' and is now None"),
    ):
        arguments = ["--dry-run", "--output-dir", str(conversations / "s0"), *flags]
        assert job("magpie_air_mt").main("", arguments) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_a_shard_goes_on_in_its_own_folder(conversations, capsys):
    before = tables(conversations / "s0")
    go("magpie_air_mt", conversations / "s0", "--num-rows", "13", "--shard", "0/2")
    assert re.search(r"completions generated +0\n", capsys.readouterr().out)
    assert tables(conversations / "s0") == before


def test_what_a_shard_writes_says_so(conversations):
    folder = conversations / "s1"
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["shard"] == "1/2"
    assert record["settings"]["num_rows"] == 13
    assert record["counts"]["generated"] == 7
    card = (folder / "README.md").read_text()
    assert "--shard 1/2" in card
    assert re.search(r"\| *shard *\| *`1/2` *\|", card)
    assert "first_row: 6" in (folder / "pipeline.yaml").read_text()


def same(one, two):
    """Return whether two rows are the same; NaN is NaN."""
    return repr(one) == repr(two)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["scripted", "embedded"])
def test_shards_of_the_main_job_merge_to_the_whole_run(engine, tmp_path):
    """With rewards, neighbours, embeddings and the recipe, each shard in processes of its own."""
    if engine == "embedded" and not (model_path("tiny-instruct") / "model.safetensors").is_file():
        pytest.skip("the embedded model is not trained yet")
    flags = ["--num-rows", "42", "--with-embeddings", *(["--dry-run"] * (engine == "scripted"))]

    def go(*more):
        command = [sys.executable, str(MAIN), *flags, *more]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    go("--output-dir", "whole")
    for n in range(4):
        go("--output-dir", f"s{n}", "--shard", f"{n}/4")
    merge([tmp_path / f"s{n}" for n in range(4)], tmp_path / "merged")
    one, two = tables(tmp_path / "whole"), tables(tmp_path / "merged")
    assert {"data", "filtered", "sft", "embeddings"} <= set(one)
    assert set(one) == set(two)
    for name, rows in one.items():
        assert len(rows) == len(two[name])
        assert all(same(a, b) for a, b in zip(rows, two[name], strict=True)), name
