"""The reward step on plain dicts and after a generator, with the embedded reward model."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from magpie_steps import reasons
from magpie_steps.conversation import append_turn, start
from magpie_steps.engines.reward import Reward
from magpie_steps.steps.reward import RewardScorer
from magpie_steps.steps.scoring import answers_of, scored

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

QUESTION = {"instruction": "What is 2 plus 3?"}
SCORED = {**QUESTION, "response": "5"}
ANSWERED = append_turn([], "What is 2 plus 3?", "5")


@pytest.fixture(scope="module")
def step():
    made = RewardScorer(name="step")
    made.load()
    yield made
    made.unload()


def score(step, rows):
    (found,) = list(step.process(rows))
    return found


def reward(step, messages):
    return step.reward_model.score([messages])[0]


def close(value):
    return pytest.approx(value, abs=1e-4, nan_ok=True)


# Rewards


def test_a_row_with_everything_is_scored_in_full(step):
    row = {
        **SCORED,
        "messages": ANSWERED,
        "base_response": "6 apples",
        "responses": ["5", "", "7", None],
    }
    before = copy.deepcopy(row)
    (found,) = score(step, [row])
    assert row == before
    own, base, other = (
        reward(step, append_turn([], QUESTION["instruction"], text))
        for text in ("5", "6 apples", "7")
    )
    assert found["reward_model"] == "tiny-reward"
    assert found["instruct_reward"] == close(own)
    assert found["base_reward"] == close(base)
    assert found["reward_difference"] == close(own - base)
    assert found["responses_rewards"] == [close(x) for x in (own, math.nan, other, math.nan)]
    assert (found["keep"], found["drop_reason"]) == (True, "")
    assert list(found) == [*row, *step.outputs]
    assert len({own, base, other}) == 3


def test_rows_keep_their_order_whatever_their_length(step):
    rows = [{"instruction": "What is it? " * n, "response": "It. " * (9 - n)} for n in range(1, 9)]
    found = score(step, [{**row, "number": i} for i, row in enumerate(rows)])
    assert [row["number"] for row in found] == list(range(8))
    for row in found:
        alone = reward(step, append_turn([], row["instruction"], row["response"]))
        assert row["instruct_reward"] == close(alone)


def test_a_response_without_a_base_response_has_no_difference(step):
    (found,) = score(step, [SCORED])
    assert math.isfinite(found["instruct_reward"])
    assert math.isnan(found["base_reward"])
    assert math.isnan(found["reward_difference"])
    assert found["responses_rewards"] == []


def test_a_sampled_answer_beside_the_response_may_have_no_reward(step):
    (found,) = score(step, [{**SCORED, "responses": ["<|eot_id|>"]}])
    assert found["keep"]
    assert found["responses_rewards"] == [close(math.nan)]


def test_a_base_response_without_a_reward_drops_the_row(step):
    (found,) = score(step, [{**SCORED, "base_response": "x " * 900}])
    assert (found["keep"], found["drop_reason"]) == (False, "reward_too_long")
    assert math.isnan(found["base_reward"])
    assert math.isnan(found["reward_difference"])


@pytest.mark.parametrize(
    ("responses", "kept", "reason"),
    [
        (["5", "6"], True, ""),
        (["", "<|eot_id|>", "6"], True, ""),
        (["", "<|eot_id|>"], False, "reward_control_tokens"),
        (["7 " * 900], False, "reward_too_long"),
        (["", " "], False, "reward_missing_response"),
        ([], False, "reward_missing_response"),
        ("5", False, "reward_missing_response"),
    ],
)
def test_sampled_responses_can_stand_alone(step, responses, kept, reason):
    (found,) = score(step, [{**QUESTION, "responses": responses}])
    assert (found["keep"], found["drop_reason"]) == (kept, reason)
    assert math.isnan(found["instruct_reward"])
    assert any(map(math.isfinite, found["responses_rewards"])) is kept


# What is answered


SECOND = append_turn(ANSWERED, "And 4 plus 4?", "8")


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (SCORED, ANSWERED[:1]),
        ({**SCORED, "messages": []}, ANSWERED[:1]),
        ({"response": "5", "messages": ANSWERED}, ANSWERED[:1]),
        ({"response": "5", "messages": ANSWERED[:1]}, ANSWERED[:1]),
        ({**SCORED, "messages": SECOND}, ANSWERED[:1]),
        ({**QUESTION, "response": "8", "messages": SECOND}, SECOND[:3]),
        ({**QUESTION, "response": "9", "messages": SECOND}, SECOND[:3]),
        ({**QUESTION, "responses": ["8"], "messages": SECOND}, SECOND[:3]),
        (
            {**SCORED, "messages": [*start("Be brief."), *SECOND]},
            [*start("Be brief."), *ANSWERED[:1]],
        ),
    ],
)
def test_an_answer_is_scored_after_what_it_answers(row, prompt):
    """Of several turns the response is the first one's, as the base response is."""
    answers = answers_of({**row, "base_response": "base"})
    assert list(answers.prompt) == prompt
    assert all(each[:-1] == prompt for each in answers.conversations)
    texts = [each[-1]["content"] for each in answers.conversations]
    assert texts == [*filter(None, [row.get("response")]), "base", *row.get("responses", ())]


# Bad rows


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**QUESTION, "response": "x " * 900}, "reward_too_long"),
        ({**QUESTION, "response": "So <|eot_id|>"}, "reward_control_tokens"),
        ({"instruction": "Say <|eot_id|>", "response": "No."}, "reward_control_tokens"),
        ({**QUESTION, "response": ""}, "reward_missing_response"),
        ({**QUESTION, "response": " \n"}, "reward_missing_response"),
        ({**QUESTION, "response": None}, "reward_missing_response"),
        ({**QUESTION, "response": 5}, "reward_missing_response"),
        ({**QUESTION, "base_response": "5"}, "reward_missing_response"),
        (QUESTION, "reward_missing_response"),
        ({"response": "5"}, "no_instruction"),
        ({}, "no_instruction"),
        ({"instruction": None, "response": "5"}, "no_instruction"),
        ({"messages": [{"role": "user", "content": None}], "response": "5"}, "bad_messages"),
        ({"messages": ANSWERED[1:], "response": "5"}, "bad_messages"),
    ],
)
def test_a_row_without_a_reward_has_a_reason_and_harms_no_other(step, row, reason):
    before, bad, after = score(step, [SCORED, row, SCORED])
    assert bad["keep"] is False
    assert bad["drop_reason"] == reason
    assert reason in reasons.DROP_REASONS
    assert math.isnan(bad["instruct_reward"])
    assert before["keep"]
    assert after["keep"]
    assert after["instruct_reward"] == close(reward(step, ANSWERED))


@pytest.mark.parametrize("reason", ["not_finite", "bad_messages", "engine_error"])
def test_what_the_model_says_of_the_response_drops_the_row(reason):
    row = {**SCORED, "base_response": "6"}
    rewards = iter([Reward(math.nan, reason), Reward(0.5)])
    found = scored(row, answers_of(row), rewards, "m")
    assert found["keep"] is False
    assert found["drop_reason"] in reasons.DROP_REASONS
    assert found["drop_reason"].endswith(reason)
    assert found["base_reward"] == 0.5
    assert math.isnan(found["reward_difference"])


def test_a_dropped_row_passes_and_costs_nothing(step):
    read = step.reward_model.tokens_read
    row = {**SCORED, "responses": ["5"], "keep": False, "drop_reason": "instruction_empty"}
    (found,) = score(step, [row])
    assert step.reward_model.tokens_read == read
    assert found["drop_reason"] == "instruction_empty"
    assert found["keep"] is False
    assert found["reward_model"] == ""
    assert found["responses_rewards"] == []
    assert all(
        math.isnan(found[name]) for name in ("instruct_reward", "base_reward", "reward_difference")
    )


def test_no_rows_are_no_rows(step):
    assert score(step, []) == []


def test_processing_before_loading_is_a_clear_error():
    with pytest.raises(RuntimeError, match="call load"):
        next(RewardScorer(name="s").process([]))


def test_settings_may_be_a_dict_and_wrong_ones_are_refused():
    assert RewardScorer(name="s", reward_model={"score_index": 2}).reward_model.score_index == 2
    for wrong in ({"max_batch_tokens": 0}, {"score_index": -1}, {"score_from": "x"}, {"typo": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RewardScorer(name="s", reward_model=wrong)


# In a pipeline


PIPELINE = """
import json, sys
from distilabel.pipeline import Pipeline
from magpie_steps import ConversationGenerator, RewardScorer, ScriptedEngine, run_pipeline

with Pipeline(name="rewards") as pipeline:
    ConversationGenerator(
        llm=ScriptedEngine(bad_fraction={"truncated": 0.3}),
        num_rows=24,
        batch_size=10,
        n_turns=2,
        max_attempts=1,
    ) >> RewardScorer(input_batch_size=7)
rows = run_pipeline(pipeline, work_dir=sys.argv[1], expected_rows=24).dataset.to_list()
print(json.dumps(rows))
"""


def test_every_row_of_a_generator_comes_out_with_its_reward(step, tmp_path):
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
    kept = [row for row in rows if row["keep"]]
    assert 2 < len(kept) < 24
    for row in kept:
        alone = reward(step, append_turn([], row["instruction"], row["response"]))
        assert row["instruct_reward"] == close(alone)
        assert row["reward_model"] == "tiny-reward"
    for row in rows:
        assert row["keep"] or row["drop_reason"].startswith("instruction_")
        assert math.isfinite(row["instruct_reward"]) is row["keep"]
