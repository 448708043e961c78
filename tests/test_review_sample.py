"""Which rows are reviewed."""

import random
import tracemalloc
from collections import Counter
from dataclasses import replace
from math import inf, nan
from statistics import median

import pytest
from review_rows import review_row, write_dataset

from magpie_steps.review.records import record
from magpie_steps.review.rows import Rows, run_record, system_prompts
from magpie_steps.review.sample import Plan, choose, doubts, shares
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


def normal_rows(number, bound):
    """Rows with rewards of N(0, 3) and doubts of every kind, in one stratum."""
    chance = random.Random(3)
    return [
        {
            "uuid": f"id-{n}",
            "keep": True,
            "instruct_reward": chance.gauss(bound, 3),
            "reward_difference": chance.gauss(0, 3),
            "language_score": chance.betavariate(9, 1),
            "tag_failures": ["difficulty"] * (chance.random() < 0.1),
            "other_task_category": ["Math"] * (chance.random() < 0.5),
            "input_quality": chance.choice(["poor", "good", "excellent"]),
        }
        for n in range(number)
    ]


@pytest.mark.parametrize("bound", [0.0, -12.0])
@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_half_of_the_unsure_are_those_next_to_the_bound_in_whatever_unit(bound, unit):
    """Whatever else is doubtful, and however far apart rewards are."""
    everything = normal_rows(2000, bound)
    for row in everything:
        row["instruct_reward"] = (row["instruct_reward"] - bound) * unit + bound
    nearest = sorted(everything, key=lambda row: abs(row["instruct_reward"] - bound))[:50]
    plan = Plan(100, removed_share=0.0, uncertain=1.0, threshold=bound)
    found = choose(everything, plan).uuids
    assert {row["uuid"] for row in nearest} <= found
    assert len(found) == 100
    far = {row["uuid"]: abs(row["instruct_reward"] - bound) / unit for row in everything}
    # Of a normal distribution with a deviation of 3, half are nearer than 2.02.
    assert median(far[uuid] for uuid in found) < 0.3
    by_chance = choose(everything, Plan(100, removed_share=0.0, threshold=bound)).uuids
    assert median(far[uuid] for uuid in by_chance) == pytest.approx(2.02, abs=0.7)


def test_the_other_half_is_of_every_kind_of_doubt():
    everything = normal_rows(2000, 0.0)
    found = choose(everything, Plan(100, removed_share=0.0, uncertain=1.0, threshold=0.0)).uuids
    margins = sorted(everything, key=lambda row: abs(row["reward_difference"]))
    languages = sorted(everything, key=lambda row: row["language_score"])
    assert {row["uuid"] for row in margins[:9]} <= found
    assert {row["uuid"] for row in languages[:9]} <= found
    drawn = [row for row in everything if row["uuid"] in found]
    assert sum(bool(row["tag_failures"]) for row in drawn) >= 10


def test_a_kind_of_doubt_that_runs_out_leaves_its_places_to_others():
    sure = [{"uuid": f"id-{n}", "language_score": 1.0} for n in range(500)]
    unsure = [{"uuid": f"odd-{n}", "tag_failures": ["quality"]} for n in range(30)]
    near = [{"uuid": f"near-{n}", "instruct_reward": -12.0 + n} for n in range(3)]
    plan = Plan(40, removed_share=0.0, uncertain=0.5, threshold=-12.0)
    found = choose([*sure, *unsure, *near], plan).uuids
    assert len(found) == 40
    assert {"near-0", "near-1", "near-2"} <= found
    assert sum(uuid.startswith("odd-") for uuid in found) >= 17
    without = choose([*sure, *unsure, *near], replace(plan, uncertain=0.0)).uuids
    assert sum(not uuid.startswith("id-") for uuid in without) < 10


def test_an_unsure_sample_depends_on_seed_and_rows_but_not_on_their_order():
    everything = normal_rows(300, 0.0)
    plan = Plan(50, uncertain=1.0, threshold=0.0)
    first = choose(everything, plan)
    assert choose(everything[::-1], plan) == first
    assert choose(everything, replace(plan, seed=1)).uuids != first.uuids
    assert len(choose(everything, replace(plan, rows=300)).uuids) == 300


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"instruct_reward": -12.0}, {"reward_near_bound": 0.0}),
        ({"instruct_reward": -11.5}, {"reward_near_bound": -0.5}),
        ({"reward_difference": 0.0}, {"small_margin": 0.0}),
        ({"reward_difference": -3}, {"small_margin": -3.0}),
        ({"reward_difference": nan, "instruct_reward": inf}, {}),
        ({"language_score": 0.4}, {"unclear_language": 0.6}),
        ({"language_score": 1.0}, {}),
        ({"tag_failures": [{"tag": "difficulty"}]}, {"missing_label": 1.0}),
        ({"other_task_category": ["Math"]}, {"several_categories": 1.0}),
        ({"input_quality": "poor"}, {"contradicted_quality": 1.0}),
        ({"input_quality": "excellent"}, {}),
        (
            {"keep": False, "drop_reason": "recipe_reward", "input_quality": "good"},
            {"contradicted_quality": 1.0},
        ),
        ({"keep": False, "drop_reason": "engine_error", "input_quality": "good"}, {}),
        ({"input_quality": "no level"}, {}),
    ],
)
def test_doubts(changes, found):
    assert doubts({"keep": True, **changes}, -12.0) == pytest.approx(found)


def test_without_a_bound_no_reward_is_near_it():
    assert doubts({"instruct_reward": 0.0}) == {}


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
    assert found.without == 0
    assert Vectors(tmp_path / "none", set()).dimensions == 384


def test_embeddings_that_cannot_be_sent_are_left_out_and_counted(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0, 0.0], [nan, 1.0], None, [0.0, 0.0], [], [None, 1]]
    folder = tmp_path / "embeddings"
    folder.mkdir()
    uuids = [f"u{n}" for n in range(len(vectors))]
    pq.write_table(pa.table({"uuid": uuids, "embedding": vectors}), folder / "a.parquet")
    found = Vectors(tmp_path, {*uuids, "gone"})
    assert found.dimensions == 2
    assert found.of([{"uuid": uuid} for uuid in uuids]) == [[1.0, 0.0], [0.5, 0.5], *([[]] * 6)]
    assert found.without == 7


def test_embeddings_without_their_columns_are_one_clear_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "embeddings").mkdir()
    pq.write_table(pa.table({"uuid": ["a"]}), tmp_path / "embeddings" / "a.parquet")
    with pytest.raises(ValueError, match=r"have no column embedding but uuid; let the run"):
        Vectors(tmp_path, {"a"})


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("instruction", ["Hi"], ": string>, not text; write it as string"),
        ("instruction", {"text": "Hi"}, "struct<text: string>, not text"),
        ("instruction", b"Hi", "binary, not text"),
        ("instruction_raw", 3, "int64, not text"),
        ("drop_reason", 3, "int64, not text"),
        ("uuid", 7, "int64, not text"),
        ("keep", "false", "string, not true or false; write it as bool"),
        ("keep", 0, "int64, not true or false"),
    ],
)
def test_columns_of_another_kind_are_one_clear_line(tmp_path, column, value, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"uuid": "a", "instruction": "Hi", "keep": True, column: value}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=f"the column {column} in .* holds") as raised:
        Rows(tmp_path)
    assert kind in str(raised.value)


def test_columns_of_foreign_files_are_read_as_what_they_are(tmp_path):
    """Large strings, words in a dictionary and columns without any value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "uuid": pa.array(["a", "b"], pa.large_string()),
            "instruction": pa.array(["Hi", ""]).dictionary_encode(),
            "keep": pa.nulls(2),
            "drop_reason": pa.nulls(2),
            "difficulty": [["easy"], []],
            "instruct_reward": ["high", "low"],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = Rows(tmp_path)
    light = list(found.for_choice())
    assert [row["has_text"] for row in light] == [True, False]
    chosen = choose(light, Plan(5, uncertain=1.0, threshold=0.0))
    assert chosen.uuids == {"a"}
    (row,) = found.chosen(chosen.uuids)
    assert record(row, 0, 0).fields["conversation"][0]["role"] == "user"


def test_system_prompts_are_the_packages_own_and_those_of_the_run():
    own = system_prompts({})
    assert own["math"]
    used = {"math": {"weight": 1.0, "text": "Sums."}, "odd": "x", "mine": {"text": "Mine."}}
    assert system_prompts({"system_prompts": used}) == {**own, "math": "Sums.", "mine": "Mine."}
    assert system_prompts({"system_prompts": {"math": {"text": None}}}) == own
    assert system_prompts({"system_prompts": ["math"]}) == own
