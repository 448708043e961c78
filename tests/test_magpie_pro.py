"""The main job as a user starts it: a command in a new process."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from magpie_steps import columns
from magpie_steps.embedded import model_path
from magpie_steps.repository import arrow_schema
from magpie_steps.templates import PreQueryTemplate

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "pipelines" / "magpie_pro.py"
TINY = model_path("tiny-instruct")
needs_model = pytest.mark.skipif(
    not (TINY / "model.safetensors").is_file(), reason="the embedded model is not trained yet"
)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


def command(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def run(*arguments, cwd, timeout=280):
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
        timeout=timeout,
        check=False,
    )


def load(folder, cache, monkeypatch, name="default"):
    """Open a folder as a user would, without a network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    return datasets.load_dataset(str(folder), name, split="train", cache_dir=str(cache))


def table_of(output):
    """Return the summary table as a dict of its names and values."""
    pairs = (re.split(r"\s{2,}", line.strip()) for line in output.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dry")
    done = run("--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_dry_run_says_what_it_did_and_nothing_else(dry_run):
    _, done = dry_run
    shown = table_of(done.stdout)
    assert shown["rows generated"] == shown["rows kept"] == "200"
    assert shown["completions generated"] == "400"
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_dry_run_writes_a_repository(dry_run):
    folder, _ = dry_run
    output = folder / "data" / "magpie-pro"
    files = sorted(str(p.relative_to(output)) for p in output.rglob("*") if p.is_file())
    shard = "train-00000-of-00001.parquet"
    shards = [f"{folder}/{shard}" for folder in ("data", "filtered", "sft")]  # none removed
    figures = [name for name in files if name.startswith("figures/")]
    assert "figures/instruction-lengths.png" in figures
    others = ["README.md", "pipeline.yaml", "report.html", "run.json"]
    assert files == sorted([*others, *figures, *shards])
    assert (folder / "data" / "magpie-pro.work" / "journal.sqlite").is_file()


def test_load_dataset_opens_the_folder_offline(dry_run, tmp_path, monkeypatch):
    folder, _ = dry_run
    rows = load(folder / "data" / "magpie-pro", tmp_path, monkeypatch)
    steps = "ConversationGenerator RuleTagger LanguageTagger RewardScorer NeighbourDistance"
    names = {name for step in steps.split() for name in columns.written_by(step)}
    written = [name for name in columns.NAMES if name in names]
    assert rows.column_names == written
    assert rows.features.arrow_schema.equals(arrow_schema(written))
    assert len(rows) == len(set(rows["uuid"])) == 200
    assert all(rows["instruction"])
    assert all(rows["response"])
    assert rows["row"][:] == list(range(200))
    for row in rows:
        assert [m["content"] for m in row["messages"]] == [row["instruction"], row["response"]]


def test_card_and_run_json_agree_with_the_rows(dry_run):
    folder, _ = dry_run
    output = folder / "data" / "magpie-pro"
    content = json.loads((output / "run.json").read_text())
    assert content["counts"]["generated"] == content["counts"]["kept"] == 200
    assert content["settings"]["num_rows"] == 200
    assert content["versions"]["distilabel"] == "1.5.3"
    matter = yaml.safe_load((output / "README.md").read_text().split("---\n")[1])
    assert matter["size_categories"] == ["n<1K"]
    assert str(ROOT) not in (output / "README.md").read_text()


def test_the_card_says_that_rules_chose_the_labels(dry_run):
    folder, _ = dry_run
    card = (folder / "data" / "magpie-pro" / "README.md").read_text()
    assert "chosen by rules of words and form, not by a model" in card
    assert "min_neighbor_distance \\> 0" in card
    content = json.loads((folder / "data" / "magpie-pro" / "run.json").read_text())
    assert content["recipe"]["name"] == "pro"
    rows = set(content["counts"]["dropped"])
    assert rows <= {"recipe_distance", "recipe_quality", "recipe_reward"}


def test_another_recipe_chooses_anew_among_the_same_rows(tmp_path, monkeypatch):
    def run_with(*arguments):
        done = run("--dry-run", "--num-rows", 30, "--output-dir", "o", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return table_of(done.stdout)

    (tmp_path / "two.yaml").write_text(
        "name: two\nrules:\n- kind: level_at_least\n  column: input_quality\n  least: very poor\n"
        "longest: 2\n"
    )
    assert run_with()["rows kept"] == "30"
    shown = run_with("--recipe", "two.yaml")
    assert (shown["rows kept"], shown["rows removed"]) == ("2", "28")
    assert (shown["recipe_longest"], shown["completions generated"]) == ("28", "0")
    everything, kept, removed = (
        load(tmp_path / "o", tmp_path / "cache", monkeypatch, name)
        for name in ("default", "filtered", "removed")
    )
    assert sorted([*kept["uuid"], *removed["uuid"]]) == sorted(everything["uuid"])
    assert kept["keep"] == [True] * 2
    assert set(removed["drop_reason"]) == {"recipe_longest"}
    assert min(kept["response_length"]) >= max(removed["response_length"])
    run_with()
    assert not (tmp_path / "o" / "removed").exists()


def test_rows_that_repeat_a_benchmark_are_not_kept_and_it_is_the_model_s_rows_that_stay(tmp_path):
    """An evaluation set is compared with the same rows: nothing is generated again."""
    flags = ("--dry-run", "--num-rows", 30, "--output-dir", "o")
    assert run(*flags, cwd=tmp_path).returncode == 0
    rows = pq.read_table(tmp_path / "o" / "data").to_pylist()
    asked = [{"question": f"{rows[n]['instruction']}"} for n in (3, 7)]
    exam = tmp_path / "exam.jsonl"
    exam.write_text("".join(f"{json.dumps(each)}\n" for each in asked))
    done = run(*flags, "--decontaminate", "exam.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert table_of(done.stdout)["completions generated"] == "0"
    after = pq.read_table(tmp_path / "o" / "data").to_pylist()
    repeating = {row["row"] for row in after if row["drop_reason"] == "contaminated"}
    assert {3, 7} <= repeating
    assert all(after[n]["contaminated_by"] == "exam" for n in repeating)
    assert all(row["keep"] is (row["row"] not in repeating) for row in after)
    assert "| rows removed: contaminated |" in (tmp_path / "o" / "README.md").read_text()


def test_the_same_command_replays_and_writes_the_same_rows(dry_run):
    folder, _ = dry_run
    data = folder / "data" / "magpie-pro" / "data" / "train-00000-of-00001.parquet"
    before = data.read_bytes()
    done = run("--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert data.read_bytes() == before
    assert table_of(done.stdout)["completions generated"] == "0"
    assert table_of(done.stdout)["completions replayed"] == "400"


def test_more_rows_extend_the_data_set(tmp_path):
    run("--dry-run", "--num-rows", 5, "--output-dir", "out", cwd=tmp_path)
    done = run("--dry-run", "--num-rows", 8, "--output-dir", "out", cwd=tmp_path)
    assert table_of(done.stdout)["completions generated"] == "6"
    assert table_of(done.stdout)["completions replayed"] == "10"


def test_other_settings_in_the_same_folder_are_refused(dry_run):
    folder, _ = dry_run
    done = run("--dry-run", "--seed", 4, cwd=folder)
    assert done.returncode == 2
    assert "seed was 0 and is now 4" in done.stderr


def test_nothing_that_is_published_names_a_place_of_this_machine(tmp_path):
    """The work folder, a benchmark's file, the package's models: none is of use to a reader."""
    exam = tmp_path / "private" / "exam.txt"
    exam.parent.mkdir()
    exam.write_text("What is the capital of a country that does not exist?\n")
    flags = ["--num-rows", 3, "--output-dir", tmp_path / "out", "--decontaminate", exam]
    done = run("--dry-run", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    texts = [
        p for p in (tmp_path / "out").rglob("*") if p.suffix in (".md", ".json", ".yaml", ".html")
    ]
    assert len(texts) == 4
    for path in texts:
        text = path.read_text(encoding="utf-8")
        for place in (str(tmp_path), str(ROOT), str(Path.home()), "site-packages"):
            assert place not in text, path
    pipeline = yaml.safe_load((tmp_path / "out" / "pipeline.yaml").read_text())
    steps = {each["step"]["name"]: each["step"] for each in pipeline["pipeline"]["steps"]}
    assert steps["neighbour_distance_0"]["embedder"]["model"] == "all-MiniLM-L6-v2"
    assert steps["decontaminate_0"]["paths"] == ["exam.txt"]


@pytest.mark.long
def test_here_is_a_folder_too(tmp_path):
    (tmp_path / "mine").mkdir()
    done = run("--dry-run", "--num-rows", 2, "--output-dir", ".", cwd=tmp_path / "mine")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "mine" / "run.json").read_text())["title"] == "mine"
    assert (tmp_path / "mine.work").is_dir()


@pytest.mark.long
def test_a_chosen_licence_is_in_the_card(tmp_path):
    flags = ("--dry-run", "--num-rows", 1, "--license", "cc0-1.0", "--output-dir", "o")
    assert run(*flags, cwd=tmp_path).returncode == 0
    assert "license: cc0-1.0" in (tmp_path / "o" / "README.md").read_text()


def model_folder(path, *, chat_template):
    path.mkdir()
    (path / "config.json").write_text("{}")
    config = {"chat_template": "{{ messages }}"} if chat_template else {}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-rows", "0"], "--num-rows is 0; it must be at least 1"),
        (["--num-rows", "-3"], "--num-rows is -3"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["--model", "./nowhere"], "there is no model folder './nowhere'"),
        (["--model", "/no/where/at/all"], "there is no model folder"),
        (["--model", "empty"], "holds no model: it has no config.json"),
        (["--model", "untuned"], "has no chat template"),
        (["--decontaminate", "exam.txt"], "there is no exam.txt"),
        (["--decontaminate", "thesis"], "thesis has no files that end in"),
        (["--recipe", "best"], "there is no recipe 'best'"),
        (["--recipe", "air"], "the recipe air needs reward_difference"),
        (["--recipe", "margin.yaml"], "the recipe margin needs score_margin"),
        (["--recipe", "no.yaml"], "No such file or directory: 'no.yaml'"),
        (["--tagger-model", "./nowhere"], "there is no model folder './nowhere'"),
        (["--output-dir", "file/out"], "cannot write file/out"),
        (["--output-dir", "a[1]*"], "--output-dir is a[1]*: datasets takes * [ ] for a pattern"),
        (["--output-dir", "a\x1b[31mred"], r"--output-dir is 'a\x1b[31mred', which is no text"),
        (["--output-dir", "worked"], "cannot write worked.work: File exists"),
        (["--output-dir", "circle"], "circle is a link that leads nowhere"),
        (["--output-dir", "circle/.."], "error: "),
        (["--output-dir", "/"], "--output-dir is /, which is no folder for a dataset"),
        (["--license", "My Licence"], "--license is 'My Licence', which is none of the Hub's ids"),
        (["--output-dir", "thesis"], "holds thesis.tex but no run.json"),
        (["--output-dir", "/proc/nothing/out"], "cannot write /proc/nothing/out"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "worked.work").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "margin.yaml").write_text(
        "name: margin\nrules: [{kind: number_at_least, column: score_margin, bound: 0}]\n"
    )
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    model_folder(tmp_path / "untuned", chat_template=False)
    model = [] if "--model" in arguments else ["--dry-run"]
    done = run(*arguments, *model, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    left = {"circle", "empty", "file", "margin.yaml", "thesis", "untuned", "worked.work"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_broken_model_is_one_line_and_exit_code_1(tmp_path):
    """It has a chat template, so it is found out only when it is loaded."""
    model_folder(tmp_path / "broken", chat_template=True)
    done = run("--model", "broken", "--output-dir", "out", cwd=tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("magpie_pro: error:")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def completions(journal):
    """Return how many completions a journal holds; 0 while there is none."""
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as database:
            return database.execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def run_and_kill(folder, arguments, after):
    """Start the command and kill it once `after` completions are there; its steps end alone."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=ENVIRONMENT,
    )
    journal = folder / "out.work" / "journal.sqlite"
    deadline = time.monotonic() + 120
    while completions(journal) < after and process.poll() is None:
        assert time.monotonic() < deadline, "the run wrote no completions"
        time.sleep(0.02)
    process.kill()
    process.wait()


@needs_model
@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_three_times_it_ends_with_the_rows_of_an_undisturbed_run(tmp_path):
    arguments = ["--num-rows", 40, "--output-dir", "out"]
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    calm.mkdir()
    stormy.mkdir()
    undisturbed = run(*arguments, cwd=calm, timeout=300)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for after in (5, 25, 50):
        run_and_kill(stormy, arguments, after)
    done = run(*arguments, cwd=stormy, timeout=300)
    assert done.returncode == 0, done.stderr
    data = Path("out") / "data" / "train-00000-of-00001.parquet"
    assert (stormy / data).read_bytes() == (calm / data).read_bytes()
    once = json.loads((calm / "out" / "run.json").read_text())["completions"]["all_runs"]
    again = json.loads((stormy / "out" / "run.json").read_text())["completions"]["all_runs"]
    # What was finished but not yet committed when the run was killed is at most what was in flight.
    assert again <= once + 3 * 64


@needs_model
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_embedded_model_writes_a_real_data_set(tmp_path, monkeypatch):
    done = run("--num-rows", 60, "--output-dir", "out", cwd=tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr
    rows = load(tmp_path / "out", tmp_path / "cache", monkeypatch)
    assert len(rows) == len(set(rows["uuid"])) == 60
    assert {row["drop_reason"] for row in rows} <= {"", "recipe_distance"}
    assert sum(rows["keep"]) > 50
    assert set(rows["difficulty_generator"]) == {"rules"}
    assert set(rows["reward_model"]) == {"tiny-reward"}
    assert all(0 <= distance <= 4 for distance in rows["min_neighbor_distance"])
    assert len(set(rows["instruction"])) > 30
    from transformers import AutoTokenizer

    template = PreQueryTemplate.from_tokenizer(AutoTokenizer.from_pretrained(TINY))
    for row in rows:
        assert row["instruction"].strip()
        assert row["response"].strip()
        for token in template.control_tokens:
            assert token not in row["instruction"] + row["response"]
        assert row["gen_input_configs"]["pre_query_template"] == template.pre_query
