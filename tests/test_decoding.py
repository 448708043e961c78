"""The paper's decoding mixes, and how a generator draws from one."""

from collections import Counter

import pytest
from pydantic import ValidationError
from told_engine import ToldEngine

from magpie_steps.decoding import AIR_MIX, PRO_MIX, as_settings
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.instruction import InstructionGenerator

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")


@pytest.mark.parametrize(("mix", "ways", "thousands"), [(AIR_MIX, 12, 3000), (PRO_MIX, 4, 1000)])
def test_mixes_add_up_to_the_papers_datasets(mix, ways, thousands):
    assert len({(way.temperature, way.top_p) for way in mix}) == ways == len(as_settings(mix))
    assert sum(way.thousands for way in mix) == thousands


def generate(**fields):
    step = InstructionGenerator(name="step", llm=ToldEngine(), **fields)
    step.load()
    return step, [row for rows, _ in step.process() for row in rows]


def test_each_row_draws_one_way_by_weight_and_carries_it():
    step, rows = generate(num_rows=2000, instruction_mix=as_settings(PRO_MIX, max_new_tokens=77))
    found = Counter(
        (row["gen_input_configs"]["temperature"], row["gen_input_configs"]["top_p"]) for row in rows
    )
    # 2,000 draws: a share misses its expectation by 0.05 about once in a million runs.
    for way in PRO_MIX:
        share = found[way.temperature, way.top_p] / 2000
        assert share == pytest.approx(way.thousands / 1000, abs=0.05)
    assert {row["gen_input_configs"]["max_new_tokens"] for row in rows} == {77}
    asked = Counter((s.temperature, s.top_p) for _, s in step.llm.asked)
    assert asked == found


def test_a_draw_depends_on_seed_and_row_alone():
    mix = as_settings(AIR_MIX)
    fields = {"instruction_mix": mix, "system_prompts": {"a": "One.", "b": "Two."}}
    _, rows = generate(num_rows=30, **fields)
    _, other = generate(num_rows=12, batch_size=5, max_in_flight=1, **fields)
    assert rows[:12] == other
    _, moved = generate(num_rows=30, seed=1, **fields)
    assert [r["gen_input_configs"] for r in moved] != [r["gen_input_configs"] for r in rows]


def test_all_user_turns_of_a_row_are_sampled_alike():
    step = ConversationGenerator(
        name="step", llm=ToldEngine(), num_rows=20, n_turns=2, instruction_mix=as_settings(AIR_MIX)
    )
    step.load()
    rows = [row for batch, _ in step.process() for row in batch]
    for row in rows:
        question = row["messages"][0]["content"]
        drawn = [s.temperature for prompt, s in step.llm.asked if question in prompt and s.seed]
        assert row["gen_input_configs"]["temperature"] in drawn


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_weights_must_be_positive_numbers(weight):
    with pytest.raises(ValidationError):
        generate(instruction_mix={"a": {"weight": weight}})


def test_system_prompts_may_weigh_nothing_but_not_all_of_them():
    fields = {"num_rows": 50, "system_prompts": {"a": "One.", "b": "Two."}}
    _, rows = generate(**fields, system_prompt_weights={"a": 0})
    assert {row["system_prompt_key"] for row in rows} == {"b"}
    with pytest.raises(ValidationError, match="all weights are 0"):
        generate(**fields, system_prompt_weights={"a": 0, "b": 0})


@pytest.mark.parametrize("scale", [1.0, 1e-9, 3.7, 1e9])
def test_only_the_weights_proportions_count(scale):
    weights = {"a": 0.1 * scale, "b": 0.2 * scale, "c": 0.7 * scale}
    prompts = {"a": "One.", "b": "Two.", "c": "Three."}
    _, rows = generate(num_rows=200, system_prompts=prompts, system_prompt_weights=weights)
    _, plain = generate(
        num_rows=200,
        system_prompts=prompts,
        system_prompt_weights={"a": 0.1, "b": 0.2, "c": 0.7},
    )
    assert [r["system_prompt_key"] for r in rows] == [r["system_prompt_key"] for r in plain]
