import copy
import logging
import pickle

import pytest
import recipe_table
from distilabel.pipeline import Pipeline
from pydantic import ValidationError

from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.recipes import RECIPES, recipe_from_dict
from magpie_steps.running import run_pipeline
from magpie_steps.selection import select
from magpie_steps.steps.apply_recipe import ApplyRecipe
from magpie_steps.steps.conversation import ConversationGenerator

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

GOOD = {"kind": "level_at_least", "column": "input_quality", "least": "good"}
MINE = {"name": "mine", "rules": [GOOD], "longest": 2}


def apply(rows, **settings):
    step = ApplyRecipe(name="step", **settings)
    step.load()
    (found,) = list(step.process(rows))
    step.unload()
    return found


@pytest.fixture
def told(monkeypatch):
    """Return what the step logs; distilabel's loggers do not hand it on."""
    lines = []
    logger = logging.getLogger("distilabel.step.step")
    level = logger.level
    logger.setLevel(logging.INFO)
    monkeypatch.setattr(logger, "handle", lines.append)
    yield lines
    logger.setLevel(level)


def texts(lines, level):
    own = [line for line in lines if "received a pipeline" not in line.getMessage()]
    return [line.getMessage() for line in own if line.levelname == level]


@pytest.mark.parametrize("name", RECIPES)
def test_rows_are_marked_as_the_recipe_says_and_none_is_lost(name):
    rows = recipe_table.rows(200)
    before = copy.deepcopy(rows)
    found = apply(rows, recipe=name)
    reasons = select(RECIPES[name], rows).reasons
    # Compared by their text, in which NaN equals NaN.
    expected = [
        {**row, "keep": not reason, "drop_reason": reason}
        for row, reason in zip(rows, reasons, strict=True)
    ]
    assert str(found) == str(expected)
    assert str(rows) == str(before)


def test_the_longest_can_be_another_number():
    rows = [{"input_quality": "good", "response": "x" * n} for n in (1, 3, 2, 3)]
    assert [row["keep"] for row in apply(rows, recipe=MINE)] == [False, True, False, True]
    assert [row["keep"] for row in apply(rows, recipe=MINE, longest=1)] == [
        False,
        True,
        False,
        False,
    ]


def test_dropped_rows_keep_their_reason():
    rows = [
        {"input_quality": "good", "keep": False, "drop_reason": "response_empty"},
        {"input_quality": "good", "keep": False, "drop_reason": ""},
        {"input_quality": "good", "keep": True, "drop_reason": ""},
        {"input_quality": None, "keep": True, "drop_reason": ""},
    ]
    found = apply(rows, recipe=MINE)
    assert [row["drop_reason"] for row in found] == [
        "response_empty",
        "no_instruction",
        "",
        "recipe_quality",
    ]


def test_without_a_column_every_row_fails_and_it_is_told(told):
    rows = [{"response": "a"}, {"response": "b", "keep": True}]
    found = apply(rows, recipe="pro")
    assert [row["drop_reason"] for row in found] == ["recipe_quality"] * 2
    [warning] = texts(told, "WARNING")
    assert "input_quality, min_neighbor_distance, instruct_reward" in warning
    assert "recipe pro" in warning


def test_without_responses_it_is_told_that_none_is_longest(told):
    rows = [{"input_quality": "good"}] * 3
    assert [row["keep"] for row in apply(rows, recipe=MINE)] == [True, True, False]
    [warning] = texts(told, "WARNING")
    assert "no row has a response" in warning


def test_a_recipe_of_ones_own_may_be_an_object():
    recipe = recipe_from_dict(MINE)
    step = ApplyRecipe(name="step", recipe=recipe)
    assert step.recipe == recipe.as_dict()
    assert step.dump() == ApplyRecipe(name="step", recipe=recipe.as_dict()).dump()


def test_the_counts_of_every_rule_are_told(told):
    rows = recipe_table.rows(50)
    apply(rows, recipe="pro-filter2")
    [line] = texts(told, "INFO")
    for name, number in select(RECIPES["pro-filter2"], rows).counts.lines():
        assert name in line
        assert number in line
    assert texts(told, "WARNING") == []


def test_no_rows_and_strange_rows():
    assert apply([]) == []
    strange = [{"input_quality": ["good"], "response": 3, "keep": "no"}, {"input_quality": "good"}]
    found = apply(strange, recipe=MINE)
    assert [row["drop_reason"] for row in found] == ["recipe_quality", ""]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "best"}, "no recipe 'best'; the recipes are air, pro"),
        ({"recipe": {"name": "mine"}}, "lacks 'rules'"),
        ({"recipe": {**MINE, "rules": [{**GOOD, "least": "great"}]}}, "'great' is no quality"),
        ({"longest": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused_when_the_step_is_built(settings, message):
    with pytest.raises(ValidationError, match=message):
        ApplyRecipe(name="step", **settings)


@pytest.mark.parametrize(
    "recipe", [*RECIPES, *(recipe.as_dict() for recipe in RECIPES.values())], ids=lambda _: ""
)
def test_every_recipe_survives_yaml_and_pickling(recipe, tmp_path):
    with Pipeline(name="recipes") as pipeline:
        ApplyRecipe(name="step", recipe=recipe, longest=3)
    pipeline.save(tmp_path / "pipeline.yaml", format="yaml")
    again = Pipeline.from_yaml(tmp_path / "pipeline.yaml").dag.get_step("step")["step"]
    assert again.recipe == recipe
    step = pickle.loads(pickle.dumps(ApplyRecipe(name="step", recipe=recipe)))
    assert step.recipe == recipe


def test_in_a_pipeline_the_longest_are_chosen_among_all_batches(tmp_path):
    with Pipeline(name="recipe") as pipeline:
        ConversationGenerator(
            llm=ScriptedEngine(bad_fraction={"truncated": 0.3}),
            num_rows=23,
            batch_size=5,
            max_attempts=1,
        ) >> ApplyRecipe(recipe={"name": "mine", "rules": []}, longest=4, input_batch_size=7)
    rows = run_pipeline(pipeline, work_dir=tmp_path, expected_rows=23).dataset.to_list()
    assert [row["row"] for row in rows] == list(range(23))
    passing = [row for row in rows if row["drop_reason"] in ("", "recipe_longest")]
    longest = sorted(passing, key=lambda row: (-row["response_length"], row["row"]))[:4]
    assert {row["row"] for row in rows if row["keep"]} == {row["row"] for row in longest}
    assert 4 < len(passing) < 23
