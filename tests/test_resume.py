import json

import pytest

from magpie_steps import __version__
from magpie_steps.resume import FILE, RELEASE, claim, differing


def test_same_settings_go_on(tmp_path):
    assert claim(tmp_path / "work", {"seed": 1, "model": "m"}) is False
    assert claim(tmp_path / "work", {"model": "m", "seed": 1}) is True


def test_tuples_count_as_lists(tmp_path):
    claim(tmp_path, {"stops": ("a", "b")})
    assert claim(tmp_path, {"stops": ("a", "b")}) is True


def test_other_settings_are_refused_by_name(tmp_path):
    claim(tmp_path, {"seed": 1, "model": "m"})
    with pytest.raises(ValueError, match="seed was 1 and is now 2; give those settings"):
        claim(tmp_path, {"seed": 2, "model": "m"})


def test_a_new_setting_counts_as_a_difference():
    assert differing({}, {"seed": 2}) == ["seed was None and is now 2"]


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_a_broken_file_is_refused_not_overwritten(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match="unreadable"):
        claim(tmp_path, {"seed": 1})
    assert (tmp_path / FILE).read_text() == content


def test_a_folder_of_another_release_is_refused(tmp_path):
    """Its rows came of other code; half of a dataset would be of each."""
    claim(tmp_path, {"seed": 1})
    content = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**content, RELEASE: "0.0.1"}))
    with pytest.raises(ValueError, match=f"magpie-steps was '0.0.1' and is now '{__version__}'"):
        claim(tmp_path, {"seed": 1})


def dataset(folder, **settings):
    content = {"settings": {**settings, "num_rows": 9}, "versions": {RELEASE: __version__}}
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def test_a_dataset_of_other_settings_is_not_replaced_though_its_work_folder_is_gone(tmp_path):
    output = dataset(tmp_path / "out", seed=1, model="m")
    with pytest.raises(ValueError, match=r"/out belongs to .*: seed was 1 and is now 2; give"):
        claim(tmp_path / "work", {"seed": 2, "model": "m"}, output)
    assert not (tmp_path / "work").exists()
    assert claim(tmp_path / "work", {"seed": 1, "model": "m"}, output) is False


@pytest.mark.parametrize("content", ["", "[]", "{", '{"settings": 1, "versions": []}', "{}"])
def test_a_dataset_that_does_not_say_its_settings_is_not_replaced(tmp_path, content):
    output = dataset(tmp_path / "out", seed=1)
    (output / "run.json").write_text(content)
    with pytest.raises(ValueError, match="seed was None and is now 1"):
        claim(tmp_path / "work", {"seed": 1}, output)


def test_what_a_killed_claim_left_is_removed(tmp_path):
    (tmp_path / f".{FILE}.123.tmp").write_text("{")
    claim(tmp_path, {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
