"""Conversations and pairs of the embedded models, judged by the checker of their world."""

import math
import subprocess
import sys
from collections import Counter

import datasets
import pytest
from test_jobs import ENVIRONMENT, ROOT

from magpie_steps import conversation
from magpie_steps.embedded import model_path
from magpie_steps.embedded.dialogues.checker import (
    is_correct_answer,
    judge_conversation,
    relate_follow_ups,
)
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.steps.conversation import ConversationGenerator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline"),
]


def run(script, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**ENVIRONMENT, "HF_DATASETS_OFFLINE": "1"},
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def load(folder, cache, name="default"):
    return datasets.load_dataset(str(folder), name, split="train", cache_dir=str(cache)).to_list()


@pytest.fixture(scope="module")
def conversations():
    engine = TransformersEngine(model=str(model_path("tiny-instruct")))
    step = ConversationGenerator(name="step", llm=engine, num_rows=300, n_turns=3, seed=5)
    step.load()
    rows = [row for batch, _ in step.process() for row in batch]
    step.unload()
    return rows


def test_conversations_alternate_and_start_with_the_user(conversations):
    assert len(conversations) == 300
    for row in conversations:
        conversation.validate(row["messages"])
        assert row["messages"][0]["role"] == "user"
        assert len(row["messages"]) == 2 * row["turns"]
        assert bool(row["conversation_end"]) == (row["turns"] < 3)
    ends = Counter(row["conversation_end"] for row in conversations)
    assert ends[""] > 200, ends


def test_follow_ups_belong_to_their_conversations(conversations):
    related = [each for row in conversations for each in relate_follow_ups(row["messages"])]
    assert len(related) > 400
    assert sum(related) / len(related) >= 0.80


def test_our_own_check_of_follow_ups_agrees_with_the_checker(conversations):
    """It knows nothing of the miniature world, and is the one that real data have."""
    judged = [
        (ours, theirs)
        for row in conversations
        for ours, theirs in zip(
            row["follow_up_related"], relate_follow_ups(row["messages"]), strict=True
        )
    ]
    assert sum(ours == theirs for ours, theirs in judged) / len(judged) >= 0.75


def test_answers_in_later_turns_are_mostly_right(conversations):
    right = [each for row in conversations for each in judge_conversation(row["messages"])[1:]]
    assert sum(map(bool, right)) / len(right) >= 0.6


def test_ultra_gives_every_kept_row_both_answers_and_both_rewards(tmp_path):
    run("magpie_ultra.py", "--num-rows", 150, "--output-dir", "out", cwd=tmp_path)
    rows = load(tmp_path / "out", tmp_path / "cache")
    kept = [row for row in rows if row["keep"]]
    assert len(rows) == 150
    assert len(kept) >= 100
    for row in kept:
        assert row["response"].strip()
        assert row["base_response"].strip()
        difference = row["instruct_reward"] - row["base_reward"]
        assert math.isclose(row["reward_difference"], difference)
    assert sum(row["reward_difference"] for row in kept) > 0
    judged = [
        (is_correct_answer(row["instruction"], row["response"]), row)
        for row in kept
        if is_correct_answer(row["instruction"], row["response"]) is not None
    ]
    right = sum(ours for ours, _ in judged) / len(judged)
    base = sum(
        bool(is_correct_answer(row["instruction"], row["base_response"])) for _, row in judged
    ) / len(judged)
    assert right >= base + 0.20
    assert all(row["instruction_2"] for row in kept if row["turns"] > 1)


def test_preference_pairs_put_right_above_wrong(tmp_path):
    run("magpie_preference.py", "--num-rows", 150, "--output-dir", "out", cwd=tmp_path)
    pairs = load(tmp_path / "out", tmp_path / "cache", "preference")
    assert pairs
    for pair in pairs:
        assert [m["role"] for m in pair["chosen"]] == ["assistant"]
        assert pair["chosen"] != pair["rejected"]
        assert pair["score_margin"] > 0
    judged = [
        tuple(
            is_correct_answer(pair["prompt"][-1]["content"], pair[side][0]["content"])
            for side in ("chosen", "rejected")
        )
        for pair in pairs
    ]
    differ = [chosen for chosen, rejected in judged if chosen is not None and chosen != rejected]
    assert sum(differ) > len(differ) / 2
    unpaired = load(tmp_path / "out", tmp_path / "cache", "kto")
    assert len(unpaired) == 2 * len(pairs)
    assert sum(row["label"] for row in unpaired) == len(pairs)
