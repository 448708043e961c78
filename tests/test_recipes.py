import json

import pytest
import recipe_table
import yaml

from magpie_steps import reasons
from magpie_steps.recipes import RECIPES, Recipe, Share, recipe_from_dict, recipe_named
from magpie_steps.rules import IsTrue, LevelAtLeast, NumberAbove, NumberAtLeast, OneOf

ENGLISH = {"kind": "one_of", "column": "language", "values": ["EN"]}
MINE = {
    "name": "mine",
    "rules": [{"kind": "is_true", "column": "safe"}],
    "longest": 10,
    "shares": [{"rule": ENGLISH, "share": 0.25}],
}
TABLE_5 = {
    "air": "input_quality is at least good, difficulty is at least medium,"
    " min_neighbor_distance > 0, reward_difference > 0, the 300,000 longest responses",
    "pro": "input_quality is at least average, min_neighbor_distance > 0, instruct_reward > -12,"
    " the 300,000 longest responses",
    "pro-filter2": "input_quality is at least good, difficulty is at least easy,"
    " min_neighbor_distance > 0, instruct_reward > -12, the 300,000 longest responses",
    "pro-filter3": "min_neighbor_distance > 0, instruct_reward > -12,"
    " the 300,000 longest responses",
    "pro-filter4": "input_quality is at least good, difficulty is at least easy,"
    " min_neighbor_distance > 0, reward_difference > 0, the 300,000 longest responses",
    "pro-filter5": "input_quality is at least good, difficulty is at least easy,"
    " min_neighbor_distance > 0, instruct_reward > -12",
    "pro-filter6": "difficulty is at least easy, min_neighbor_distance > 0, instruct_reward > -12,"
    " the 200,000 longest responses, 50% of them where difficulty is easy,"
    " 50% of them where difficulty is at least medium",
}


@pytest.mark.parametrize("name", TABLE_5)
def test_the_papers_recipes_demand_what_table_5_says(name):
    assert ", ".join(RECIPES[name].demands()) == TABLE_5[name]
    assert "Table 5" in RECIPES[name].source


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_survive_as_dicts_in_yaml_and_json(recipe):
    text = yaml.safe_dump(recipe.as_dict())
    assert recipe_from_dict(yaml.safe_load(text)) == recipe
    assert recipe_from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert recipe.source
    assert recipe.name == next(name for name, each in RECIPES.items() if each is recipe)


def test_paper_and_cards_disagree_and_both_are_there():
    row = {**recipe_table.rows(1)[0], "instruct_reward": -11.0, "input_quality": "good"}
    row |= {"min_similar_uuid": "", "instruction": "Hi?", "min_neighbor_distance": 0.5}
    assert RECIPES["pro"].drop_reason(row) == ""
    assert RECIPES["pro-card"].drop_reason(row) == "recipe_reward"
    at_the_bound = {**row, "instruct_reward": -10.0}
    assert RECIPES["pro-card"].drop_reason(at_the_bound) == ""
    assert RECIPES["notebook"].drop_reason(at_the_bound) == "recipe_reward"


def test_the_drop_reason_is_the_first_failing_rule_and_all_are_listed():
    recipe = RECIPES["pro-filter2"]
    row = {"input_quality": "poor", "difficulty": "easy", "min_neighbor_distance": 0.0}
    assert recipe.failing(row) == ["quality", "distance", "reward"]
    assert recipe.drop_reason(row) == reasons.recipe_reason("quality")
    good = {**row, "input_quality": "good", "min_neighbor_distance": 1e-9, "instruct_reward": 0}
    assert recipe.failing(good) == []
    assert recipe.drop_reason(good) == ""


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_first_failing_and_failing_agree(recipe):
    for row in recipe_table.rows(300, seed=4):
        failing = recipe.failing(row)
        expected = reasons.recipe_reason(failing[0]) if failing else ""
        assert recipe.drop_reason(row) == expected


def test_columns_and_leaving_some_out():
    pro = RECIPES["pro-filter6"]
    assert pro.columns == ("difficulty", "min_neighbor_distance", "instruct_reward")
    without = pro.without("instruct_reward", "difficulty")
    assert without.columns == ("min_neighbor_distance",)
    assert without.shares == ()
    assert without.longest == 200_000
    assert pro.without() == pro
    card = RECIPES["llama-3.1-pro-500k"]
    assert "newlines" not in [rule.name for rule in card.without("task_category").rules]
    with pytest.raises(ValueError, match="no column 'reward'"):
        pro.without("reward")


def test_quotas_add_up_to_the_longest():
    assert RECIPES["pro-filter6"].quotas() == [100_000, 100_000]
    assert RECIPES["pro"].quotas() == [300_000]
    assert RECIPES["pro-filter5"].quotas() == []
    thirds = tuple(Share(OneOf("language", (word,)), 1 / 3) for word in ("EN", "ZH", "FR"))
    for longest in range(1, 50):
        quotas = Recipe("mine", (), longest=longest, shares=thirds).quotas()
        assert sum(quotas) == longest
        assert max(quotas) - min(quotas) <= 1


def test_parts_are_the_first_share_that_fits():
    recipe = RECIPES["pro-filter6"]
    parts = [recipe.part({"difficulty": level}) for level in recipe_table.DIFFICULTIES]
    assert parts == [-1, 0, 1, 1, 1]
    assert recipe.part({}) == -1
    assert RECIPES["pro"].part({}) == 0


def test_a_recipe_of_ones_own():
    recipe = recipe_from_dict(MINE)
    assert recipe == Recipe(
        "mine", (IsTrue("safe"),), longest=10, shares=(Share(OneOf("language", ("EN",)), 0.25),)
    )
    assert recipe.with_longest(3).longest == 3
    assert recipe.with_longest(None) is recipe
    assert recipe_from_dict({"name": "all", "rules": []}).failing({}) == []


def test_names_that_do_not_exist_are_listed():
    assert recipe_named("air") is RECIPES["air"]
    with pytest.raises(ValueError, match=r"no recipe 'Air'.*air, pro, pro-filter2.*ultra"):
        recipe_named("Air")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": None}, "rules are None; write them as a list"),
        ({"rules": {"kind": "is_true"}}, "write them as a list"),
        ({"name": "a b"}, "name is 'a b'"),
        ({"name": ""}, "name is ''"),
        ({"name": 3}, "name is 3"),
        ({"source": ["x"]}, "source is"),
        ({"longest": 0}, "longest is 0.*at least 1"),
        ({"longest": "5"}, "longest is '5'"),
        ({"longest": True}, "longest is True"),
        ({"longest": None}, "give longest as well"),
        ({"shares": "EN"}, "shares are 'EN'"),
        ({"shares": ["EN"]}, "a share is 'EN'"),
        ({"shares": [{"rule": ENGLISH}]}, "a share lacks 'share'"),
        ({"shares": [{"rule": ENGLISH, "share": 1.5}]}, "share is 1.5"),
        ({"shares": [{"rule": "EN", "share": 1}]}, "a rule is 'EN'"),
        ({"shares": [{"rule": ENGLISH, "share": "all"}]}, "share is 'all'"),
        ({"shares": MINE["shares"] * 5}, "add up to 1.25"),
        ({"limit": 3}, "a recipe has no 'limit'; it has name, rules, longest"),
        ({"rules": MINE["rules"] * 2}, "two rules.*'safe'"),
    ],
)
def test_wrong_recipes_are_refused_and_say_what_is_right(change, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({**MINE, **change})


@pytest.mark.parametrize("data", [None, "pro", [MINE], {"rules": []}])
def test_what_is_no_recipe_is_refused(data):
    with pytest.raises(ValueError, match="recipe"):
        recipe_from_dict(data)


def test_two_bounds_of_one_number_would_share_a_word():
    rules = (NumberAbove("turns", 1), NumberAtLeast("turns", 1))
    with pytest.raises(ValueError, match="'turns'"):
        Recipe("mine", rules)
    with pytest.raises(ValueError, match="'difficulty'"):
        Recipe("mine", (LevelAtLeast("difficulty", "easy"), OneOf("difficulty", ("hard",))))
