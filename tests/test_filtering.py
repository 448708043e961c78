"""Recipes on parquet files: the same decisions as on rows, and every row goes somewhere whole."""

import math
import os
import re
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recipe_table
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps import shards
from magpie_steps.filtering import decisions, files, filter_files
from magpie_steps.filtering.decisions import decide
from magpie_steps.filtering.masks import fulfilled
from magpie_steps.filtering.origins import computed
from magpie_steps.recipes import RECIPES, Recipe, Share
from magpie_steps.row_schemas import Origin
from magpie_steps.rules import (
    FewerNewlines,
    IsTrue,
    LevelAtLeast,
    NotEndingWith,
    NotRepeated,
    NumberAbove,
    NumberAtLeast,
    OneOf,
)
from magpie_steps.selection import select

TEXT = pa.string()
TYPES = {
    "instruct_reward": pa.float64(),
    "reward_difference": pa.float64(),
    "min_neighbor_distance": pa.float64(),
    "safe": pa.bool_(),
    "keep": pa.bool_(),
    "response_length": pa.int64(),
}
ALL_LONG = Recipe("all", (), longest=2)


def table(rows):
    names = list(rows[0])
    schema = pa.schema([(name, TYPES.get(name, TEXT)) for name in names])
    return pa.Table.from_pylist(rows, schema=schema)


def write(folder, *tables, **options):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.parquet" for number in range(len(tables))]
    for path, each in zip(paths, tables, strict=True):
        pq.write_table(each, path, **options)
    return paths


def read(folder):
    names = sorted(path.name for path in folder.glob("*"))
    assert names == [f"train-{n:05d}-of-{len(names):05d}.parquet" for n in range(len(names))]
    return pa.concat_tables([pq.read_table(folder / name) for name in names])


def reasons_of(found):
    return [found.reasons[code] for code in found.codes]


# The same decisions as row by row

LEVELS = st.sampled_from([*recipe_table.DIFFICULTIES, *recipe_table.QUALITIES, "", "Hard", None])
NUMBERS = st.one_of(
    st.none(),
    st.sampled_from([-12.0, -10.0, 0.0, -0.0]),
    st.floats(width=32),
    st.floats(),
)
TEXTS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.text(alphabet=":\n\t \u3000\u2028\x1c\x85\u200bé", max_size=12),
)
IDS = st.sampled_from(["", "a", "b", None])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "uuid": IDS,
            "min_similar_uuid": IDS,
            "instruction": TEXTS,
            "task_category": st.sampled_from(["Coding & Debugging", "Math", "", None]),
            "difficulty": LEVELS,
            "input_quality": LEVELS,
            "instruct_reward": NUMBERS,
            "language": st.sampled_from(["EN", "en", "", None]),
            "safe": st.sampled_from([True, False, None]),
        }
    ),
    min_size=1,
    max_size=20,
)
RULES = [
    *(LevelAtLeast("difficulty", level) for level in recipe_table.DIFFICULTIES),
    *(LevelAtLeast("input_quality", level) for level in recipe_table.QUALITIES),
    NumberAbove("instruct_reward", -12),
    NumberAtLeast("instruct_reward", -12),
    NumberAtLeast("instruct_reward", 0),
    NotRepeated(),
    NotEndingWith(),
    NotEndingWith("é"),
    FewerNewlines(2),
    FewerNewlines(2, ""),
    OneOf("language", ("EN", "ZH")),
    IsTrue("safe"),
]


@given(ROWS)
def test_rules_decide_the_same_on_columns_as_on_rows(rows):
    columns = table(rows)
    arrays = {name: columns.column(name).combine_chunks() for name in columns.column_names}
    for rule in RULES:
        passing = fulfilled(rule, arrays).tolist()
        assert passing == [not rule.fails(row) for row in rows], rule


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary("int8", TEXT)])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_texts_may_be_of_any_arrow_type(rule, kind):
    rows = recipe_table.rows(100, seed=2)
    columns = table(rows)
    arrays = {
        name: columns.column(name).combine_chunks().cast(kind)
        if columns.schema.field(name).type == TEXT
        else columns.column(name).combine_chunks()
        for name in columns.column_names
    }
    assert fulfilled(rule, arrays).tolist() == [not rule.fails(row) for row in rows]


@pytest.mark.parametrize("values", [[None] * 3, [1, 2, None], ["1", "2", None], [[1], [], None]])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text)
def test_columns_of_a_wrong_type_fail_as_their_values_do(rule, values):
    rows = [dict.fromkeys(rule.columns, value) for value in values]
    arrays = dict.fromkeys(rule.columns, pa.array(values))
    assert fulfilled(rule, arrays).tolist() == [not rule.fails(row) for row in rows]


@pytest.mark.parametrize("longest", [None, 50])
@pytest.mark.parametrize("name", RECIPES)
def test_files_are_decided_as_rows_are(name, longest, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BATCH_ROWS", 64)
    recipe = RECIPES[name]
    recipe = recipe if recipe.longest is None else recipe.with_longest(longest)
    rows = recipe_table.rows(1_000, seed=1)
    paths = write(tmp_path / "rows", table(rows[:300]), table(rows[300:]), row_group_size=100)
    found = decide(paths, recipe)
    expected = select(recipe, rows)
    assert reasons_of(found) == expected.reasons
    assert found.counts == expected.counts


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["EN", "ZH", ""])), min_size=1),
    st.integers(1, 9),
)
def test_the_longest_of_shares_are_those_of_rows(tmp_path_factory, given_rows, longest):
    shares = (Share(OneOf("language", ("EN",)), 0.4), Share(OneOf("language", ("ZH",)), 0.3))
    recipe = Recipe("mine", (), longest=longest, shares=shares)
    rows = [
        {"instruction": "a", "response": "b", "response_length": n, "language": language}
        for n, language in given_rows
    ]
    paths = write(tmp_path_factory.mktemp("rows"), table(rows))
    assert reasons_of(decide(paths, recipe)) == select(recipe, rows).reasons


# Files


def nested(number, start=0):
    """Return rows with columns that no recipe reads, of every shape."""
    return pa.table(
        {
            "uuid": [f"id-{i}" for i in range(start, start + number)],
            "instruction": [f"Ask {i}" for i in range(start, start + number)],
            "response": ["x" * (i % 50) for i in range(start, start + number)],
            "messages": [[{"role": "user", "content": "é" * (i % 3)}] for i in range(number)],
            "vector": pa.array([[0.5, math.nan]] * number, pa.list_(pa.float32(), 2)),
            "settings": [{"temperature": 1.0, "seed": None}] * number,
            "scores": pa.array([None, []][: min(2, number)] + [[1.5]] * (number - 2)),
        }
    ).replace_schema_metadata({"huggingface": "{}"})


def test_every_row_goes_somewhere_with_all_its_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 30)
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 60)
    monkeypatch.setattr(files, "BATCH_ROWS", 17)
    before = nested(400)
    paths = write(tmp_path / "rows", before.slice(0, 150), before.slice(150))
    counts = filter_files(paths, ALL_LONG.with_longest(130), tmp_path / "out")
    kept, removed = read(tmp_path / "out/filtered"), read(tmp_path / "out/removed")
    assert (counts.read, counts.kept, counts.removed) == (400, 130, {"recipe_longest": 270})
    assert kept.schema.equals(pq.read_schema(paths[0]), check_metadata=True)
    assert removed.schema.names == [*before.schema.names, "drop_reason"]
    expected = sorted(range(400), key=lambda i: (-(i % 50), i))[:130]
    stays = np.isin(np.arange(400), expected)
    # Compared by their text, in which NaN equals NaN.
    assert str(kept.to_pylist()) == str(before.filter(pa.array(stays)).to_pylist())
    gone = removed.drop_columns("drop_reason")
    assert str(gone.to_pylist()) == str(before.filter(pa.array(~stays)).to_pylist())
    assert set(removed.column("drop_reason").to_pylist()) == {"recipe_longest"}
    sizes = [pq.read_metadata(p).num_rows for p in sorted((tmp_path / "out/filtered").glob("*"))]
    assert sizes == [60, 60, 10]


@pytest.mark.parametrize("longest", [5, 9])
def test_a_side_without_rows_has_no_file_as_none_could_be_opened(tmp_path, longest):
    paths = write(tmp_path / "rows", nested(5))
    filter_files(paths, ALL_LONG.with_longest(longest), tmp_path)
    assert len(read(tmp_path / "filtered")) == 5
    assert not (tmp_path / "removed").exists()
    filter_files(paths, Recipe("none", (OneOf("uuid", ("x",)),)), tmp_path)
    assert len(read(tmp_path / "removed")) == 5
    assert not (tmp_path / "filtered").exists()


def test_a_dataset_without_rows(tmp_path):
    paths = write(tmp_path / "rows", nested(5).slice(0, 0))
    counts = filter_files(paths, ALL_LONG, tmp_path)
    assert (counts.read, counts.kept, counts.removed) == (0, 0, {})
    assert not (tmp_path / "filtered").exists()
    assert not (tmp_path / "removed").exists()


def test_a_later_run_replaces_the_files_and_a_failed_one_does_not(tmp_path, monkeypatch):
    paths = write(tmp_path / "rows", nested(40))
    monkeypatch.setattr(shards, "ROWS_PER_FILE", 10)
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 10)
    filter_files(paths, ALL_LONG.with_longest(30), tmp_path)
    filter_files(paths, ALL_LONG.with_longest(20), tmp_path)
    assert len(read(tmp_path / "filtered")) == len(read(tmp_path / "removed")) == 20
    whole = paths[0].read_bytes()
    monkeypatch.setattr(files, "BATCH_ROWS", 8)
    decided = decide(paths, ALL_LONG)
    damage(paths[0], whole)
    monkeypatch.setattr("magpie_steps.filtering.decide", lambda *_: decided)
    with pytest.raises(OSError, match=r".+"):
        filter_files(paths, ALL_LONG, tmp_path)
    assert len(read(tmp_path / "filtered")) == len(read(tmp_path / "removed")) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filtered", "removed", "rows"]


def damage(path, content):
    """Break a file's pages and leave its footer."""
    path.write_bytes(b"PAR1" + b"\xff" * 1_000 + content[1_004:])


def test_no_parquet_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("instruction,response")
    with pytest.raises(ValueError, match=r"a\.parquet is no parquet file"):
        decide([path], ALL_LONG)


def test_a_file_whose_name_is_not_utf_8_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the path '.*x\\udcff\.parquet' is not UTF-8"):
        decide([tmp_path / os.fsdecode(b"x\xff.parquet")], ALL_LONG)


def test_files_with_other_columns_are_refused(tmp_path):
    paths = write(tmp_path, nested(5), nested(5).drop_columns("vector"))
    with pytest.raises(ValueError, match=r"1\.parquet and .*0\.parquet differ in the columns vec"):
        decide(paths, ALL_LONG)


def test_rows_may_be_large(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BATCH_BYTES", 10_000)
    rows = [{"instruction": "a", "response": "xyz" * (400 + i)} for i in range(50)]
    paths = write(tmp_path, table(rows), use_dictionary=False, compression="none")
    sizes = [len(batch) for batch in files.batches(paths)]
    assert sum(sizes) == 50
    assert max(sizes) < 10
    assert len(next(iter(files.batches(paths, ["instruction"])))) == 50
    filter_files(paths, ALL_LONG, tmp_path)
    assert len(read(tmp_path / "filtered")) == 2


# Schemas


def test_our_rows_that_are_dropped_already_stay_so(tmp_path):
    marks = [
        (True, ""),
        (False, "response_empty"),
        (False, ""),
        (False, None),
        (None, None),
        (True, ""),
        (False, "recipe_quality"),
    ]
    rows = [
        {
            "instruction": f"Ask {i}",
            "input_quality": "poor" if i == 5 else "good",
            "response_length": i % 6,
            "keep": keep,
            "drop_reason": reason,
        }
        for i, (keep, reason) in enumerate(marks)
    ]
    recipe = Recipe("mine", (LevelAtLeast("input_quality", "good"),), longest=1)
    paths = write(tmp_path / "rows", table(rows))
    counts = filter_files(paths, recipe, tmp_path)
    expected = [
        "recipe_longest",
        "response_empty",
        "no_instruction",
        "no_instruction",
        "",
        "recipe_quality",
        "recipe_longest",  # removed by another recipe, so decided anew
    ]
    assert reasons_of(decide(paths, recipe)) == select(recipe, rows).reasons == expected
    assert counts.fails == {"quality": 1}
    assert counts.removed == Counter(reason for reason in expected if reason)
    removed = read(tmp_path / "removed").to_pylist()
    assert [row["drop_reason"] for row in removed] == [reason for reason in expected if reason]
    assert {row["keep"] for row in removed} == {False}
    assert list(removed[0]) == list(rows[0])
    assert read(tmp_path / "filtered").to_pylist() == [{**rows[4], "keep": True, "drop_reason": ""}]


def test_numbers_of_any_kind_are_compared_and_texts_are_refused(tmp_path):
    recipe = Recipe("mine", (NumberAbove("instruct_reward", 1.5),))
    texts = {"instruction": ["a", "b"], "response": ["c", "d"]}
    rewards = {
        "decimal": pa.array([Decimal("1.5"), Decimal("2.5")]),
        "whole": pa.array([1, 2]),
        "half": pa.array([1.5, 2.5], pa.float32()),
    }
    for name, reward in rewards.items():
        data = pa.table({**texts, "instruct_reward": reward})
        counts = filter_files(write(tmp_path / name, data), recipe, tmp_path / "out")
        assert counts.kept == 1, name
    data = pa.table({**texts, "instruct_reward": ["1", "2"]})
    with pytest.raises(ValueError, match=r"compares instruct_reward, but .* holds string"):
        filter_files(write(tmp_path / "texts", data), recipe, tmp_path / "out")


def test_what_another_recipe_removed_is_decided_anew(tmp_path):
    rows = [
        {"instruction": "Ask", "input_quality": "good", "keep": keep, "drop_reason": reason}
        for keep, reason in ((False, "recipe_reward"), (True, ""), (False, "response_empty"))
    ]
    recipe = Recipe("mine", (LevelAtLeast("input_quality", "good"),))
    paths = write(tmp_path / "rows", table(rows))
    counts = filter_files(paths, recipe, tmp_path)
    assert select(recipe, rows).reasons == ["", "", "response_empty"]
    assert (counts.kept, counts.removed) == (2, {"response_empty": 1})
    kept = read(tmp_path / "filtered").to_pylist()
    assert [(row["keep"], row["drop_reason"]) for row in kept] == [(True, ""), (True, "")]


@pytest.mark.parametrize("kind", [pa.null(), pa.string(), pa.bool_()])
def test_marks_without_a_value_mark_nothing(tmp_path, kind):
    keep = pa.nulls(2, kind)
    data = pa.table({"instruction": ["a", "b"], "keep": keep, "drop_reason": pa.nulls(2)})
    recipe = Recipe("none", (OneOf("instruction", ("b",)),))
    counts = filter_files(write(tmp_path / "rows", data), recipe, tmp_path)
    assert counts.removed == {"recipe_instruction": 1}
    assert read(tmp_path / "removed").column("drop_reason").to_pylist() == ["recipe_instruction"]
    assert read(tmp_path / "filtered").schema.field("keep").type == kind


def test_the_first_llama_3_datasets(tmp_path):
    rows = [
        ("Ask", "good", "a", None, "Yes"),
        ("Ask:", "good", "b", None, "Yes, yes"),
        ("Ask?", "good", "c", "a", "Yes, yes"),
        ("Ask!", None, "d", "d", "Yes, yes"),
    ]
    names = ("input", "input_quality", "uuid", "min_similar_uuid", "output")
    data = table([{**dict(zip(names, row, strict=True)), "instruct_reward": -10} for row in rows])
    found = decide(write(tmp_path, data), RECIPES["pro-card"])
    assert reasons_of(found) == ["", "recipe_incomplete", "recipe_repeated", "recipe_quality"]


def test_the_repositorys_own_columns(tmp_path):
    rows = [
        {
            "instruction": "Ask",
            "response": "Yes",
            "input_quality": "good",
            "conversation_id": "b",
            "min_similar_conversation_id": similar,
            "instruct_reward": -9.0,
            "llama_guard_2": guard,
        }
        for similar, guard in ((None, "safe"), ("b", "\n\nsafe\n"), ("a", "unsafe\nS1"), ("", None))
    ]
    paths = write(tmp_path, table(rows))
    found = decide(paths, RECIPES["notebook"])
    assert reasons_of(found) == ["", "", "recipe_repeated", ""]
    found = decide(paths, Recipe("safe", (IsTrue("safe"),)))
    assert reasons_of(found) == ["", "", "recipe_safe", "recipe_safe"]


def ultra(number=6):
    """Return rows of Magpie Ultra: 1 and 3 repeat each other, 4 is near 5, row 5 is bad."""
    near = {1: (3, 0.99), 3: (1, 0.99), 4: (5, 0.98), 5: (4, 0.98)}
    scores = [[near.get(i, (0, 0.5))[1], 0.4] for i in range(number)]
    return pa.table(
        {
            "instruction": [f"Ask {i}" for i in range(number)],
            "quality": ["good", "excellent", "average", "excellent", "good", "good"][:number],
            "difficulty": ["easy", "hard", "hard", "very easy", "very hard", "medium"][:number],
            "score": [0.1] * number,
            "safe": [True, True, True, True, True, False][:number],
            "nn_scores": scores,
            "nn_indices": [[near.get(i, (0, 0.5))[0], 0] for i in range(number)],
            "conversation": [
                [
                    {"role": "user", "content": "long " * 50},
                    {"role": "assistant", "content": "é" * i},
                    {"role": "user", "content": "more"},
                    {"role": "assistant", "content": "é"},
                ]
                for i in range(number)
            ],
        }
    )


def test_ultra_compares_levels_by_rank_and_keeps_one_of_those_that_repeat(tmp_path, monkeypatch):
    """Its own filter compared texts: it kept poor, dropped excellent, and both of each repeat."""
    monkeypatch.setattr(files, "BATCH_ROWS", 4)
    paths = write(tmp_path / "rows", ultra().slice(0, 2), ultra().slice(2))
    found = decide(paths, RECIPES["ultra"])
    expected = ["", "", "recipe_quality", "recipe_repeated", "", "recipe_safe"]
    assert reasons_of(found) == expected
    found = decide(paths, RECIPES["ultra"].with_longest(1))
    assert reasons_of(found)[:2] == ["recipe_longest"] * 2
    assert reasons_of(found)[4] == ""


def compute(how, *columns, first_row=0):
    names = [f"c{number}" for number in range(len(columns))]
    batch = pa.RecordBatch.from_arrays([*columns, pa.array(range(len(columns[0])))], [*names, "n"])
    origins = {"x": Origin(tuple(names), how)}
    return computed(origins, batch, first_row)["x"].to_pylist()


def test_distances_come_from_the_nearest_cosine():
    cosines = pa.array([[1.0, 0.5], [0.975], [], None, [None, 0.9], [math.nan]])
    found = compute("distance", cosines)
    assert found[:2] == pytest.approx([0.0, 0.05])
    assert all(math.isnan(each) for each in found[2:])
    assert all(math.isnan(each) for each in compute("distance", pa.array(["a", "b"])))
    for kind in (pa.list_(pa.float32(), 1), pa.large_list(pa.float64())):
        found = compute("distance", pa.array([[0.5], [1.0]], kind))
        assert found == [1.0, 0.0]


def test_the_earliest_near_row_counts_over_batches():
    cosines = pa.array([[0.99, 0.98], [0.99], [0.9749], [], None, [None]])
    indices = pa.array([[9, 3], [500], [1], [], None, [1]])
    found = compute("earliest_near", cosines, indices, first_row=100)
    assert found == ["3", "101", "", "", "", ""]
    with pytest.raises(ValueError, match="not equally long"):
        compute("earliest_near", cosines, pa.array([[1]] * 6))


def test_lengths_of_texts_and_of_answers():
    assert compute("characters", pa.array(["é€𝄞", "", None])) == [3, 0, 0]
    said = [{"role": "assistant", "content": "é€"}, {"role": "user", "content": "x"}]
    conversations = pa.array([said, [], None, [*said, *said], [{"role": None, "content": None}]])
    assert compute("answer_characters", conversations) == [2, 0, 0, 4, 0]
    assert compute("answer_characters", pa.array([[1], [2]])) == [0, 0]


def test_missing_columns_are_named_with_the_recipes_that_would_work(tmp_path):
    data = table([{"instruction": "a", "response": "b", "instruct_reward": 1.0}])
    data = data.append_column("min_neighbor_distance", pa.array([0.5]))
    paths = write(tmp_path, data)
    with pytest.raises(ValueError, match="the recipe air needs columns") as caught:
        decide(paths, RECIPES["air"])
    message = str(caught.value)
    assert "input_quality (read from input_quality)" in message
    assert "reward_difference" in message
    assert message.endswith("the recipes that it has all columns for: pro-filter3")
    assert "min_neighbor_distance" not in message
    without = RECIPES["air"].without("input_quality", "difficulty", "reward_difference")
    assert reasons_of(decide(paths, without)) == [""]


def test_a_recipe_that_reads_nothing_keeps_everything(tmp_path):
    paths = write(tmp_path, nested(7))
    found = decide(paths, Recipe("everything", ()))
    assert found.counts.kept == 7
    assert decisions.origins_for(Recipe("everything", ()), files, nested(1).schema.names) == {}


WRONG_TEXTS = {
    "list": pa.array([["a"], ["b"]]),
    "int": pa.array([1, 2]),
    "binary": pa.array([b"a", b"b"]),
    "struct": pa.array([{"a": "b"}, {"a": "c"}]),
}


@pytest.mark.parametrize("kind", WRONG_TEXTS)
@pytest.mark.parametrize("column", ["instruction", "response"])
def test_instructions_and_responses_that_are_no_texts_are_refused(column, kind):
    array = WRONG_TEXTS[kind]
    batch = pa.record_batch({column: array})
    said = f"the column {column} holds {array.type}, not texts; give"
    with pytest.raises(ValueError, match=re.escape(said)):
        computed({column: Origin((column,))}, batch, 0)


def test_two_columns_of_one_name_are_refused(tmp_path):
    array = pa.array(["a"])
    twice = pa.Table.from_arrays([array, array], ["instruction", "instruction"])
    with pytest.raises(ValueError, match=r"parquet has several columns 'instruction'; leave one"):
        files.schema_of_files(write(tmp_path, twice))
