import pytest

from magpie_steps.resume import FILE, claim, differing


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


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_file_is_refused_not_overwritten(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match="unreadable"):
        claim(tmp_path, {"seed": 1})
    assert (tmp_path / FILE).read_text() == content
