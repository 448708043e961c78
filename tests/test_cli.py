"""The commands, as they are given in a shell."""

import argparse
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recipe_table
import yaml
from datasets import load_dataset

from magpie_steps.cli import main
from magpie_steps.cli.report import add_report
from magpie_steps.markup import plain
from magpie_steps.recipes import RECIPES, recipe_from_dict
from magpie_steps.selection import select

ROWS = [{**row, "response": row["response"] or ""} for row in recipe_table.rows(200)]


@pytest.fixture
def dataset(tmp_path):
    return put(tmp_path / "mine" / "data" / "train.parquet")


def put(path, rows=ROWS):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def fails(capsys, *arguments):
    """Return the error of a command that cannot run; it is one line and nothing else."""
    assert main(list(map(str, arguments))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("magpie-steps: error: ")
    assert said.err.count("\n") == 1
    return said.err


def test_a_dataset_is_filtered_into_a_repository(dataset, tmp_path, capsys):
    folder = dataset.parent.parent
    assert main(["filter", str(folder), "--recipe", "pro", "--longest", "7"]) == 0
    out = tmp_path / "mine-pro"
    recipe = RECIPES["pro"].with_longest(7)
    counts = select(recipe, ROWS).counts
    said = capsys.readouterr()
    assert said.err == ""
    for name, number in counts.lines():
        assert any(
            line.startswith(name) and line.endswith(number) for line in said.out.splitlines()
        )
    record = json.loads((out / "filter.json").read_text())
    assert record["counts"] == counts.as_dict()
    assert recipe_from_dict(record["recipe"]) == recipe
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert [each["config_name"] for each in front["configs"]] == ["filtered", "removed"]
    for text in (*recipe.demands(), recipe.source, "recipe_longest"):
        assert plain(text) in card
    assert "rows read | 200" in card
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "filter.json",
        "filtered",
        "removed",
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_repository_opens_with_datasets(dataset, tmp_path):
    out, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    assert main(["filter", str(dataset), "--recipe", "pro-filter3", "--output-dir", out]) == 0
    kept = load_dataset(out, split="train", cache_dir=cache)
    removed = load_dataset(out, "removed", split="train", cache_dir=cache)
    found = select(RECIPES["pro-filter3"], ROWS).reasons
    assert kept["uuid"][:] == [r["uuid"] for r, why in zip(ROWS, found, strict=True) if not why]
    assert removed["drop_reason"][:] == [why for why in found if why]


def test_the_output_goes_beside_a_file_by_default(dataset, monkeypatch):
    monkeypatch.chdir(dataset.parent)
    assert main(["filter", dataset.name, "--recipe", "dpo"]) == 0
    assert (dataset.parent / "train-dpo" / "filter.json").is_file()


@pytest.mark.parametrize(
    ("places", "read"),
    [
        (["data/a.parquet", "sft/b.parquet", "c.parquet"], 200),
        (["a.parquet", "b.parquet", "sft/c.parquet"], 400),
        (["x/a.parquet", "y/z/b.parquet", ".cache/c.parquet"], 400),
    ],
)
def test_a_folders_files_are_those_of_data_or_its_own_or_all(places, read, tmp_path):
    for place in places:
        put(tmp_path / "in" / place)
    out = tmp_path / "out"
    given = ["filter", str(tmp_path / "in"), "--recipe", "pro", "--output-dir", str(out)]
    assert main(given) == 0
    assert json.loads((out / "filter.json").read_text())["counts"]["read"] == read


@pytest.mark.parametrize("recipe", ["pro", "nothing"])
def test_what_a_filter_wrote_is_filtered_again(recipe, tmp_path):
    """Its two sides have other columns where the dataset is of a published schema."""
    rows = [{k: v for k, v in row.items() if k not in ("keep", "drop_reason")} for row in ROWS]
    put(tmp_path / "in" / "a.parquet", rows)
    once, twice = str(tmp_path / "once"), str(tmp_path / "twice")
    assert main(["filter", str(tmp_path / "in"), "--recipe", "pro", "--output-dir", once]) == 0
    kept = json.loads((tmp_path / "once/filter.json").read_text())["counts"]["kept"]
    assert 0 < kept < 200
    if recipe == "nothing":
        recipe = str(tmp_path / "nothing.yaml")
        (tmp_path / "nothing.yaml").write_text("name: nothing\nrules: []")
    assert main(["filter", once, "--recipe", recipe, "--output-dir", twice]) == 0
    counts = json.loads((tmp_path / "twice/filter.json").read_text())["counts"]
    assert (counts["read"], counts["kept"]) == (kept, kept)


def test_the_licence_goes_along_with_what_it_asks_for(dataset, tmp_path):
    source = dataset.parent.parent
    card = "---\nlicense: llama3\n---\n# Mine\n\n## Licence\n\nBuilt with it.\n\n## More\n\nNo.\n"
    (source / "README.md").write_text(card)
    assert main(["filter", str(source), "--recipe", "pro"]) == 0
    made = (tmp_path / "mine-pro" / "README.md").read_text()
    front = yaml.safe_load(made.split("---\n")[1])
    assert front["license"] == "llama3"
    assert front["tags"] == ["synthetic", "magpie", "magpie-steps"]
    assert made.endswith("## Licence\n\n> Built with it.\n")


# Paths


def test_a_tilde_is_the_home_in_every_path(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "all.yaml").write_text("name: all\nrules: []")
    given = ["filter", "~/mine", "--recipe=~/all.yaml", "--output-dir=~/out"]
    assert main(given) == 0
    assert (tmp_path / "out" / "filter.json").is_file()
    capsys.readouterr()
    for command in (
        ["export", "~/gone", "--schema", "magpie-align", "--output-dir=~/x"],
        ["report", "~/gone", "--output-dir=~/x"],
        ["push", "~/gone", "a/b"],
        ["filter", "~/mine", "--recipe", "~/gone"],
    ):
        error = fails(capsys, *command)
        assert f"{tmp_path}/gone" in error
    assert "~" not in error
    parser = argparse.ArgumentParser()
    add_report(parser.add_subparsers())
    lists = ("compare", "decontaminate", "known")
    args = parser.parse_args(["report", "a/b", *(f"--{name}=~/{name}" for name in lists)])
    assert args.dataset == "a/b"
    assert [getattr(args, name) for name in lists] == [[f"{tmp_path}/{name}"] for name in lists]
    assert not list((tmp_path / "here").iterdir())


def test_a_folder_whose_name_begins_with_a_tilde_is_not_a_home(tmp_path, monkeypatch):
    """Arrow expands relative paths by itself, so shards went to another folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "~" / "in" / "a.parquet")
    assert main(["filter", "./~/in", "--recipe", "pro", "--output-dir", "./~/out"]) == 0
    assert (tmp_path / "~/out/filtered/train-00000-of-00001.parquet").is_file()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["filter", "BAD", "--recipe", "pro"],
        ["filter", "a/b", "--recipe", "BAD"],
        ["filter", "a/b", "--recipe", "pro", "--output-dir", "BAD"],
        ["export", "BAD", "--schema", "magpie-align"],
        ["export", "a/b", "--schema", "magpie-align", "--output-dir", "BAD"],
        ["report", "BAD"],
        ["report", "a/b", "--output-dir", "BAD"],
        ["report", "a/b", "--compare", "BAD"],
        ["push", "BAD", "a/b"],
        ["review", "push", "BAD", "name"],
        ["review", "pull", "BAD", "name"],
    ],
)
def test_a_name_that_is_not_utf_8_is_told_in_a_line(arguments, capsys):
    given = [each.replace("BAD", os.fsdecode(b"x\xff")) for each in arguments]
    assert r"the path 'x\udcff' is not UTF-8; give another name" in fails(capsys, *given)


def test_a_recipe_from_yaml(dataset, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    rule = {"kind": "one_of", "column": "language", "values": ["ZH"]}
    path.write_text(yaml.safe_dump({"name": "chinese", "rules": [rule]}))
    assert main(["filter", str(dataset), "--recipe", str(path)]) == 0
    kept = json.loads((dataset.parent / "train-chinese/filter.json").read_text())["counts"]["kept"]
    assert kept == sum(row["language"] == "ZH" for row in ROWS)
    capsys.readouterr()
    path.write_text("name: chinese\nrules: [{kind: one_of, column: language, values: [NO]}]")
    assert "in quotes" in fails(capsys, "filter", dataset, "--recipe", path)
    path.write_text("name: [")
    assert "mine.yaml" in fails(capsys, "filter", dataset, "--recipe", path)
    path.write_text("")
    assert "a recipe is None" in fails(capsys, "filter", dataset, "--recipe", path)
    path.unlink()
    assert "mine.yaml" in fails(capsys, "filter", dataset, "--recipe", path)


def test_a_run_replaces_its_own_output_and_nothing_else(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["filter", str(dataset), "--output-dir", str(out), "--recipe"]
    assert main([*given, "pro"]) == 0
    assert main([*given, "air"]) == 0
    assert json.loads((out / "filter.json").read_text())["recipe"]["name"] == "air"
    capsys.readouterr()
    (out / "filter.json").unlink()
    assert "README.md but no filter.json" in fails(capsys, *given, "pro")
    own = ["filter", dataset.parent.parent, "--recipe", "pro", "--output-dir"]
    assert "holds data but no filter.json" in fails(capsys, *own, dataset.parent.parent)
    assert "is a file" in fails(capsys, *own, dataset)
    assert pq.read_metadata(dataset).num_rows == 200
    again = ["filter", out / "filtered", "--recipe", "pro", "--output-dir", out]
    (out / "filter.json").write_text("{}")
    assert "the output folder" in fails(capsys, *again)


def test_nothing_kept_is_a_failure_that_is_written_all_the_same(tmp_path, capsys):
    rows = [{**row, "instruct_reward": -100.0} for row in ROWS]
    path = put(tmp_path / "a.parquet", rows)
    assert main(["filter", str(path), "--recipe", "pro"]) == 1
    assert capsys.readouterr().err == "magpie-steps: error: no row was kept\n"
    assert json.loads((tmp_path / "a-pro/filter.json").read_text())["counts"]["kept"] == 0
    card = (tmp_path / "a-pro/README.md").read_text()
    configs = yaml.safe_load(card.split("---\n")[1])["configs"]
    assert [each["config_name"] for each in configs] == ["removed"]


def test_the_list_shows_every_recipe(capsys):
    assert main(["filter", "--list"]) == 0
    said = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        assert f"{name}: {recipe.source}\n" in said
        assert all(f"  - {demand}\n" in said for demand in recipe.demands())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["sort"], "invalid choice: 'sort'"),
        (["filter"], "DATASET is missing"),
        (["filter", "x"], "--recipe is missing"),
        (["filter", "x", "--recipe", "best"], "no recipe 'best'; the recipes are air, pro,"),
        (["filter", "x", "--recipe", "pro"], "there is no x; give a parquet file"),
        (["filter", "a/b", "--recipe", "pro"], "from the Hub it cannot be fetched"),
        (["filter", "x", "--recipe", "pro", "--longest", "many"], "invalid int value: 'many'"),
        (["filter", "x", "--recipe", "pro", "--longest", "0"], "longest is 0"),
        (["filter", "x", "--recipe", "pro", "--best"], "unrecognized arguments: --best"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, message, capsys):
    assert message in fails(capsys, *arguments)


def test_a_recipe_that_is_a_pipe_is_refused_not_waited_for(dataset, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.yaml")
    said = fails(capsys, "filter", str(dataset), "--recipe", str(tmp_path / "pipe.yaml"))
    assert "pipe.yaml: it is no regular file; give a file with a recipe" in said


@pytest.mark.parametrize("command", ["filter", "export", "report"])
@pytest.mark.parametrize("place", ["loop", "loop/x", "loop/.."])
def test_an_output_folder_that_is_a_link_in_a_circle_is_told_in_a_line(
    command, place, dataset, tmp_path, capsys
):
    (tmp_path / "loop").symlink_to("loop")
    needed = {"filter": ("--recipe", "pro"), "export": ("--schema", "magpie-align")}
    arguments = needed.get(command, ())
    said = fails(capsys, command, str(dataset), *arguments, "--output-dir", str(tmp_path / place))
    assert "/loop is a link that leads nowhere; remove it" in said


def test_what_is_no_dataset_is_told_in_a_line(tmp_path, capsys):
    assert "no parquet files" in fails(capsys, "filter", tmp_path, "--recipe", "pro")
    path = tmp_path / "a.parquet"
    path.write_text("rows")
    assert "is no parquet file" in fails(capsys, "filter", path, "--recipe", "pro")
    put(path, [{"text": "Hi"}])
    assert "the columns text are of no schema" in fails(capsys, "filter", path, "--recipe", "pro")
    put(path, [{"instruction": "Hi", "response": "Yes"}])
    message = fails(capsys, "filter", path, "--recipe", "pro")
    assert "input_quality (read from input_quality)" in message
    assert "the recipes that it has all columns for: none" in message
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.parquet"]


def test_help_is_shown(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["filter", "--help"])
    assert caught.value.code == 0
    assert "--recipe" in capsys.readouterr().out
