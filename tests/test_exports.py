"""Which rows become which examples, all exports in one pass."""

import pyarrow.parquet as pq
import pytest

from magpie_steps import columns
from magpie_steps.exports import EXPORTS, OTHERS, SIDES, open_exports, use_of


def said(*texts, system=""):
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [*([{"role": "system", "content": system}] if system else []), *turns]


def row(number, messages, **changes):
    return {
        **columns.empty_row(),
        "uuid": f"id-{number}",
        "messages": messages,
        "keep": True,
        **changes,
    }


def write(folder, rows, names):
    with open_exports(folder, names) as add:
        for each in rows:
            add(each)


def read(folder):
    return pq.read_table(folder).to_pylist()


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        (said("A?", "B.", "C?", "D."), 2),
        (said("A?", "B.", "C?", "D.", "E?", "F.", system="Be brief."), 3),
        (said("A?", "B.", "C?", "D.", "E?"), 2),
        (said("A?", "B.", "C?", "D.", "E?", system="Be brief."), 2),
    ],
)
def test_multi_turn_has_conversations_of_two_finished_turns_or_more(tmp_path, messages, turns):
    write(tmp_path, [row(0, messages)], ["multi_turn"])
    finished = messages[:-1] if messages[-1]["role"] == "user" else messages
    expected = {"uuid": "id-0", "messages": finished, "turns": turns}
    assert read(tmp_path / "multi_turn") == [expected]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        None,
        "A?",
        said("A?"),
        said("A?", "B."),
        said("A?", "B.", "C?"),
        said("A?", "B.", "C?", ""),
        said("A?", "", "C?", "D."),
        said("A?", "B.", "C?", None),
        said("A?", "B.", "C?", "D.")[1:],
        [*said("A?", "B."), *said("A?", "B.", system="late")],
        [{"role": "tool", "content": "x"}, *said("A?", "B.", "C?", "D.")],
        [{"role": "user"}],
    ],
)
def test_multi_turn_has_no_other_conversation(tmp_path, messages):
    write(tmp_path, [row(0, messages)], ["multi_turn"])
    assert not (tmp_path / "multi_turn").exists()


def test_rows_are_gone_through_once_for_all_exports(tmp_path):
    pair = {"prompt": said("A?"), "chosen": said("", "B.")[1:], "rejected": said("", "C.")[1:]}
    rows = [
        row(0, said("A?", "B."), **pair),
        row(1, said("A?", "B.", "C?", "D.")),
        row(2, said("A?", "B.", "C?", "D."), keep=False, **pair),
    ]
    write(tmp_path, iter(rows), list(EXPORTS))
    ids = {name: [each["uuid"] for each in read(tmp_path / name)] for name in EXPORTS}
    assert ids == {
        "sft": ["id-0", "id-1"],
        "preference": ["id-0"],
        "kto": ["id-0", "id-0"],
        "multi_turn": ["id-1"],
    }
    assert pq.read_schema(next((tmp_path / "multi_turn").iterdir())).names == [
        "uuid",
        "messages",
        "turns",
    ]


def test_an_error_leaves_the_exports_of_an_earlier_run(tmp_path):
    rows = [row(i, said("A?", "B.", "C?", "D.")) for i in range(3)]
    write(tmp_path, rows, ["sft", "multi_turn"])
    with pytest.raises(KeyError):
        write(tmp_path, [rows[0], {}], ["sft"])
    assert len(read(tmp_path / "sft")) == len(read(tmp_path / "multi_turn")) == 3
    write(tmp_path, rows[:1], ["sft"])
    assert len(read(tmp_path / "sft")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sft"]


def test_every_configuration_has_a_use():
    assert set(OTHERS) == {*SIDES, *EXPORTS, "embeddings", "reviewed", "reviewed_preference"}
    assert all(use_of(name) for name in ("default", *OTHERS))
