"""Which files of a dataset are read, and which never are."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import constants

from magpie_steps.sources import located, parquet_files

DEFAULT = {"config_name": "default", "data_files": "rows/*.parquet"}
OTHER = {"config_name": "other", "data_files": "other/*.parquet"}


def put(folder, *places):
    for place in places:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"a": [1]}), path)
    return folder


def tell(folder, *configs):
    (folder / "README.md").write_text(
        f"---\n{yaml.safe_dump({'configs': [*configs]})}---\n# Card\n"
    )


def found(folder):
    return [path.relative_to(folder).as_posix() for path in parquet_files(folder)]


# Without a card


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["data/b.parquet", "data/a.parquet", "c.parquet"], ["data/a.parquet", "data/b.parquet"]),
        (["c.parquet", "filtered/a.parquet", "sft/b.parquet"], ["c.parquet"]),
        (["filtered/a.parquet", "removed/b.parquet"], ["filtered/a.parquet"]),
        (["y/z/b.parquet", "x/a.parquet", ".c/d.parquet"], ["x/a.parquet", "y/z/b.parquet"]),
    ],
)
def test_a_folder_without_a_card_has_its_files_in_the_usual_place(tmp_path, places, expected):
    assert found(put(tmp_path, *places)) == expected


def test_a_file_is_itself_and_no_file_is_an_error(tmp_path):
    path = put(tmp_path, "a.parquet") / "a.parquet"
    assert parquet_files(path) == [path]
    with pytest.raises(FileNotFoundError, match="has no parquet files"):
        parquet_files(put(tmp_path / "x", ".hidden/a.parquet"))


# With a card


@pytest.mark.parametrize(
    "configs",
    [
        [OTHER, DEFAULT],
        [{**OTHER, "config_name": "default"}, {**DEFAULT, "config_name": "x", "default": True}],
        [{**DEFAULT, "config_name": "x"}],
    ],
    ids=["by name", "marked", "the only one"],
)
def test_the_cards_default_configuration_is_read(tmp_path, configs):
    tell(put(tmp_path, "rows/a.parquet", "other/b.parquet", "data/c.parquet"), *configs)
    assert found(tmp_path) == ["rows/a.parquet"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"data_files": "rows/b.parquet"}, ["rows/b.parquet"]),
        ({"data_files": "./rows/b.parquet"}, ["rows/b.parquet"]),
        ({"data_files": ["rows/b.parquet", "rows/a*"]}, ["rows/b.parquet", "rows/a.parquet"]),
        ({"data_files": ["rows/b*", "rows/*"]}, ["rows/b.parquet", "rows/a.parquet"]),
        (
            {
                "data_files": [
                    {"split": "train", "path": "rows/b*"},
                    {"split": "test", "path": ["rows/a*", "other/*"]},
                ]
            },
            ["rows/b.parquet", "rows/a.parquet", "other/c.parquet"],
        ),
        ({"data_files": "rows/**"}, ["rows/a.parquet", "rows/b.parquet", "rows/deep/d.parquet"]),
        ({"data_files": "rows/**.parquet"}, ["rows/a.parquet", "rows/b.parquet"]),
        ({"data_dir": "other"}, ["other/c.parquet"]),
        ({"data_dir": "rows/", "data_files": "b*"}, ["rows/b.parquet"]),
    ],
)
def test_files_are_named_as_datasets_takes_them(tmp_path, config, expected):
    put(tmp_path, "rows/b.parquet", "rows/a.parquet", "other/c.parquet", "rows/deep/d.parquet")
    (tmp_path / "rows" / "a.txt").touch()
    tell(tmp_path, {"config_name": "default", **config})
    assert found(tmp_path) == expected


@pytest.mark.parametrize(
    "configs",
    [
        [],
        [OTHER, {**OTHER, "config_name": "third"}],
        [{**DEFAULT, "data_files": "nowhere/*.parquet"}],
        [{**DEFAULT, "data_files": "rows/*.json"}],
        [{**DEFAULT, "data_files": None}],
        [{**DEFAULT, "data_files": [1, None, {"split": "train"}, ""]}],
        [{**DEFAULT, "data_files": "rows\0/*"}],
        [{"config_name": "default"}, 7],
        ["default", None],
    ],
)
def test_a_card_that_names_no_file_leaves_the_usual_ones(tmp_path, configs):
    tell(put(tmp_path, "data/a.parquet", "rows/b.parquet", "other/c.parquet"), *configs)
    assert found(tmp_path) == ["data/a.parquet"]


@pytest.mark.parametrize("text", ["", "# No front matter\n", "---\nconfigs: 7\n---\n", "---\n"])
def test_a_card_without_configurations_leaves_the_usual_files(tmp_path, text):
    (put(tmp_path, "data/a.parquet") / "README.md").write_text(text)
    assert found(tmp_path) == ["data/a.parquet"]


@pytest.mark.parametrize(
    "named",
    [
        {"data_files": "../secret/*.parquet"},
        {"data_files": "rows/../../secret/*.parquet"},
        {"data_files": ["rows/*.parquet", {"split": "test", "path": "../secret/b.parquet"}]},
        {"data_files": "ROOT/secret/*.parquet"},
        {"data_dir": "../secret"},
        {"data_dir": "ROOT/secret"},
        {"data_files": "hf://datasets/a/b/c.parquet"},
        {"data_files": "https://example.com/c.parquet"},
    ],
)
def test_a_card_that_names_files_elsewhere_is_refused(tmp_path, named):
    put(tmp_path, "secret/b.parquet", "in/rows/a.parquet")
    text = yaml.safe_dump({"configs": [{"config_name": "default", **named}]})
    matter = text.replace("ROOT", str(tmp_path))
    (tmp_path / "in" / "README.md").write_text(f"---\n{matter}---\n")
    with pytest.raises(ValueError, match=r"README\.md names .* which is not in that folder"):
        parquet_files(tmp_path / "in")


def test_a_link_that_leads_out_is_not_followed_for_a_card(tmp_path):
    put(tmp_path, "secret/b.parquet", "in/rows/a.parquet")
    os.symlink(tmp_path / "secret", tmp_path / "in" / "link")
    tell(tmp_path / "in", {**DEFAULT, "data_files": "link/*.parquet"})
    assert found(tmp_path / "in") == ["rows/a.parquet"]


def test_files_that_are_links_are_read_as_in_the_hubs_cache(tmp_path):
    put(tmp_path, "blobs/1.parquet")
    (tmp_path / "snapshot" / "rows").mkdir(parents=True)
    os.symlink(tmp_path / "blobs/1.parquet", tmp_path / "snapshot/rows/a.parquet")
    tell(tmp_path / "snapshot", DEFAULT)
    assert found(tmp_path / "snapshot") == ["rows/a.parquet"]


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (b"---\nconfigs: [\n---\n", "not valid YAML"),
        (b"---\n- a\n- b\n---\n", "not valid YAML"),
        (b"---\na: " + b"[" * 5000 + b"\n---\n", "not valid YAML"),
        (b"---\nlicense: \xff\n---\n", "is not UTF-8"),
    ],
)
def test_a_card_that_cannot_be_read_is_named(tmp_path, card, said):
    (put(tmp_path, "data/a.parquet") / "README.md").write_bytes(card)
    with pytest.raises(ValueError, match=rf"README\.md .*{said}") as caught:
        parquet_files(tmp_path)
    assert "\n" not in str(caught.value)


# Where a dataset is


@pytest.mark.parametrize("given", ["./x", "../x", "x", "~/x", "/nowhere/at/all", "a/b/c", ".a/b"])
def test_what_is_no_hub_id_is_looked_for_here_alone(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*; give a parquet file, a folder"):
        located(given)


@pytest.mark.parametrize("given", ["a/b--c", "a/b..c", "a-/b", "a/" + "b" * 200])
def test_an_id_that_the_hub_does_not_take_is_no_dataset(given):
    with pytest.raises(FileNotFoundError, match="from the Hub it cannot be fetched"):
        located(given)


def test_a_password_in_the_hubs_address_is_not_shown(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://me:pa55@hub.example")
    with pytest.raises(ValueError, match="HF_ENDPOINT has a name or a password") as caught:
        located("a/b")
    assert "pa55" not in str(caught.value)
