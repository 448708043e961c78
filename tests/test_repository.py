import json

import datasets
import pyarrow.parquet as pq
import pytest
import yaml

from magpie_steps import columns, repository, shards
from magpie_steps.card.record import RunRecord
from magpie_steps.effort import Effort
from magpie_steps.recipes import RECIPES
from magpie_steps.repository import write_repository
from magpie_steps.summary import summarise

NASTY = "a ``` fence\n````\n<script>alert(1)</script> | pipe\n---\n\n# heading \u2028 {{ x }}"


def row(number, **changes):
    return {
        **columns.empty_row(),
        "uuid": f"id-{number}",
        "row": number,
        "model": "m",
        "instruction": f"Ask {number}?",
        "response": "Answer.",
        "messages": [
            {"role": "user", "content": f"Ask {number}?"},
            {"role": "assistant", "content": "Answer."},
        ],
        "keep": True,
        **changes,
    }


def record(**changes):
    return RunRecord(
        **{
            "title": "Magpie Test",
            "model": "m",
            "settings": {"seed": 0, "instruction_temperature": 1.0},
            "template": "<|bos|>user\n",
            "versions": {"magpie-steps": "0.1.0"},
            "effort": Effort(seconds=2.0),
            **changes,
        }
    )


def front_matter(text):
    head, matter, _ = text.split("---\n", 2)
    assert head == ""
    return yaml.safe_load(matter)


def write(folder, rows, exports=(), **changes):
    write_repository(folder, rows, summarise(rows), record(**changes), exports, illustrated=False)


def paired(number, **changes):
    return row(
        number,
        **{
            "prompt": [{"role": "user", "content": f"Ask {number}?"}],
            "chosen": [{"role": "assistant", "content": "Good."}],
            "rejected": [{"role": "assistant", "content": "Bad."}],
            "chosen_score": 2.0,
            "rejected_score": 0.5,
            "score_margin": 1.5,
            **changes,
        },
    )


def load(folder, name, cache):
    found = datasets.load_dataset(str(folder), name, split="train", cache_dir=str(cache))
    return found.to_list()


def test_repository_holds_exactly_what_would_be_uploaded(tmp_path):
    write(tmp_path / "out", [row(0), row(1)])
    files = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["README.md", "data/train-00000-of-00001.parquet", "run.json"]


def test_rows_come_back_as_they_went_in(tmp_path):
    rows = [row(0), row(1, keep=False, drop_reason="instruction_empty", instruction="")]
    write(tmp_path, rows)
    table = pq.read_table(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert table.schema.equals(repository.arrow_schema())
    found = table.to_pylist()
    for name in columns.NAMES:
        # As text, since the NaN of a score that does not apply equals nothing.
        assert str([r[name] for r in found]) == str([r[name] for r in rows])


def test_rows_are_split_into_numbered_files_and_stale_ones_go(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 2)
    write(tmp_path, [row(i) for i in range(5)])
    names = sorted(p.name for p in (tmp_path / "data").iterdir())
    assert names == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    (tmp_path / "data" / "mine.parquet").touch()
    write(tmp_path, [row(i) for i in range(2)])
    names = sorted(p.name for p in (tmp_path / "data").iterdir())
    assert names == ["mine.parquet", "train-00000-of-00001.parquet"]


def test_no_rows_still_make_a_readable_file(tmp_path):
    write(tmp_path, [])
    assert pq.read_table(tmp_path / "data" / "train-00000-of-00001.parquet").num_rows == 0


def test_columns_that_no_step_wrote_are_left_out(tmp_path):
    names = columns.written_by("InstructionGenerator")
    write(tmp_path, [columns.empty_row(names)])
    table = pq.read_table(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert table.column_names == names


@pytest.mark.parametrize("content", ["file", "folder"])
def test_other_peoples_folders_are_not_touched(tmp_path, content):
    target = tmp_path / "out"
    if content == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        write(target, [row(0)])


def test_a_write_that_was_killed_halfway_can_be_repeated(tmp_path):
    write(tmp_path, [row(0)])
    (tmp_path / "README.md").unlink()
    (tmp_path / ".run.json.1.tmp").write_text("{")
    (tmp_path / ".removed.tmp").mkdir()
    (tmp_path / ".removed.tmp" / "0").write_text("half of it")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / ".verbs.png.1.tmp").touch()
    (tmp_path / "notes.tmp").touch()
    write(tmp_path, [row(0)])
    assert (tmp_path / "README.md").is_file()
    assert [path.name for path in tmp_path.rglob("*.tmp")] == ["notes.tmp"]


def test_a_failed_write_leaves_no_half_file(tmp_path):
    write(tmp_path, [row(0)])
    before = (tmp_path / "data" / "train-00000-of-00001.parquet").read_bytes()
    with pytest.raises(Exception, match=r"[Ii]nteger|int"):
        write(tmp_path, [row(0, row="no number")])
    assert (tmp_path / "data" / "train-00000-of-00001.parquet").read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_front_matter_says_what_the_hub_needs(tmp_path):
    write(tmp_path, [row(0)], license="cc-by-4.0")
    matter = front_matter((tmp_path / "README.md").read_text())
    assert matter["license"] == "cc-by-4.0"
    assert {"synthetic", "magpie", "distilabel"} <= set(matter["tags"])
    assert matter["size_categories"] == ["n<1K"]
    assert matter["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data/*.parquet"}],
        }
    ]
    (info,) = matter["dataset_info"]
    assert info["config_name"] == "default"
    assert [split["num_examples"] for split in info["splits"]] == [1]
    assert [feature["name"] for feature in info["features"]] == list(columns.NAMES)
    files = list((tmp_path / "data").iterdir())
    assert info["download_size"] == sum(file.stat().st_size for file in files)


def test_run_json_is_complete(tmp_path):
    effort = Effort(
        seconds=2.0,
        cpu_seconds=3.0,
        gpu_seconds=4.0,
        completions=3,
        prompt_tokens=40,
        cached_tokens=10,
        completion_tokens=60,
        retries=1,
        busy_share=0.75,
    )
    engines = [{"model": "m", "busy_share": 0.75}]
    changes = {"effort": effort, "engines": engines, "completions_of_all_runs": 7}
    write(tmp_path, [row(0), row(1)], **changes)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["counts"]["generated"] == 2
    assert content["completions"] == {"generated": 3, "replayed": 0, "all_runs": 7}
    assert content["engines"] == engines
    assert content["effort"] == {
        "seconds": 2.0,
        "cpu_seconds": 3.0,
        "gpu_seconds": 4.0,
        "completions": 3,
        "prompt_tokens": 40,
        "cached_tokens": 10,
        "completion_tokens": 60,
        "retries": 1,
        "busy_share": 0.75,
        "cached_share": 0.25,
        "tokens_per_second": 30.0,
        "cpu_seconds_per_1000_kept_rows": 1500.0,
        "gpu_seconds_per_1000_kept_rows": 2000.0,
    }
    card = (tmp_path / "README.md").read_text()
    for line in (
        "| prompt tokens | 40 (25% cached) |",
        "| engine busy | 75% |",
        "| requests sent again | 1 |",
        "| CPU time per 1,000 kept rows | 25 min 00 s |",
        "| GPU time per 1,000 kept rows | 33 min 20 s |",
        "| speed | 1.0 rows/s, 30 tokens/s |",
    ):
        assert line in card
    assert content["settings"]["seed"] == 0
    assert content["versions"] == {"magpie-steps": "0.1.0"}
    assert content["rows_per_second"] == 1.0
    assert content["pre_query_template"] == "<|bos|>user\n"


# Exports


def test_exports_are_configurations_of_the_kept_rows(tmp_path):
    folder, cache = tmp_path / "out", tmp_path / "cache"
    removed = paired(1, keep=False, drop_reason="engine_error", chosen=[], rejected=[])
    rows = [paired(0), removed, paired(2), row(3)]
    write(folder, rows, exports=("sft", "preference", "kto"))
    assert [found["uuid"] for found in load(folder, None, cache)] == [r["uuid"] for r in rows]
    kept = ("id-0", "id-2", "id-3")
    assert load(folder, "sft", cache) == [
        {"uuid": r["uuid"], "messages": r["messages"]} for r in rows if r["uuid"] in kept
    ]
    names = ("uuid", "prompt", "chosen", "rejected")
    scores = ("chosen_score", "rejected_score", "score_margin")
    wanted = [{name: r[name] for name in (*names, *scores)} for r in (rows[0], rows[2])]
    assert load(folder, "preference", cache) == wanted
    examples = load(folder, "kto", cache)
    assert [(e["uuid"], e["label"]) for e in examples] == [
        ("id-0", True),
        ("id-0", False),
        ("id-2", True),
        ("id-2", False),
    ]
    assert examples[0]["completion"] == rows[0]["chosen"]
    assert examples[1]["completion"] == rows[0]["rejected"]
    assert all(set(e) == {"uuid", "prompt", "completion", "label"} for e in examples)


def test_the_card_lists_the_exports_and_says_how_to_load_them(tmp_path):
    write(tmp_path, [paired(0)], exports=("sft", "kto"))
    text = (tmp_path / "README.md").read_text()
    found = {c["config_name"]: c["data_files"][0]["path"] for c in front_matter(text)["configs"]}
    assert found == {
        "default": "data/*.parquet",
        "sft": "sft/*.parquet",
        "kto": "kto/*.parquet",
    }
    assert next(iter(found)) == "default"
    assert '- `load_dataset(PATH, "kto")`: single answers labelled good or bad' in text
    assert '"preference"' not in text


def test_exports_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    write(tmp_path, [paired(0)], exports=("sft", "preference", "kto"))
    (tmp_path / "kto" / "mine.parquet").touch()
    write(tmp_path, [paired(0)], exports=("sft",))
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet"))
    shard = "train-00000-of-00001.parquet"
    assert files == [f"data/{shard}", "kto/mine.parquet", f"sft/{shard}"]
    assert not (tmp_path / "preference").exists()


def test_sides_of_a_recipe_go_where_none_chooses_any_more(tmp_path):
    """They stayed, and the card listed an earlier run's rows as filtered."""
    rows = [row(0), row(1, keep=False, drop_reason="recipe_quality")]
    write_repository(
        tmp_path, rows, summarise(rows), record(), recipe=RECIPES["pro"], illustrated=False
    )
    assert (tmp_path / "filtered").is_dir()
    write(tmp_path, rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "data", "run.json"]
    configs = front_matter((tmp_path / "README.md").read_text())["configs"]
    assert [each["config_name"] for each in configs] == ["default"]


def test_exports_are_split_into_files_by_their_own_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 2)
    write(tmp_path / "out", [paired(i) for i in range(3)], exports=("kto",))
    names = sorted(p.name for p in (tmp_path / "out" / "kto").iterdir())
    assert names == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert len(load(tmp_path / "out", "kto", tmp_path / "cache")) == 6


def test_an_export_of_no_row_is_left_out_since_nothing_can_open_it(tmp_path):
    write(tmp_path, [paired(0)], exports=("preference",))
    write(tmp_path, [paired(0, chosen=[])], exports=("preference",))
    assert not (tmp_path / "preference").exists()
    configs = front_matter((tmp_path / "README.md").read_text())["configs"]
    assert [each["config_name"] for each in configs] == ["default"]


@pytest.mark.parametrize(
    ("exports", "names", "message"),
    [
        (("dpo",), columns.NAMES, "no export 'dpo'; there are sft, preference, kto, multi_turn"),
        (
            ("kto",),
            ("keep", "drop_reason", "messages"),
            "needs the column 'chosen'.*FormatPreference",
        ),
        (("sft",), ("keep", "drop_reason"), "needs the column 'messages'.*FormatSFT"),
    ],
)
def test_exports_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path, exports, names, message
):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "out", [columns.empty_row(names)], exports=exports)
    assert not (tmp_path / "out").exists()


# Later turns


def test_later_turns_have_columns_up_to_the_longest_conversation(tmp_path):
    first = row(0)["messages"]
    second = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}]
    system = [{"role": "system", "content": "Be brief."}]
    rows = [
        row(0),
        row(1, messages=[*system, *first, *second]),
        row(2, keep=False, drop_reason="engine_error", messages=[]),
        row(3, messages=[*first, *second, *second]),
    ]
    write(tmp_path, rows)
    table = pq.read_table(tmp_path / "data" / "train-00000-of-00001.parquet")
    later = ["instruction_2", "response_2", "instruction_3", "response_3"]
    assert table.column_names == [*columns.NAMES, *later]
    assert [[found[name] for name in later] for found in table.to_pylist()] == [
        ["", "", "", ""],
        ["And?", "So.", "", ""],
        ["", "", "", ""],
        ["And?", "So.", "And?", "So."],
    ]
    text = (tmp_path / "README.md").read_text()
    assert "| `response_3` | `string` | The answer in turn 3," in text
    assert '"instruction_2": ""' in text


def test_single_turns_have_no_columns_of_later_ones(tmp_path):
    write(tmp_path, [row(0)])
    text = (tmp_path / "README.md").read_text()
    assert "`response`" in text
    assert "response_2" not in text


@pytest.mark.parametrize("target", ["out", "nowhere"])
@pytest.mark.parametrize("inside", ["", "inside"])
def test_a_link_that_leads_nowhere_is_refused_before_any_work(tmp_path, target, inside):
    (tmp_path / "out").symlink_to(tmp_path / target)
    with pytest.raises(FileExistsError, match="/out is a link that leads nowhere; remove it"):
        repository.check_folder(tmp_path / "out" / inside)


def test_a_link_to_a_folder_is_one(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there")
    repository.check_folder(tmp_path / "out")
