import pytest

from magpie_steps.columns import NAMES
from magpie_steps.recipes import RECIPES
from magpie_steps.row_schemas import (
    MAGPIE_ALIGN,
    MAGPIE_ALIGN_LLAMA_3,
    MAGPIE_ULTRA,
    OURS,
    SCHEMAS,
    Origin,
    schema_of,
)

LLAMA_3_AIR = (
    "uuid model gen_input_config input output conversations task_category difficulty intent"
    " knowledge input_quality quality_explanation llama_guard_2 reward_model instruct_reward"
    " base_output base_reward reward_difference min_neighbor_distance repeat_count min_similar_uuid"
    " input_length output_length"
).split()
QWEN_2 = (
    "uuid model gen_input_configs instruction response conversations task_category"
    " other_task_category task_category_generator difficulty intent knowledge difficulty_generator"
    " input_quality quality_explanation quality_generator llama_guard_2 reward_model"
    " instruct_reward min_neighbor_distance repeat_count min_similar_uuid instruction_length"
    " response_length language"
).split()
REPOSITORY = (
    "conversation_id instruction response conversations gen_input_configs intent knowledge"
    " difficulty input_quality task_category llama_guard_2 instruct_reward language"
    " min_neighbor_distance repeat_count min_similar_conversation_id"
).split()
ULTRA_0 = (
    "instruction response response_base difficulty quality primary_tag other_tags score score_base"
    " nn_indices nn_scores messages guard safe hazard_category"
).split()
ULTRA_1 = (
    "conversation system_prompt_key instruction intent difficulty explanation quality primary_tag"
    " other_tags embedding guard score nn_indices nn_scores safe"
).split()


@pytest.mark.parametrize(
    ("names", "schema"),
    [
        (NAMES, OURS),
        (LLAMA_3_AIR, MAGPIE_ALIGN_LLAMA_3),
        (QWEN_2, MAGPIE_ALIGN),
        (REPOSITORY, MAGPIE_ALIGN),
        (ULTRA_0, MAGPIE_ULTRA),
        (ULTRA_1, MAGPIE_ULTRA),
        (["response", "instruction"], MAGPIE_ALIGN),
    ],
)
def test_datasets_are_recognised_by_their_columns(names, schema):
    assert schema_of(names) is schema
    assert schema_of(list(reversed(names))) is schema


@pytest.mark.parametrize("names", [[], ["conversations", "uuid"], ["text"], ["Instruction"]])
def test_other_columns_are_refused_with_what_is_missing(names):
    with pytest.raises(ValueError, match="no schema that is known") as caught:
        schema_of(names)
    for word in (*names, "input, output", "instruction, response", "quality", "drop_reason"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "names", "column", "origin"),
    [
        (OURS, NAMES, "input_quality", Origin(("input_quality",))),
        (OURS, ["response"], "response_length", Origin(("response",), "characters")),
        (MAGPIE_ALIGN_LLAMA_3, LLAMA_3_AIR, "instruction", Origin(("input",))),
        (MAGPIE_ALIGN_LLAMA_3, LLAMA_3_AIR, "response_length", Origin(("output_length",))),
        (MAGPIE_ALIGN_LLAMA_3, ["output"], "response_length", Origin(("output",), "characters")),
        (MAGPIE_ALIGN_LLAMA_3, LLAMA_3_AIR, "safe", Origin(("llama_guard_2",), "says_safe")),
        (MAGPIE_ALIGN, REPOSITORY, "uuid", Origin(("conversation_id",))),
        (
            MAGPIE_ALIGN,
            REPOSITORY,
            "min_similar_uuid",
            Origin(("min_similar_conversation_id",)),
        ),
        (MAGPIE_ALIGN, QWEN_2, "min_similar_uuid", Origin(("min_similar_uuid",))),
        (MAGPIE_ULTRA, ULTRA_1, "instruct_reward", Origin(("score",))),
        (MAGPIE_ULTRA, ULTRA_1, "min_neighbor_distance", Origin(("nn_scores",), "distance")),
        (MAGPIE_ULTRA, ULTRA_0, "response_length", Origin(("response",), "characters")),
        (MAGPIE_ULTRA, ULTRA_1, "response_length", Origin(("conversation",), "answer_characters")),
        (MAGPIE_ULTRA, ULTRA_1, "uuid", Origin((), "row_number")),
        (MAGPIE_ULTRA, ULTRA_1, "language", None),
        (OURS, NAMES, "nothing", None),
    ],
)
def test_columns_have_their_origins(schema, names, column, origin):
    assert schema.origin(column, names) == origin


def test_what_a_dataset_lacks_can_be_named():
    assert MAGPIE_ULTRA.names("input_quality") == "quality"
    assert MAGPIE_ULTRA.names("min_similar_uuid") == "nn_scores and nn_indices"
    assert MAGPIE_ALIGN.names("uuid") == "uuid or conversation_id"
    assert MAGPIE_ULTRA.names("language") == "nothing"


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_every_origin_is_of_a_column_of_ours(schema):
    assert set(schema.origins) <= set(NAMES)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_our_own_columns_serve_every_recipe(recipe):
    assert all(OURS.origin(name, NAMES) for name in (*recipe.columns, "response_length"))


@pytest.mark.parametrize(
    ("names", "works"),
    [
        (LLAMA_3_AIR, {"air", "pro", "pro-filter6", "pro-card", "llama-3.1-pro-500k", "dpo"}),
        (QWEN_2, {"pro", "notebook", "qwen2-pro-200k-chinese", "dpo", "ultra"}),
        (ULTRA_1, {"ultra", "pro", "pro-card", "dpo"}),
    ],
)
def test_published_datasets_have_what_their_recipes_need(names, works):
    schema = schema_of(names)
    served = {
        recipe.name
        for recipe in RECIPES.values()
        if all(schema.origin(name, names) for name in recipe.columns)
    }
    assert works <= served
