"""Shards that are joined are the run that was never divided."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from magpie_steps import (
    ApplyRecipe,
    ConversationGenerator,
    NeighbourDistance,
    RuleTagger,
    ScriptedEngine,
)
from magpie_steps.card.record import ModelUsed, RunRecord
from magpie_steps.cli import main
from magpie_steps.effort import Effort
from magpie_steps.merging import merge
from magpie_steps.recipes import recipe_from_dict
from magpie_steps.repository import write_repository
from magpie_steps.run_shard import Shard
from magpie_steps.summary import summarise

ROWS, SHARDS = 46, 4
RECIPE = recipe_from_dict(
    {
        "name": "near",
        "rules": [
            {"kind": "number_above", "column": "min_neighbor_distance", "bound": 0.0},
            {"kind": "level_at_least", "column": "input_quality", "least": "poor"},
        ],
        "longest": 30,
    }
)
EFFORT = Effort(
    seconds=10.0,
    cpu_seconds=8.0,
    gpu_seconds=20.0,
    completions=30,
    prompt_tokens=400,
    cached_tokens=100,
    completion_tokens=900,
    retries=1,
    busy_share=0.5,
)


def through(step, rows):
    step.load()
    try:
        return next(step.process(rows))
    finally:
        step.unload()


def generated(shard=None):
    """Return a run's rows as its generator and its tagger write them."""
    numbers = shard.rows if shard else range(ROWS)
    step = ConversationGenerator(
        llm=ScriptedEngine(), num_rows=len(numbers), first_row=numbers.start
    )
    step.load()
    rows, _ = next(step.process())
    step.unload()
    return through(RuleTagger(), [hostile(row) for row in rows])


def hostile(row):
    """Return a row as models write some: repeated across shards, dropped, full of markup."""
    number = row["row"]
    if number in (3, 20, 45):  # in three shards
        return said(row, "Name a prime number.")
    if number in (5, 6):  # within one
        return said(row, "Bake me a cake!")
    if number == 13:
        return said(row, "a|b `c` <script>alert(1)</script> \u202e\x07 ---\n---\n</details>" * 40)
    if number == 30:
        return {
            **said(row, ""),
            "messages": [],
            "response": "",
            "keep": False,
            "drop_reason": "instruction_empty",
            "instruction_rejections": ["empty"] * 10,
        }
    return row


def said(row, text):
    messages = [{"role": "user", "content": text}, *row["messages"][1:]]
    return {**row, "instruction": text, "messages": messages, "instruction_length": len(text)}


def judged(rows):
    return through(ApplyRecipe(recipe=RECIPE.as_dict()), through(NeighbourDistance(), rows))


def record_of(shard=None, **changes):
    steps = [
        ConversationGenerator(
            name="conversation_generator_0",
            llm=ScriptedEngine(),
            num_rows=len(shard.rows) if shard else ROWS,
            first_row=shard.rows.start if shard else 0,
        ),
        NeighbourDistance(name="neighbour_distance_0"),
    ]
    pipeline = {"pipeline": {"name": "p", "steps": [{"step": step.dump()} for step in steps]}}
    words = ["python pipelines/magpie_pro.py --num-rows 46", *([f"--shard {shard}"] * bool(shard))]
    found = RunRecord(
        title="whole",
        model="scripted",
        settings={
            "model": "scripted",
            "seed": 0,
            "num_rows": ROWS,
            **({"shard": str(shard)} if shard else {}),
        },
        template="<user>",
        bare_template="<user>",
        effort=replace(EFFORT, seconds=10.0 + shard.number) if shard else EFFORT,
        models=[ModelUsed("instructions and responses", "scripted", "1", True)],
        system_prompts={"math": (0.5, "Ask | about math.")},
        engines=[{"model": "scripted", "gpus": 2, "seconds": 3.0, "busy_share": 0.5}],
        completions_of_all_runs=31,
        remarks=["Rules chose.", "Neighbours were searched with an index: of a sample …"],
        license="cc0-1.0",
        command=" ".join(words) + " --dry-run",
        pipeline=yaml.safe_dump(pipeline, sort_keys=False, allow_unicode=True),
    )
    return replace(found, **changes)


def write(folder, rows, record):
    write_repository(folder, rows, summarise(rows), record, ("sft",), RECIPE, illustrated=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of the run that was never divided."""
    folder = tmp_path_factory.mktemp("whole") / "whole"
    write(folder, judged(generated()), record_of())
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Return the folders of its shards, each as its own run judged it."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(SHARDS):
        shard = Shard(number, SHARDS, ROWS)
        write(folder / f"s{number}", judged(generated(shard)), record_of(shard))
    return [folder / f"s{number}" for number in range(SHARDS)]


@pytest.fixture(scope="module")
def merged(shards, tmp_path_factory):
    output = tmp_path_factory.mktemp("merged") / "whole"
    # In any order.
    merge([shards[n] for n in (2, 0, 3, 1)], output, illustrated=False)
    return output


def rows_in(folder, config="data"):
    return pq.read_table(folder / config).to_pylist()


def test_every_configuration_is_that_of_the_whole_run_to_the_last_byte(whole, merged):
    names = {path.name for path in whole.iterdir() if path.is_dir()}
    assert names == {"data", "filtered", "removed", "sft"}
    assert names == {path.name for path in merged.iterdir() if path.is_dir()}
    for name in sorted(names):
        (one,), (two,) = (sorted((folder / name).glob("*.parquet")) for folder in (whole, merged))
        assert one.read_bytes() == two.read_bytes(), name


def test_the_shards_alone_knew_less(shards, merged):
    """What only all rows tell is not what the shards said: the test above would notice."""
    before = [row for folder in shards for row in rows_in(folder)]
    after = rows_in(merged)
    assert [row["uuid"] for row in before] == [row["uuid"] for row in after]
    repeated = {row["row"] for row in after if row["min_neighbor_distance"] == 0}
    assert repeated >= {3, 5, 6, 20, 45}
    assert {row["row"] for row in before if row["min_neighbor_distance"] == 0} < repeated
    assert {after[n]["min_similar_uuid"] for n in (3, 20, 45)} == {after[3]["uuid"]}
    assert [after[n]["repeat_count"] for n in (3, 20, 45)] == [2, 2, 2]
    assert after[30]["drop_reason"] == "instruction_empty"
    assert math.isnan(after[30]["min_neighbor_distance"])
    kept = [sum(row["keep"] for row in rows) for rows in (before, after)]
    assert kept[0] > kept[1] <= 30


def test_the_record_adds_up_what_the_shards_took(whole, shards, merged):
    one, two = (json.loads((folder / "run.json").read_text()) for folder in (whole, merged))
    assert two["counts"] == one["counts"]
    assert two["counts"]["rejected"] == {"empty": 10}
    same = ("title", "model", "settings", "versions", "models", "recipe", "command", "license")
    assert {name: two[name] for name in same} == {name: one[name] for name in same}
    effort = two["effort"]
    assert effort["seconds"] == two["seconds"] == 10 + 11 + 12 + 13
    assert (effort["cpu_seconds"], effort["gpu_seconds"]) == (32.0, 80.0)
    assert (effort["completions"], effort["completion_tokens"]) == (120, 3600)
    assert (effort["prompt_tokens"], effort["cached_tokens"], effort["retries"]) == (1600, 400, 4)
    assert effort["busy_share"] == 0.5
    assert two["completions"]["all_runs"] == 4 * 31
    assert len(two["engines"]) == 4
    assert [each["shard"] for each in two["shards"]] == ["0/4", "1/4", "2/4", "3/4"]
    assert [each["rows"] for each in two["shards"]] == [11, 12, 11, 12]
    kept = [json.loads((f / "run.json").read_text())["counts"]["kept"] for f in shards]
    assert [each["kept"] for each in two["shards"]] == kept
    assert [each["seconds"] for each in two["shards"]] == [10, 11, 12, 13]
    assert (whole / "pipeline.yaml").read_text() == (merged / "pipeline.yaml").read_text()


def test_the_card_tells_of_the_whole(whole, merged):
    one, two = ((folder / "README.md").read_text() for folder in (whole, merged))
    assert "> The rows were written in 4 shards" in two
    assert "Rules chose." in two
    assert "searched with an index" not in two  # a shard's own search says nothing of the whole
    assert "--shard" not in two
    assert "Ask \\| about math." in two

    def part(text, title):
        return re.search(rf"^## {title}\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)[1]

    for title in ("Counts", "How rows were chosen", "Columns", "How to load it", "Licence"):
        assert part(one, title) == part(two, title), title
    assert "46 s" in part(two, "What it took")


def test_nothing_is_left_beside_the_output(merged):
    assert [path.name for path in merged.parent.iterdir()] == ["whole"]


def test_a_merge_replaces_an_earlier_one(shards, merged):
    before = {path: path.read_bytes() for path in merged.rglob("*.parquet")}
    merge(shards, merged, illustrated=False)
    assert {path: path.read_bytes() for path in merged.rglob("*.parquet")} == before


def test_what_a_killed_merge_left_does_not_matter(shards, merged, tmp_path):
    left = tmp_path / ".out.merge" / "rows"
    left.mkdir(parents=True)
    (left / "train-00000-of-00002.parquet").write_bytes(b"half")
    (left / "train-00001-of-00002.parquet").write_bytes(b"half")
    (tmp_path / ".out.merge" / "texts.arrow").write_bytes(b"half")
    merge(shards, tmp_path / "out", illustrated=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for name in ("data", "filtered"):
        assert rows_in(tmp_path / "out", name)[0]["uuid"] == rows_in(merged, name)[0]["uuid"]


def changed(shards, tmp_path, number, change):
    """Return the shards with one of them changed."""
    folder = tmp_path / f"changed{number}"
    shutil.copytree(shards[number], folder)
    record = json.loads((folder / "run.json").read_text())
    change(record)
    (folder / "run.json").write_text(json.dumps(record))
    return [*shards[:number], folder, *shards[number + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["settings"].update(seed=1), "seed is 0 in {first} and 1 in {other}"),
        (lambda r: r["settings"].pop("seed"), "seed is 0 in {first} and None in {other}"),
        (
            lambda r: r["settings"].update(num_rows=50),
            "num_rows is 46 in {first} and 50 in {other}",
        ),
        (lambda r: r["settings"].update(shard="1/5"), "shards is '4' in {first} and '5' in"),
        (lambda r: r["versions"].update(torch="0.1"), "the version of torch is"),
        (lambda r: r["models"][0].update(revision="2"), "models is"),
        (lambda r: r["recipe"].update(longest=3), "recipe is"),
        (lambda r: r["settings"].update(shard="7/4"), "{other}/run.json: --shard is '7/4'"),
        (lambda r: r["settings"].update(num_rows=46.0), "num_rows is 46.0"),
        (lambda r: r["effort"].update(seconds="x"), "'x' is no number"),
        (lambda r: r["settings"].pop("shard"), "{other} is no shard: its run had no --shard"),
        (lambda r: r["settings"].update(shard="2/4"), "the shard 2/4 is there twice"),
        (lambda r: r["settings"].update(shard=["x"]), "does not say what a run writes there"),
        (lambda r: r.pop("settings"), "does not say what a run writes there: KeyError"),
        (lambda r: r.pop("effort"), "does not say what a run writes there: KeyError('effort')"),
    ],
)
def test_what_does_not_belong_together_is_refused(shards, tmp_path, change, message, capsys):
    folders = changed(shards, tmp_path, 1, change)
    output = tmp_path / "out"
    assert main(["merge", *map(str, folders), "--output-dir", str(output)]) == 2
    said = capsys.readouterr().err
    assert message.format(first=folders[0], other=folders[1]) in said
    assert said.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize("text", ["a: [", "pipeline: 3", "pipeline: {steps: [{}]}"])
def test_a_broken_pipeline_is_one_line(shards, tmp_path, capsys, text):
    folders = changed(shards, tmp_path, 0, lambda record: None)
    (folders[0] / "pipeline.yaml").write_text(text)
    assert main(["merge", *map(str, folders), "--output-dir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "pipeline.yaml is not what a run writes" in said
    assert said.count("\n") == 1


def test_shards_that_do_not_say_how_they_compared_are_refused(shards, tmp_path):
    folders = changed(shards, tmp_path, 0, lambda record: None)
    (folders[0] / "pipeline.yaml").unlink()
    with pytest.raises(ValueError, match="does not say how NeighbourDistance compared its rows"):
        merge(folders, tmp_path / "out")


def test_shards_that_looked_for_other_benchmarks_are_refused(shards, tmp_path):
    folders = changed(shards, tmp_path, 1, lambda record: None)
    content = yaml.safe_load((folders[1] / "pipeline.yaml").read_text())
    step = {"paths": ["exam.txt"], "type_info": {"module": "m", "name": "Decontaminate"}}
    content["pipeline"]["steps"].append({"step": step})
    (folders[1] / "pipeline.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"decontaminate is None in .* and \['exam.txt'\] in"):
        merge(folders, tmp_path / "out")


def test_all_shards_have_to_be_there_once(shards, tmp_path, capsys):
    for folders, message in (
        (shards[:1], "the shards 1/4, 2/4, 3/4 are missing (3 of 4)"),
        (shards[1:], "the shards 0/4 are missing (1 of 4)"),
        ([*shards, shards[2]], "the shard 2/4 is there twice"),
        ([tmp_path], "has no run.json, so it is no run's output"),
        ([*shards, tmp_path / "nowhere"], "nowhere has no run.json"),
    ):
        assert main(["merge", *map(str, folders), "--output-dir", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_a_shard_whose_rows_are_not_its_own_is_refused(shards, tmp_path):
    def spoiled(change):
        folders = changed(shards, tmp_path / change.__name__, 1, lambda record: None)
        (file,) = (folders[1] / "data").glob("*.parquet")
        pq.write_table(change(pq.read_table(file)), file)
        return folders

    def one_less(rows):
        return rows.slice(0, len(rows) - 1)

    def first_missing(rows):
        return rows.slice(1)

    def none(rows):
        return rows.slice(0, 0)

    for change, message in (
        (one_less, "has 11 rows, but the shard 1/4 of 46 rows has 12"),
        (first_missing, "has row 12 where row 11 should be"),
        (none, "has 0 rows, but the shard 1/4 of 46 rows has 12"),
    ):
        (tmp_path / change.__name__).mkdir()
        with pytest.raises(ValueError, match=message):
            merge(spoiled(change), tmp_path / "out")


def test_nothing_foreign_is_overwritten(shards, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    for output, message in (
        (tmp_path / "thesis", "holds thesis.tex but no run.json"),
        (shards[0], "is in"),
        (shards[0].parent, "so it is not a run's output"),
    ):
        assert main(["merge", *map(str, shards), "--output-dir", str(output)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_an_embedding_model_that_is_not_there_is_one_line(shards, tmp_path, capsys):
    flags = ["--output-dir", str(tmp_path / "out"), "--embedding-model", str(tmp_path / "no")]
    assert main(["merge", *map(str, shards), *flags]) == 2
    said = capsys.readouterr().err
    assert "--embedding-model" in said
    assert said.count("\n") == 1


def test_the_command_says_what_it_did_and_draws_the_report(shards, tmp_path, capsys, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["merge", *map(str, shards), "--output-dir", "."]) == 0
    said = capsys.readouterr().out
    assert "checking 46 rows in 4 shards" in said
    assert re.search(r"rows generated +46\n", said)
    assert json.loads(Path("run.json").read_text())["title"] == "here"
    assert Path("report.html").is_file()
    assert "## What the rows are like" in Path("README.md").read_text()
