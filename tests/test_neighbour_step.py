"""The neighbour step on plain dicts and in a pipeline, with the default embedding model."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from distilabel.errors import DistilabelUserError

from magpie_steps.neighbours.store import search_remark
from magpie_steps.rules import NotRepeated
from magpie_steps.steps.neighbour_distance import NeighbourDistance

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

TEXTS = [
    "Name a prime number.",
    "Bake me a cake!",
    "Name a prime number",
    "What is the capital of France?",
    "Name a prime number.",
    "Bake me a cake.",
]


@pytest.fixture(scope="module")
def step():
    made = NeighbourDistance(name="step")
    made.load()
    yield made
    made.unload()


def compare(step, rows):
    (found,) = list(step.process(rows))
    return found


def numbered(texts):
    return [{"uuid": f"id-{i}", "instruction": text} for i, text in enumerate(texts)]


def column(rows, name):
    return [row[name] for row in rows]


def test_distances_are_those_of_the_embeddings(step):
    rows = compare(step, numbered(TEXTS))
    unit = step.embedder.embed(TEXTS).astype(float)
    distances = ((unit[:, None] - unit) ** 2).sum(axis=2)
    for i, row in enumerate(rows):
        others = [d for j, d in enumerate(distances[i]) if j != i]
        assert row["min_neighbor_distance"] == pytest.approx(min(others), abs=1e-3)
        assert row["repeat_count"] == sum(d < 0.05 for d in others)
        near = [j for j, d in enumerate(distances[i]) if d < 0.05]
        assert row["min_similar_uuid"] == (f"id-{min(near)}" if len(near) > 1 else "")
    assert column(rows, "repeat_count")[0] == 1
    assert rows[4]["min_neighbor_distance"] == 0
    assert rows[3]["min_similar_uuid"] == ""


def test_rows_pass_unchanged_but_for_the_columns(step):
    rows = [{**row, "other": [i]} for i, row in enumerate(numbered(TEXTS))]
    before = copy.deepcopy(rows)
    found = compare(step, rows)
    assert rows == before
    for row, old in zip(found, before, strict=True):
        assert list(row) == [*old, *step.outputs]
        assert {name: row[name] for name in old} == old
        assert list(map(type, (row[name] for name in step.outputs))) == [float, int, str]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": TEXTS[0], "keep": False, "drop_reason": "instruction_empty"},
        {"instruction": None},
        {"instruction": ""},
        {"instruction": " \n"},
        {"instruction": 5},
        {"instruction": [TEXTS[0]]},
        {"instruction": float("nan")},
        {},
    ],
)
def test_rows_that_are_not_compared_are_empty_and_no_neighbours(step, row):
    before, bad, after = compare(step, [*numbered(TEXTS[:1]), row, {"instruction": TEXTS[1]}])
    assert math.isnan(bad["min_neighbor_distance"])
    assert (bad["repeat_count"], bad["min_similar_uuid"]) == (0, "")
    assert all(bad[name] is value for name, value in row.items())
    assert before["min_neighbor_distance"] == after["min_neighbor_distance"] > 0.05
    assert (before["repeat_count"], after["repeat_count"]) == (0, 0)


def test_dropped_rows_are_not_embedded(step):
    read = step.embedder.texts_read
    compare(step, [{"instruction": "A new text.", "keep": False, "drop_reason": "x"}])
    assert step.embedder.texts_read == read


@pytest.mark.parametrize("uuid", [None, "", 7, "absent"])
def test_a_row_without_an_id_goes_by_its_position(step, uuid):
    row = {"instruction": TEXTS[0], "uuid": uuid}
    if uuid == "absent":
        del row["uuid"]
    found = compare(step, [{"instruction": ""}, row, {"instruction": TEXTS[0], "uuid": "b"}])
    # Of rows without an id the one that stands for others is told from them by having none.
    assert column(found, "min_similar_uuid") == ["", "", "1"]
    kept = [not NotRepeated().fails({"uuid": "", **each}) for each in found]
    assert kept == [True, True, False]


def test_no_rows_one_row_two_rows(step):
    assert compare(step, []) == []
    (one,) = compare(step, numbered(TEXTS[:1]))
    assert one["min_neighbor_distance"] == 4
    assert (one["repeat_count"], one["min_similar_uuid"]) == (0, "")
    two = compare(step, numbered(TEXTS[:1] * 2))
    assert column(two, "min_neighbor_distance") == [0, 0]
    assert column(two, "min_similar_uuid") == ["id-0", "id-0"]


def test_many_identical_rows(step):
    read = step.embedder.texts_read
    rows = compare(step, numbered(["The same."] * 300))
    assert step.embedder.texts_read == read + 1
    assert set(column(rows, "repeat_count")) == {299}
    assert set(column(rows, "min_similar_uuid")) == {"id-0"}
    assert set(column(rows, "min_neighbor_distance")) == {0}


def test_modes_differ_on_a_chain(step, monkeypatch):
    """One near two near three, one not near three."""
    import numpy as np

    angles = {"one": 0.0, "two": 0.2, "three": 0.4, "far": 2.0}
    vectors = {
        text: np.array([math.cos(a), math.sin(a), *[0.0] * 382]) for text, a in angles.items()
    }
    monkeypatch.setattr(
        type(step.embedder), "embed", lambda self, texts: np.array([vectors[t] for t in texts])
    )
    rows = numbered(["one", "two", "three", "far"])
    assert column(compare(step, rows), "min_similar_uuid") == ["id-0", "id-0", "id-1", ""]
    monkeypatch.setattr(step, "mode", "cluster")
    assert column(compare(step, rows), "min_similar_uuid") == ["id-0", "id-0", "id-0", ""]


def test_a_folder_makes_the_second_run_cheap(tmp_path):
    folder = tmp_path / "made" / "for it"
    settings = {"name": "s", "store_dir": str(folder)}
    first = NeighbourDistance(**settings)
    first.load()
    compare(first, numbered(TEXTS[:4]))
    first.unload()
    second = NeighbourDistance(**settings)
    second.load()
    again = compare(second, numbered([*TEXTS, "Something new?"]))
    assert second.embedder.texts_read == 2
    second.unload()
    fresh = NeighbourDistance(name="f")
    fresh.load()
    for one, other in zip(again, compare(fresh, numbered([*TEXTS, "Something new?"])), strict=True):
        distances = one.pop("min_neighbor_distance"), other.pop("min_neighbor_distance")
        assert distances[0] == pytest.approx(distances[1], abs=1e-3)
        assert one == other


def test_without_a_folder_nothing_stays(step, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    compare(step, numbered(TEXTS))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    step = NeighbourDistance(name="s", store_dir=str(tmp_path / "file" / "folder"))
    with pytest.raises(DistilabelUserError, match=r"store_dir is .*file/folder.*may write"):
        step.load()


def test_above_a_size_the_recall_is_logged(tmp_path, caplog):
    step = NeighbourDistance(name="s", approximate_above=3)
    step.load()
    step._logger.propagate = True
    with caplog.at_level("INFO"):
        rows = compare(step, numbered(TEXTS))
    step.unload()
    assert rows[4]["min_neighbor_distance"] == 0
    assert "approximate search: of 5 rows it found the nearest of" in caplog.text


def test_a_card_can_say_how_the_search_was_done(tmp_path):
    rows = numbered([f"Instruction number {n} about {n % 7}" for n in range(40)])
    assert search_remark(tmp_path) == ""
    exact = NeighbourDistance(name="s", store_dir=str(tmp_path))
    exact.load()
    compare(exact, rows)
    exact.unload()
    assert search_remark(tmp_path) == ""
    by_index = NeighbourDistance(name="s", store_dir=str(tmp_path), approximate_above=3)
    by_index.load()
    compare(by_index, rows)
    by_index.unload()
    assert "of a sample of 40 rows it found the nearest" in search_remark(tmp_path)
    (tmp_path / "search.json").write_text("{")
    assert search_remark(tmp_path) == ""


def test_processing_before_loading_is_a_clear_error():
    with pytest.raises(RuntimeError, match="call load"):
        next(NeighbourDistance(name="s").process([]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.0},
        {"threshold": -1},
        {"threshold": float("inf")},
        {"threshold": float("nan")},
        {"mode": "first"},
        {"approximate_above": 0},
        {"store_dir": 5},
        {"embedder": {"typo": 1}},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NeighbourDistance(name="s", **wrong)


def test_the_embedder_may_be_a_dict_and_changes_the_signature():
    step = NeighbourDistance(name="s", embedder={"batch_size": 3, "prefix": "query: "})
    assert step.embedder.batch_size == 3
    assert NeighbourDistance.from_dict(step.dump()).embedder == step.embedder
    settings = [
        {},
        {"mode": "cluster"},
        {"threshold": 0.1},
        {"approximate_above": 7},
        {"embedder": {"prefix": "query: "}},
    ]
    assert len({NeighbourDistance(name="s", **each).signature for each in settings}) == 5


PIPELINE = """
import json, sys
from distilabel.pipeline import Pipeline
from magpie_steps import ConversationGenerator, NeighbourDistance, ScriptedEngine, run_pipeline

with Pipeline(name="neighbours") as pipeline:
    ConversationGenerator(
        llm=ScriptedEngine(bad_fraction={"truncated": 0.3}),
        num_rows=24,
        batch_size=10,
        max_attempts=1,
    ) >> NeighbourDistance()
rows = run_pipeline(pipeline, work_dir=sys.argv[1], expected_rows=24).dataset.to_list()
print(json.dumps(rows))
"""


def test_every_row_of_a_generator_comes_out_with_its_neighbours(step, tmp_path):
    """In a process of its own: torch's threads here would not be there in a forked step."""
    done = subprocess.run(
        [sys.executable, "-c", PIPELINE, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["row"] for row in rows] == list(range(24))
    assert 2 < sum(row["keep"] for row in rows) < 24
    plain = [{name: row[name] for name in row if name not in step.outputs} for row in rows]
    for row, alone in zip(rows, compare(step, plain), strict=True):
        assert row["min_neighbor_distance"] == pytest.approx(
            alone["min_neighbor_distance"], abs=1e-3, nan_ok=True
        )
        assert row["repeat_count"] == alone["repeat_count"]
        assert row["min_similar_uuid"] == alone["min_similar_uuid"]
        assert math.isnan(row["min_neighbor_distance"]) is not row["keep"]
