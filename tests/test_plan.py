"""A plan says what a dataset takes, and whose figures that rests on."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pytest

from magpie_steps import columns, shards
from magpie_steps.capacity import (
    DATASET_BYTES,
    DATASET_ROW_BYTES,
    ROWS_OF_A_COORDINATOR,
    WORK_BYTES,
    WORK_ROW_BYTES,
    measured_rate,
    plan,
    shards_for,
)
from magpie_steps.capacity.rates import RATES, billions_of, rate_of
from magpie_steps.capacity.small_run import plan_from_run
from magpie_steps.cli import main
from magpie_steps.embedded import model_path
from magpie_steps.engines.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
WITHIN = pytest.approx


def hours(model, rows, gpus=1, gpu="a100", **more):
    return plan(model, rows, gpus, rate_of(model, gpu), **more)


def test_the_paper_s_runs_take_what_the_paper_says():
    air = hours("meta-llama/Meta-Llama-3-8B-Instruct", 3_000_000, 4)
    assert air.generation_gpu_hours == WITHIN(206, abs=0.5)
    assert [stage.wall_hours for stage in air.stages[:2]] == WITHIN([1.55, 50])
    pro = hours("meta-llama/Meta-Llama-3-70B-Instruct", 1_000_000, 4)
    assert pro.generation_gpu_hours == WITHIN(614)
    assert [stage.wall_hours for stage in pro.stages[:2]] == WITHIN([3.5, 150])
    assert air.amounts["completion_tokens"] == WITHIN(1.28e9, rel=0.01)  # table 4: 1.28B


def test_public_figures_of_an_h100():
    """500 tokens for each of a million rows at 6,300 tokens/s are 22 GPU hours."""
    found = hours("Qwen/Qwen3-8B", 1_000_000, gpu="h100", tokens_per_row=500)
    assert found.generation_gpu_hours == WITHIN(500e6 / 6300 / 3600)
    ultra = hours("Llama-3.1-405B-Instruct-FP8", 50_000, 8, gpu="h100")
    assert ultra.generation_gpu_hours == WITHIN(480, rel=0.01)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("throughput_vllm", "ours"),  # the embedded model in vLLM, in process
        ("throughput_server", "ours"),  # the same in a server
        ("throughput_simulated_1", "ours"),
    ],
)
def test_plans_from_an_engine_s_rate_agree_with_the_benchmarks(name, way):
    """What the bare engine did gives what our pipeline took, within a quarter."""
    figures = json.loads((RESULTS / f"{name}.json").read_text())
    rows, found = figures["settings"]["num_rows"], figures["figures"]
    tokens = found["tokens"]["ours"][0] / rows
    rate = measured_rate(rows / found["seconds"]["raw"]["median"], "h100", tokens)
    planned = plan("", rows, 1, rate, tokens).generation_gpu_hours * 3600
    assert planned == WITHIN(found["seconds"][way]["median"], rel=0.25)


def test_the_embedded_model_s_conversations_take_what_its_bare_engine_says():
    figures = json.loads((RESULTS / "conversation_overhead.json").read_text())
    rate = measured_rate(figures["conversations"] / min(figures["seconds"]["bare"]), "a100")
    planned = plan("", figures["conversations"], 1, rate).generation_gpu_hours * 3600
    assert planned == WITHIN(min(figures["seconds"]["ours"]), rel=0.25)


def test_a_public_rate_gives_what_the_simulated_gpu_took():
    figures = json.loads((RESULTS / "throughput_simulated_1.json").read_text())["figures"]
    tokens = figures["tokens"]["ours"][0]
    found = hours("Qwen3-8B-FP8", 2000, gpu="h100", tokens_per_row=tokens / 2000)
    measured = figures["seconds"]["ours"]["median"]
    assert found.generation_gpu_hours * 3600 == WITHIN(measured, rel=0.25)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", 405),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("Qwen/Qwen2-72B-Instruct/", 72),
        ("HuggingFaceTB/SmolLM2-135M", 0.135),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 56),
        ("google/gemma-2-27b-it", 27),
        ("8B", 8),
        ("70b", 70),
        ("Qwen3-30B-A3B", 30),
        ("tiny-instruct", None),
        ("gpt-4", None),
        ("0B", None),
        ("v3.1B2", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_a_model_s_name_tells_its_size(name, billions):
    assert billions_of(name) == billions


def test_a_measured_model_counts_as_itself_and_others_are_scaled():
    assert rate_of("Qwen/Qwen3-30B-A3B", "h100").tokens == WITHIN(5300 * 51.55 / 50)
    half = rate_of("16B", "a100")
    whole = rate_of("8B", "a100")
    assert half.responses == WITHIN(whole.responses / 2)
    assert "scaled by parameters from 8B to 16B" in half.source
    assert "scaled" not in whole.source
    # A mixture's figures say nothing of a dense model of its size.
    assert "Qwen3-32B" in rate_of("30B", "h100").source


def test_every_figure_has_a_source():
    assert all(re.search(r"\d", rate.source) for rate in RATES)
    found = hours("8B", 1000)
    assert all(stage.source for stage in found.stages)
    assert [stage.name for stage in found.stages] == [
        "instructions",
        "responses",
        "labels",
        "rewards",
        "embeddings",
        "neighbours",
        "writing",
    ]


def test_more_gpus_take_less_time_and_as_many_gpu_hours():
    one, many = hours("8B", 1_000_000, 1), hours("8B", 1_000_000, 64)
    assert one.gpu_hours == WITHIN(many.gpu_hours)
    assert one.stages[1].wall_hours == WITHIN(64 * many.stages[1].wall_hours)
    assert one.shards == many.shards == 1


def test_fleets_are_shared_by_as_many_shards_as_keep_them_busy():
    """What the benchmark found one process to feed, less a quarter, is what each is asked for."""
    figures = json.loads((RESULTS / "scale.json").read_text())["figures"]
    most = figures["saturation"]["rows_per_second"]
    assert most == WITHIN(ROWS_OF_A_COORDINATOR, rel=0.01)
    assert [shards_for(rows) for rows in (1, 0.7 * most, 0.8 * most, 10 * most)] == [1, 1, 2, 14]
    planned = {fleet["engines"]: shards_for(30 * fleet["engines"]) for fleet in figures["fleets"]}
    fed = [f for f in figures["fleets"] if f["coordinators"] >= planned[f["engines"]]]
    assert {8, 256} <= {fleet["engines"] for fleet in fed}
    assert all(fleet["idle_steady_worst"] <= 0.03 for fleet in fed)


def test_the_command_tells_how_many_gpus_a_shard_has(capsys):
    flags = ["--rate", "30", "--num-rows", "10000000", "--gpus"]
    assert main(["plan", *flags, "1000"]) == 0
    said = capsys.readouterr().out
    count = shards_for(1000 * 30 * 51.55 / 50)
    mark = re.search(
        rf"shards, at least (\[\d\]) +{count}, of {-(-1000 // count)} GPUs each\n", said
    )
    assert mark
    assert f"{mark[1]} benchmarks/results/scale.json" in said
    assert main(["plan", *flags, "2"]) == 0
    assert "shards" not in capsys.readouterr().out


def prose_rows(names, characters=1704):
    """Return rows of English prose that nothing repeats, as long as the paper's."""
    prose = re.sub(r"\s+", " ", " ".join(topics.values()))
    chance = random.Random(0)
    for number, start in enumerate(range(0, len(prose) - characters, characters)):
        text = prose[start : start + characters]
        instruction, response = text[:170], text[170:]
        texts = (("user", instruction), ("assistant", response))
        row = columns.empty_row(names)
        yield {
            **row,
            "uuid": f"{chance.getrandbits(128):032x}",
            "row": number,
            "instruction": instruction,
            "instruction_raw": instruction,
            "response": response,
            "messages": [{"role": role, "content": said} for role, said in texts],
            "min_neighbor_distance": chance.random(),
            "instruct_reward": chance.random(),
            "keep": True,
        }


def test_disk_is_what_prose_takes(tmp_path):
    steps = ("ConversationGenerator", "RuleTagger", "LanguageTagger", "RewardScorer")
    wanted = {name for step in (*steps, "NeighbourDistance") for name in columns.written_by(step)}
    types = {name: columns.described(name).type for name in columns.NAMES if name in wanted}
    rows = list(prose_rows(types))
    sft = {"uuid": "string", "messages": types["messages"]}
    for name, kinds in (("data", types), ("filtered", types), ("sft", sft)):
        with shards.ShardWriter(tmp_path / name, kinds) as writer:
            for row in rows:
                writer.write(row)
    dataset = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet")) / len(rows)
    planned = 1704 * DATASET_BYTES + DATASET_ROW_BYTES
    assert planned == WITHIN(dataset, rel=0.25)
    arrow = pa.Table.from_pylist(rows, schema=shards.arrow_schema(types)).nbytes / len(rows)
    journal = Journal(tmp_path / "journal.sqlite")
    for number, row in enumerate(rows):
        for role, text in enumerate((row["instruction"], row["response"])):
            ids = tuple(range(len(text) // 4))
            record = (text, ids, "stop", "", 10, len(ids))
            journal.record(bytes([role]) + number.to_bytes(31), record)
    journal.close()
    work = arrow + (tmp_path / "journal.sqlite").stat().st_size / len(rows) + 384 * 2 + 36
    planned = 1704 * WORK_BYTES + WORK_ROW_BYTES
    assert planned == WITHIN(work, rel=0.25)


def test_the_command_shows_a_table_with_sources(capsys):
    flags = ["--model", "Meta-Llama-3-8B-Instruct", "--num-rows", "3000000", "--gpus", "4"]
    assert main(["plan", *flags]) == 0
    said = capsys.readouterr().out
    assert re.search(r"instructions and responses +206\.2 GPU hours\n", said)
    assert re.search(r"responses \[1\] +200\.00 GPU hours, 50 h 00 min\n", said)
    assert "[1] Magpie paper (arXiv 2406.08464), section 3.4, Magpie-Air" in said
    assert main(["plan", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["generation_gpu_hours"] == WITHIN(206.2)
    assert found["rows"] == 3_000_000
    assert found["stages"][1]["wall_hours"] == WITHIN(50)
    assert found["dataset_bytes"] > 10**9


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "8B", "--num-rows", "0"], "--num-rows is 0; it must be above 0"),
        (["--model", "8B", "--num-rows", "-4"], "--num-rows is -4"),
        (["--model", "8B", "--num-rows", "9" * 400], "--num-rows is too large"),
        (["--model", "8B", "--num-rows", "9", "--gpus", "0"], "--gpus is 0"),
        (
            ["--model", "8B", "--num-rows", "9", "--tokens-per-row", "nan"],
            "--tokens-per-row is nan",
        ),
        (["--rate", "nan", "--num-rows", "9"], "--rate is nan"),
        (["--rate", "inf", "--num-rows", "9"], "--rate is inf"),
        (["--rate", "0", "--num-rows", "9"], "--rate is 0"),
        (["--model", "mine", "--num-rows", "9"], "'mine' does not say how large it is"),
        (["--num-rows", "9"], "--model is missing"),
        (["--model", "8B"], "--num-rows"),
        (["--model", "8B", "--num-rows", "x"], "invalid int value: 'x'"),
        (["--model", "8B", "--num-rows", "9", "--gpu", "tpu"], "invalid choice: 'tpu'"),
        (["--from-run", "no/where", "--num-rows", "9"], "no/where has no run.json"),
        (["--from-run", "x", "--rate", "3", "--num-rows", "9"], "not allowed with"),
    ],
)
def test_what_cannot_be_planned_is_one_line(flags, message, capsys):
    assert main(["plan", *flags]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def run_folder(folder, **changes):
    """Write what a run of 100 rows in 50 s on two GPUs leaves."""
    record = {
        "model": "mine",
        "counts": {"generated": 100},
        "completions": {"generated": 210, "replayed": 1},
        "effort": {
            "seconds": 50.0,
            "cpu_seconds": 36.0,
            "gpu_seconds": 100.0,
            "completions": 210,
            "prompt_tokens": 5000,
            "completion_tokens": 43_000,
        },
        "engines": [
            {"model": "mine", "gpus": 2, "seconds": 30.0},
            {"model": "other", "gpus": 0, "seconds": 5.0},
        ],
        **changes,
    }
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"x" * 1000)
    (folder / "report.html").write_bytes(b"x" * 999)  # as large for any number of rows
    (folder / "run.json").write_text(json.dumps(record))
    work = folder.with_name(f"{folder.name}.work")
    work.mkdir()
    (work / "journal.sqlite").write_bytes(b"x" * 3000)
    return folder


def test_a_small_run_is_scaled_up(tmp_path, capsys):
    folder = run_folder(tmp_path / "small")
    found = plan_from_run(folder, 7200, 4)
    assert found.amounts == {
        "completions": 72 * 210,
        "prompt_tokens": 72 * 5000,
        "completion_tokens": 72 * 43_000,
    }
    assert [stage.name for stage in found.stages] == [
        "engine 1: mine",
        "engine 2: other",
        "everything else",
    ]
    assert [stage.gpu_hours for stage in found.stages] == WITHIN([1.2, 0, 0.6])
    # Twice the GPUs, half the time.
    assert [stage.wall_hours for stage in found.stages] == WITHIN([0.3, 0.05, 0.15])
    assert found.stages[2].cpu_hours == WITHIN(0.72)
    assert (found.dataset_bytes, found.work_bytes) == (72_000, 216_000)
    assert main(["plan", "--from-run", str(folder), "--num-rows", "7200", "--gpus", "4"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"completion tokens +3,096,000\n", said)
    assert "measured: 100 rows in small" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"generated": 3}}, "has 3 rows, too few to plan from"),
        ({"completions": {"generated": 0, "replayed": 200}}, "took 200 from an earlier one"),
        ({"completions": {"generated": 100, "replayed": 100}}, "took 100 from an earlier one"),
        ({"effort": {}}, "says None where a run writes its effort seconds"),
        ({"effort": {"seconds": "x"}}, "says 'x' where a run writes its effort seconds"),
        ({"counts": None}, "says None where a run writes its counts generated"),
        ({"engines": [{"seconds": True}]}, "says True where a run writes its seconds"),
        ({"engines": None}, "where a run writes its engines"),
        ({"effort": {"seconds": 0, "gpu_seconds": 0}}, "says 0 where a run writes its effort"),
    ],
)
def test_a_run_that_does_not_tell_is_one_line(changes, message, tmp_path, capsys):
    folder = run_folder(tmp_path / "small", **changes)
    assert main(["plan", "--from-run", str(folder), "--num-rows", "9"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "3"])
def test_a_broken_record_is_one_line(text, tmp_path, capsys):
    (tmp_path / "run.json").write_text(text)
    assert main(["plan", "--from-run", str(tmp_path), "--num-rows", "9"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_of_60_rows_tells_what_240_take(tmp_path):
    """On the embedded model, calls and tokens within a quarter; a clock would tell of others."""
    if not (model_path("tiny-instruct") / "model.safetensors").is_file():
        pytest.skip("the embedded model is not trained yet")
    script = str(ROOT / "pipelines" / "magpie_air.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for rows in (60, 240):
        command = [sys.executable, script, "--num-rows", str(rows), "--output-dir", f"r{rows}"]
        subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=400
        )
    planned = plan_from_run(tmp_path / "r60", 240, 1)
    truth = json.loads((tmp_path / "r240" / "run.json").read_text())["effort"]
    for name, amount in planned.amounts.items():
        assert amount == WITHIN(truth[name], rel=0.25), name
