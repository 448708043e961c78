"""What a pull writes, what it refuses to replace and how long it stays, without a server."""

import json
from contextlib import nullcontext

import pytest
from review_rows import review_row, write_dataset

from magpie_steps.card.record import RunRecord
from magpie_steps.effort import Effort
from magpie_steps.repository import write_repository
from magpie_steps.review import pull as pulling
from magpie_steps.review.pull import pull
from magpie_steps.review.records import shown
from magpie_steps.shards import shard_files
from magpie_steps.summary import summarise


class Records:
    """The records of a dataset, as a server tells them."""

    def __init__(self, rows, drop=()):
        self._items = [_item(row, "drop" if row["row"] in drop else "keep") for row in rows]

    def records(self, include):
        return iter(self._items)

    def count(self):
        return len(self._items)


def _item(row, keep):
    seen = shown(row)
    answer = {
        "user_id": "p",
        "status": "submitted",
        "values": {
            "human_keep": {"value": keep},
            "human_ranking": {"value": [{"value": "A", "rank": 1}, {"value": "B", "rank": 2}]},
        },
    }
    return {
        "external_id": row["uuid"],
        "fields": {"conversation": list(seen.conversation), "answers": seen.answers},
        "metadata": {"answer_order": seen.order},
        "responses": [answer],
    }


@pytest.fixture
def told(monkeypatch):
    """Let the datasets of a server be those of this dict."""
    found = {}
    monkeypatch.setattr(pulling, "Server", lambda *_: nullcontext())
    monkeypatch.setattr(pulling, "open_dataset", lambda server, name, workspace: found[name])
    return found


def rows(*numbers):
    return [review_row(n) for n in numbers]


def state(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_later_pull_of_the_same_dataset_replaces_an_earlier_one(told, tmp_path):
    folder = write_dataset(tmp_path, rows(1, 2, 3))
    told["a"] = Records(rows(1, 2))
    assert pull(folder, "a").review["rows"] == 2
    told["a"] = Records(rows(1))
    assert pull(folder, "a").review["rows"] == 1


def test_verdicts_of_another_dataset_are_not_replaced_unless_they_are_deleted(told, tmp_path):
    folder = write_dataset(tmp_path, rows(1, 2, 3))
    told.update(a=Records(rows(1, 2)), b=Records(rows(3)))
    pull(folder, "a")
    before = state(folder)
    with pytest.raises(ValueError, match=r"verdicts of the dataset 'a', not of 'b'") as raised:
        pull(folder, "b")
    assert str(raised.value).endswith(f"or delete {folder / 'review.json'} to replace them")
    assert state(folder) == before
    (folder / "review.json").unlink()
    assert pull(folder, "b").review["rows"] == 1


@pytest.mark.parametrize("others", [(), (7, 8)])
def test_verdicts_are_not_replaced_by_none(told, tmp_path, others):
    folder = write_dataset(tmp_path, rows(1, 2, 3))
    told["a"] = Records(rows(1, 2))
    pull(folder, "a")
    before = state(folder)
    told["a"] = Records(rows(*others))
    words = f"none of the {len(others)} records with verdicts is about a row of"
    with pytest.raises(ValueError, match=words) as raised:
        pull(folder, "a")
    assert "nothing was changed" in str(raised.value)
    assert str(raised.value).isprintable()
    assert state(folder) == before
    (folder / "review.json").unlink()
    assert pull(folder, "a").review["rows"] == 0
    assert not (folder / "reviewed").exists()


def test_where_nobody_judged_yet_nothing_is_refused(told, tmp_path):
    folder = write_dataset(tmp_path, rows(1, 2, 3))
    told.update(a=Records([]), b=Records(rows(3)))
    assert pull(folder, "a").review["rows"] == 0
    assert pull(folder, "a").review["rows"] == 0
    assert pull(folder, "b").review["rows"] == 1


def test_a_review_that_is_no_json_is_one_clear_line(told, tmp_path):
    folder = write_dataset(tmp_path, rows(1))
    told["a"] = Records(rows(1))
    (folder / "review.json").write_text("{")
    with pytest.raises(ValueError, match=r"review.json is no JSON.*; delete it and pull again"):
        pull(folder, "a")


def written(folder, found):
    record = RunRecord(
        title="t", model="m", settings={"seed": 0}, template="", effort=Effort(seconds=1.0)
    )
    write_repository(folder, found, summarise(found), record, illustrated=False)


CHANGED = [review_row(1), review_row(2, base_response="Else.")]


@pytest.mark.parametrize(
    ("later", "stays"),
    [
        (rows(1, 2, 3), True),
        (rows(3, 2, 1, 4, 5), True),
        ([review_row(1, keep=False), review_row(2, model="n")], True),
        (rows(1, 3), False),
        (rows(8, 9), False),
        (CHANGED, False),
    ],
)
def test_a_review_stays_where_its_rows_are_written_anew(told, tmp_path, later, stays):
    folder = tmp_path / "run"
    written(folder, rows(1, 2, 3))
    told["a"] = Records(rows(1, 2))
    pull(folder, "a")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Human review" in card
    assert shard_files(folder / "reviewed_preference")
    before = {
        p: text for p, text in state(folder).items() if "review" in str(p.relative_to(folder))
    }
    written(folder, later)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert ("## Human review" in card) is ("config_name: reviewed\n" in card) is stays
    names = {path.name for path in folder.iterdir() if "review" in path.name}
    assert names == ({"review.json", "reviewed", "reviewed_preference"} if stays else set())
    if stays:
        assert all(path.read_bytes() == text for path, text in before.items())
        assert json.loads((folder / "review.json").read_text())["rows"] == 2
