"""The paper in miniature: what its parts promise, and a run on tiny sizes from end to end."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import psutil
import pytest
import transformers

from magpie_steps.embedded import model_path
from magpie_steps.embedded.dialogues.checker import is_correct_answer, read_instruction
from magpie_steps.embedded.dialogues.conversations import categories, draw_conversation, draw_turn

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPT = BENCHMARKS / "paper_in_miniature.py"


@pytest.fixture(autouse=True)
def _parts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def part(name: str) -> ModuleType:
    return importlib.import_module(f"paper.{name}")


def run_script(*flags: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "-"}]


def test_held_out_questions_are_noticed_and_others_are_not() -> None:
    held_out = part("held_out")
    questions = held_out.questions(200)
    assert all(held_out.asks_held_out(asked(question)) for question in questions)
    rng = Random(3)
    known = [draw_conversation(rng) for _ in range(500)]
    assert not any(map(held_out.asks_held_out, known))
    assert held_out.occurrences([asked(questions[0]), *known], questions) == 1


def test_a_follow_up_that_asks_something_held_out_is_noticed() -> None:
    """A second turn names only what changes; what it asks is known from the turn before."""
    held_out, rng = part("held_out"), Random(5)
    found = {True: 0, False: 0}
    for number in range(600):
        family = (turn := draw_turn(rng, "math")).family
        if family is None or not family.follow_ups or not family.holds_out:
            continue
        follow_up = family.follow_ups[0]
        fresh = family.draw(rng, held_out=bool(number % 2))
        text = follow_up.phrasing.format(**{**turn.values, **fresh, **follow_up.fixed})
        values = family.read_follow_up(turn.values, text)
        if values is not None and read_instruction(text) is None:
            talk = [*asked(turn.instruction), *asked(text)]
            assert held_out.asks_held_out(talk) == family.is_held_out(values)
            found[family.is_held_out(values)] += 1
    assert min(found.values()) > 10, found


def test_control_rows_are_right_of_all_categories_and_of_few_kinds() -> None:
    rows = list(part("control").control_rows(240, seed=1))
    questions = [read_instruction(row[0]["content"]) for row in rows]
    assert all(is_correct_answer(row[0]["content"], row[1]["content"]) for row in rows)
    assert {q.family.category for q in questions if q} == set(categories())
    assert len({q.family.name for q in questions if q}) == 12
    assert not any(q.is_held_out for q in questions if q)


def test_no_instruction_is_kept_more_often_than_asked() -> None:
    rows = [{"instruction": text, "number": number} for number, text in enumerate("aabacabb")]
    kept = part("generation").at_most(2, rows)
    assert [row["number"] for row in kept] == [0, 1, 2, 4, 6]


def test_a_plan_trains_each_set_with_each_seed_once() -> None:
    plan = part("plan").plan_for("cpu", {"seeds": 3, "side_seeds": 2, "unit": 7})
    names = [chain.name for chain in plan.chains]
    assert len(names) == len(set(names)) == 2 * 3 + 2 * 2 + 2 * 2
    assert plan.largest == plan.rows("raw", 4) == 28
    assert plan.rows("multi_turn", 4) == 14  # of two answers each
    assert {"multi_turn-1x-0", "control-4x-0"} < set(names)  # these come in one size
    preferring = [chain.name for chain in plan.chains if chain.preferences]
    assert preferring == [f"filtered-4x-{seed}" for seed in range(3)]


def test_wins_count_ties_half_and_missing_rewards_as_losses() -> None:
    scored = part("scoring").Scored
    nan = float("nan")
    mine = scored([True] * 4, [1.0, 2.0, nan, 0.0], ["a", "b", "", "c"])
    other = scored([True] * 4, [0.0, 2.0, 1.0, 0.0], ["x", "b", "y", "z"])
    assert mine.wins(other) == 100 * (1 + 0.5 + 0 + 0.5) / 4
    assert mine.wins(other) + other.wins(mine) == 100


def test_a_difference_has_the_error_of_answers_to_the_same_questions() -> None:
    scoring = part("scoring")
    right = [True, True, False, True, False, False, True, True]
    first = scoring.Arm([scoring.Scored(right, [], [])])
    assert scoring.difference(first, first) == {"points": 0.0, "standard_error": 0.0}
    second = scoring.Arm([scoring.Scored([*right[:-1], False], [], [])])
    found = scoring.difference(first, second)
    assert found == {"points": 12.5, "standard_error": 12.5}


def test_trends_compare_signs_and_heed_chance() -> None:
    telling, ablation = part("telling"), part("ablation")
    small = [[0.01] * 3] * 3
    measured = {
        "quality": [[90.0] * 3, [85.0] * 3, [80.0] * 3],
        "difficulty": [[2.5] * 3, [2.4] * 3, [2.3] * 3],
        "distance": [[0.3] * 3, [0.3] * 3, [0.301] * 3],
        **{f"{name}{ablation.ERROR}": small for name in ablation.PAPER},
    }
    verdicts = {name: found["verdict"] for name, found in telling.trends(measured).items()}
    assert verdicts == {
        "quality": "as in the paper",
        "difficulty": "against the paper",
        "distance": "no change here",
    }


def test_only_answers_are_trained_on_and_in_the_models_own_words() -> None:
    """The marked template writes what the model's own does, and marks answers with their end."""
    marked = part("training").MARKED_TEMPLATE
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path("tiny-base"))
    talk = [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Hi\n"},
        {"role": "assistant", "content": " Hello! "},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
    ]
    for more in (False, True):
        wanted = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=more)
        assert wanted == tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=more, chat_template=marked
        )
    found = tokenizer.apply_chat_template(
        talk, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, own = found["input_ids"], found["assistant_masks"]
    trained = [each for each, is_own in zip(ids, own, strict=True) if is_own]
    assert tokenizer.decode(trained) == "Hello!<|eot_id|>2<|eot_id|>"


def test_batches_hold_rows_of_about_one_length_and_come_in_a_random_order() -> None:
    lengths = [number % 7 for number in range(103)]
    batches = part("training").BatchesOfOneLength(lengths, 10, seed=1)
    epochs = [list(batches), list(batches)]
    assert len(batches) == 103
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(epoch) == list(range(103))
        full = [[lengths[row] for row in epoch[start : start + 10]] for start in range(0, 100, 10)]
        assert all(max(batch) - min(batch) <= 1 for batch in full)
        longest = list(map(max, full))
        assert longest not in (sorted(longest), sorted(longest, reverse=True))
    again = part("training").BatchesOfOneLength(lengths, 10, seed=1)
    assert list(again) == epochs[0]


def test_long_trainings_are_compiled_where_there_is_a_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, sft = part("training"), part("plan").MINIATURE_SFT
    enough = round(training.COMPILED_FROM * sft.batch / sft.epochs) + sft.batch
    monkeypatch.setenv("CXX", sys.executable)  # stands for a compiler that is there
    assert training._compiles(sft, enough)
    assert not training._compiles(sft, enough // 2)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not training._compiles(sft, enough)


@pytest.mark.slow
def test_workers_end_when_the_process_that_started_them_is_killed() -> None:
    """They would train on for minutes, beside the workers of the next start."""
    code = (
        "import os, time\n"
        "from paper.workers import workers\n"
        "if __name__ == '__main__':\n"
        "    pool = workers(1)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 300).result()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=BENCHMARKS, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    worker.wait(timeout=20)


def test_times_of_a_stage_add_up_over_its_starts(tmp_path: Path) -> None:
    script, folders = importlib.import_module("paper_in_miniature"), part("plan").Folders(tmp_path)
    assert script.times(folders) == {}
    for stage, seconds in (("generate", 10.2), ("train", 20.0), ("train", 1.8)):
        script.note_time(folders, stage, seconds)
    assert script.times(folders) == {"generate": 10, "train": 22}


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--seeds", "--side-seeds"])
def test_no_seed_is_refused_before_anything_is_made(flag: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--work-dir", str(tmp_path / "work"), flag, "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{flag} " in done.stderr
    assert "give at least 1 for each" in done.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_scoring_before_training_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--work-dir", str(tmp_path), "--stage", "score"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no answers yet of filtered-4x-0" in done.stderr
    assert "--stage train" in done.stderr


@pytest.mark.slow
def test_a_dry_run_for_hub_models_has_the_papers_settings(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    names = ("--model", "org/chat", "--base-model", "org/base", "--reward-model", "org/reward")
    folder = tmp_path / "work"
    shown = json.loads(run_script("--work-dir", str(folder), "--dry-run", *names))
    sft, dpo = shown["sft"], shown["dpo"]
    assert (sft["learning_rate"], sft["num_train_epochs"]) == (2e-5, 2)
    assert sft["per_device_train_batch_size"] * sft["gradient_accumulation_steps"] == 32
    assert (sft["lr_scheduler_type"], sft["warmup_steps"], sft["max_length"]) == (
        "cosine",
        100,
        8192,
    )
    assert (sft["weight_decay"], dpo["weight_decay"]) == (0, 0)  # the paper names none
    assert (dpo["learning_rate"], dpo["beta"], dpo["num_train_epochs"]) == (5e-7, 0.01, 1)
    assert dpo["per_device_train_batch_size"] * dpo["gradient_accumulation_steps"] == 128
    assert (dpo["lr_scheduler_type"], dpo["max_length"]) == ("cosine", 2048)
    assert (shown["plan"]["model"], shown["plan"]["base_model"]) == ("org/chat", "org/base")
    assert not folder.exists()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_tiny_sizes_run_to_the_last_line_and_a_second_time_train_nothing(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    flags = (
        *("--work-dir", str(tmp_path / "work"), "--device", "cpu", "--questions", "12"),
        *("--unit", "8", "--pool", "120", "--pairs", "60", "--ablation", "10"),
        *("--seeds", "1", "--side-seeds", "1"),
    )
    first = run_script(*flags)
    figures = json.loads(first.splitlines()[-1])["figures"]
    assert all(pool["held_out_questions"] == 0 for pool in figures["pools"].values())
    assert set(figures["models"]) >= {"instruct", "base", "raw-4x", "filtered-1x", "control-4x"}
    assert "filtered+pairs-4x" in figures["models"]
    assert figures["models"]["instruct"]["correct"]["mean"] > 50
    assert figures["trainings"]["filtered-2x-0"]["rows"] == 16
    assert figures["trainings"]["control-4x-0"]["rows"] == 32
    second = run_script(*flags)
    again = json.loads(second.splitlines()[-1])["figures"]
    assert figures.pop("seconds").keys() == again.pop("seconds").keys() == {"generate", "train"}
    assert again == figures
    refused = subprocess.run(
        [sys.executable, str(SCRIPT), *flags, "--unit", "9"], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "another unit" in refused.stderr
