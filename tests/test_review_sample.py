"""Which rows are reviewed."""

import tracemalloc
from collections import Counter
from math import inf, nan

import pytest
from review_rows import review_row, write_dataset

from magpie_steps.review.rows import Rows, run_record
from magpie_steps.review.sample import Plan, choose, shares, uncertainty
from magpie_steps.review.vectors import Vectors


def rows(number):
    return [review_row(n) for n in range(number)]


def numbers(chosen):
    return sorted(int(uuid.replace("-", ""), 16) - 1 for uuid in chosen.uuids)


@pytest.mark.parametrize(
    ("size", "share", "kept", "removed"),
    [
        (100, 0.2, 80, 20),
        (100, 0.0, 100, 0),
        (100, 1.0, 0, 100),
        (10, 0.01, 9, 1),
        (1, 0.2, 0, 1),
        (500, 0.5, 300, 200),
        (5000, 0.2, 800, 200),
        (1000, 0.0, 800, 0),
    ],
)
def test_both_sides_are_there_and_fill_up_for_each_other(size, share, kept, removed):
    found = numbers(choose(rows(1000), Plan(size, removed_share=share)))
    assert sum(n % 5 != 0 for n in found) == kept
    assert sum(n % 5 == 0 for n in found) == removed


def test_each_stratum_has_its_share_to_within_one_row():
    everything = rows(3000)
    found = set(numbers(choose(everything, Plan(300, removed_share=0.2))))
    size, drawn = Counter(), Counter()
    for row in everything:
        stratum = row["keep"], row["task_category"], row["difficulty"]
        size[stratum] += 1
        drawn[stratum] += row["row"] in found
    for (keep, *rest), there in size.items():
        side, total = (2400, 240) if keep else (600, 60)
        assert abs(drawn[(keep, *rest)] - total * there / side) < 1


def test_a_sample_depends_on_seed_and_rows_but_not_on_their_order():
    everything = rows(500)
    first = choose(everything, Plan(50, seed=1))
    assert choose(everything[::-1], Plan(50, seed=1)) == first
    assert choose(everything, Plan(50, seed=2)).uuids != first.uuids
    assert len(first.uuids) == 50


def test_the_unsure_come_first_when_asked_for():
    same = {"keep": True, "task_category": "", "difficulty": "", "instruct_reward": 50.0}
    sure = [review_row(n, **same, reward_difference=9.0) for n in range(1000)]
    near = {"instruct_reward": -12.0, "reward_difference": 0.1}
    unsure = [review_row(n, **{**same, **near}) for n in range(1000, 1020)]
    plan = Plan(40, removed_share=0.0, uncertain=0.5, threshold=-12.0)
    found = set(numbers(choose([*sure, *unsure], plan)))
    assert set(range(1000, 1020)) <= found
    assert len(found) == 40
    without = set(numbers(choose([*sure, *unsure], Plan(40, removed_share=0.0))))
    assert len(without & set(range(1000, 1020))) < 10


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({}, 0.0),
        ({"instruct_reward": -12.0}, 1.0),
        ({"instruct_reward": -11.0}, 0.5),
        ({"reward_difference": 0.0}, 1.0),
        ({"reward_difference": -3.0}, 0.25),
        ({"reward_difference": nan, "instruct_reward": inf}, 0.0),
        ({"language_score": 0.4}, 0.6),
        ({"tag_failures": [{"tag": "difficulty"}]}, 1.0),
        ({"other_task_category": ["Math"]}, 0.5),
        ({"input_quality": "poor"}, 1.0),
        ({"input_quality": "excellent"}, 0.0),
        ({"keep": False, "drop_reason": "recipe_reward", "input_quality": "good"}, 1.0),
        ({"keep": False, "drop_reason": "engine_error", "input_quality": "good"}, 0.0),
        ({"input_quality": "no level"}, 0.0),
    ],
)
def test_doubts(changes, doubt):
    assert uncertainty({"keep": True, **changes}, -12.0) == pytest.approx(doubt)


def test_rows_that_cannot_be_in_a_sample_are_counted():
    odd = [
        review_row(1, uuid=""),
        {"uuid": None},
        {**review_row(2), "has_text": False},
        review_row(3),
        review_row(3),
    ]
    found = choose(odd, Plan(9))
    assert numbers(found) == [3]
    assert (found.rows, found.left_out) == (5, {"no_uuid": 2, "no_text": 1})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 0}, "has 0 rows; give at least 1"),
        ({"removed_share": 1.5}, "removed_share is 1.5; give a part between 0 and 1"),
        ({"uncertain": -0.1}, "uncertain is -0.1"),
        ({"uncertain": nan}, "uncertain is nan"),
    ],
)
def test_plans_that_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        Plan(**{"rows": 1, **changes})


def test_shares():
    assert shares(10, {"a": 9, "b": 9, "c": 9}) == {"a": 4, "b": 3, "c": 3}
    assert shares(10, {"a": 1, "b": 1}) == {"a": 1, "b": 1}
    assert shares(10, {"a": 2, "b": 0}) == {"a": 2}
    assert shares(0, {"a": 2}) == {"a": 0}
    assert shares(3, {}) == {}
    assert sum(shares(97, {n: n * n for n in range(40)}).values()) == 97


def test_a_large_dataset_is_not_held_in_memory():
    light = ({"uuid": f"id-{n}", "keep": n % 3 > 0} for n in range(50_000))
    tracemalloc.start()
    found = choose(light, Plan(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.uuids) == 100
    assert peak < 1_000_000


def test_rows_are_read_from_a_run_and_from_a_filtered_dataset(tmp_path):
    run = write_dataset(tmp_path / "run", rows(10))
    found = Rows(run)
    light = list(found.for_choice())
    assert [row["uuid"] for row in light] == [row["uuid"] for row in rows(10)]
    assert "response" not in light[0]
    assert all(row["has_text"] for row in light)
    uuids = {review_row(n)["uuid"] for n in (2, 7)}
    assert [row["row"] for row in found.chosen(uuids)] == [2, 7]
    assert run_record(run)["recipe"]["name"] == "test"
    filtered = tmp_path / "filtered-run"
    for side in ("filtered", "removed", "reviewed"):
        filtered.mkdir(exist_ok=True)
        (run / "data").rename(filtered / side) if side == "filtered" else None
    assert len(list(Rows(filtered).for_choice())) == 10


def test_texts_are_looked_for_wherever_a_row_has_them(tmp_path):
    blank = {"instruction": "", "messages": [], "response": ""}
    odd = [review_row(1, **blank), review_row(2, **blank, instruction_raw="raw"), review_row(3)]
    light = Rows(write_dataset(tmp_path, odd)).for_choice()
    assert [row["has_text"] for row in light] == [False, True, True]


@pytest.mark.parametrize("made", ["nothing", "empty", "other"])
def test_a_folder_without_rows_is_one_clear_line(tmp_path, made):
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "run"
    if made != "nothing":
        folder.mkdir()
    if made == "other":
        pq.write_table(pa.table({"a": [1]}), folder / "a.parquet")
    with pytest.raises((FileNotFoundError, ValueError), match="; give") as raised:
        Rows(folder)
    assert "\n" not in str(raised.value)


def test_vectors_are_those_that_the_dataset_brings(tmp_path):
    folder = write_dataset(tmp_path, rows(5))
    wanted = [review_row(1), review_row(4)]
    found = Vectors(folder, {row["uuid"] for row in wanted})
    assert found.dimensions == 4
    vectors = found.of([*wanted, review_row(2)])
    assert vectors[0] == pytest.approx([1.0, 1 / 7, 1 / 3, 0.5])
    assert vectors[2] == []
    assert Vectors(tmp_path / "none", set()).dimensions == 384
