import math
import random

import pytest

from magpie_steps.effort import Effort, effort_of
from magpie_steps.summary import (
    counted,
    duration,
    problem_of,
    replayed,
    summarise,
    table,
    timed,
)


def row(**changes):
    return {
        "keep": True,
        "drop_reason": "",
        "system_prompt_key": "math",
        "instruction": "a",
        "instruction_rejections": [],
        "instruction_tokens": 3,
        "response_tokens": 5,
        "instruction_length": 1,
        "response_length": 2,
        **changes,
    }


def test_generated_is_kept_plus_dropped():
    rows = [
        row(),
        row(instruction="b", instruction_rejections=["instruction_truncated"]),
        row(instruction="b"),
        row(keep=False, drop_reason="engine_error", instruction=""),
        row(
            keep=False,
            drop_reason="instruction_empty",
            instruction="",
            instruction_rejections=["instruction_truncated", "instruction_empty"],
        ),
    ]
    summary = summarise(rows)
    assert summary.generated == 5 == summary.kept + sum(summary.dropped.values())
    assert summary.dropped == {"engine_error": 1, "instruction_empty": 1}
    assert summary.rejected == {"instruction_truncated": 2, "instruction_empty": 1}
    assert summary.distinct == 2
    assert summary.distinct_share == 2 / 3
    assert (summary.instruction_tokens, summary.response_tokens) == (9, 15)
    assert summary.as_dict()["distinct_share"] == 0.666667


def test_no_rows():
    summary = summarise([])
    assert summary.generated == summary.kept == 0
    assert summary.distinct_share == 0.0


def test_missing_columns_count_nothing():
    summary = summarise([{"keep": True, "drop_reason": "", "instruction": "a"}])
    assert summary.kept == 1
    assert summary.response_tokens == 0


def test_completions_are_one_per_turn_and_response():
    rows = [
        row(instruction_attempts=1, response="b"),
        row(
            instruction_attempts=3,
            response="b",
            instruction_rejections=["instruction_empty", "response_truncated"],
        ),
        row(instruction_attempts=2, instruction_rejections=["instruction_empty"]),
    ]
    summary = summarise(rows)
    assert summary.model_calls == 2 + 5 + 2
    assert replayed(summary, 4) == 5
    assert replayed(summary, 10) == 0


def test_prompts_that_do_not_fit_are_no_completions():
    late = ["follow_up_repetition", "response_prompt_too_long"]
    rows = [
        row(instruction_attempts=1, response="", instruction_rejections=["instruction_empty"]),
        row(instruction_attempts=3, response="b", instruction_rejections=late),
        row(
            instruction_attempts=2,
            response="b",
            instruction_rejections=["instruction_prompt_too_long"],
        ),
    ]
    assert summarise(rows).model_calls == 1 + (2 + 1 + 1) + 2


def test_turns_are_counted_with_why_there_are_no_more():
    rows = [
        row(turns=3, conversation_end="", follow_up_related=[True, True]),
        row(turns=2, conversation_end="closing", follow_up_related=[False]),
        row(turns=1, conversation_end="closing", follow_up_related=[]),
        row(keep=False, drop_reason="instruction_empty", turns=0, follow_up_related=[]),
    ]
    summary = summarise(rows)
    assert (summary.turns, summary.conversation_ends) == (6, {"closing": 2})
    assert (summary.follow_ups, summary.related_follow_ups) == (3, 2)
    assert summary.as_dict()["related_share"] == 0.666667
    lines = dict(counted(summary))
    assert lines["follow-ups that belong"] == "66.7%"
    assert lines["conversations ended early"] == lines["  closing"] == "2"
    assert "turns" not in dict(counted(summarise([row(turns=1, conversation_end="")])))


def test_reward_differences_are_averaged_where_there_are_both_rewards():
    rows = [row(reward_difference=2.0), row(reward_difference=float("nan")), row()]
    summary = summarise([*rows, row(reward_difference=-1.0)])
    assert (summary.compared, summary.mean_reward_difference) == (2, 0.5)
    assert dict(counted(summary))["mean reward difference"] == "+0.50"
    assert "mean reward difference" not in dict(counted(summarise(rows[1:])))


def test_the_mean_of_rewards_is_as_exact_as_if_all_were_summed_at_once():
    chance = random.Random(0)
    numbers = [chance.uniform(-1, 1) * 10.0 ** chance.randint(-18, 18) for _ in range(2000)]
    numbers += [-number for number in numbers[:1000]]
    for order in (numbers, numbers[::-1], sorted(numbers)):
        found = summarise(row(reward_difference=number) for number in order)
        assert found.mean_reward_difference == math.fsum(numbers) / 3000


def test_many_instructions_are_counted_once_each():
    texts = [f"What is {number % 40_000}?" for number in range(400_000)]
    assert summarise(row(instruction=text) for text in texts).distinct == 40_000


def test_the_realised_mix_stands_beside_the_one_asked_for():
    rows = [row(system_prompt_key=key) for key in ("a", "a", "a", "")]
    lines = dict(counted(summarise(rows), {"a": 1.0, "b": 2.0, "": 1.0}))
    assert lines["  a"] == "75.0% (asked 25.0%)"
    assert lines["  b"] == "0.0% (asked 50.0%)"
    assert lines["  no system prompt"] == "25.0% (asked 25.0%)"


def test_base_and_sampled_responses_are_completions_too():
    base, dropped = {"base_response_finish_reason": "length"}, {"base_response_finish_reason": ""}
    several = {"responses": ["a", "b"], "responses_rejections": ["response_empty"]}
    rows = [row(**base, **several), row(**base), row(**dropped, responses=[])]
    first, *rest = (summarise([each]).model_calls for each in rows)
    plain = summarise([row()]).model_calls
    assert first == plain + 1 + 3
    assert rest == [plain + 1, plain]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row()], ""),
        ([row(), row(keep=False, drop_reason="instruction_empty")], ""),
        ([row(keep=False, drop_reason="instruction_empty")], "no row was kept"),
        ([row(), row(keep=False, drop_reason="engine_error")], "the engine failed on 1 rows"),
    ],
)
def test_problems_of_a_whole_run(rows, problem):
    assert problem_of(summarise(rows)).startswith(problem)
    assert bool(problem_of(summarise(rows))) == bool(problem)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (4.25, "4.2 s"),
        (59.4, "59 s"),
        (187, "3 min 07 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_tables_are_aligned_and_add_up():
    rows = [row(), row(keep=False, drop_reason="engine_error")]
    effort = Effort(seconds=2.0, completions=3, completion_tokens=500)
    text = table([*counted(summarise(rows)), *timed(summarise(rows), effort)])
    assert len({len(line) for line in text.splitlines()}) == 1
    assert "  engine_error " in text
    assert "1.0 rows/s, 250 tokens/s" in text
    assert table([]) == ""


def test_effort_adds_up_what_engines_report():
    """Two steps on one server of two GPUs report it twice; it is held once."""
    engine = {"model": "m", "gpus": 2, "prompt_tokens": 30, "cached_tokens": 15, "retries": 1}
    engines = [
        {**engine, "seconds": 3.0, "busy_share": 1.0},
        {**engine, "seconds": 1.0, "busy_share": 0.2},
        {**engine, "model": "base", "gpus": 1, "seconds": 0.0, "busy_share": 0.0},
    ]
    effort = effort_of(10.0, 8.0, 5, 70, engines)
    assert (effort.gpu_seconds, effort.cpu_seconds, effort.seconds) == (30.0, 8.0, 10.0)
    assert (effort.prompt_tokens, effort.cached_share, effort.retries) == (90, 0.5, 3)
    assert effort.busy_share == pytest.approx(0.8)
    assert effort.tokens_per_second == 7.0
    assert effort.per_thousand(4) == {"cpu_seconds": 2000.0, "gpu_seconds": 7500.0}
    assert effort_of(0.0, 0.0, 0, 0, []).as_dict(0)["tokens_per_second"] == 0.0


def test_effort_lines_show_what_there_is():
    summary = summarise([row(), row()])
    bare = dict(timed(summary, Effort(seconds=1.0)))
    assert set(bare) == {"completions generated", "completions replayed", "time", "speed"}
    effort = Effort(
        1.0, cpu_seconds=4.0, gpu_seconds=1.0, prompt_tokens=10, cached_tokens=5, retries=2
    )
    full = dict(timed(summary, effort))
    assert full["prompt tokens"] == "10 (50% cached)"
    assert full["requests sent again"] == "2"
    assert full["CPU time per 1,000 kept rows"] == "33 min 20 s"
    assert full["GPU time per 1,000 kept rows"] == "8 min 20 s"
