"""Rows that repeat prompts of evaluation sets are marked, and no others."""

import copy
import json
import math

import pytest
from answering import BAD_ROWS, process
from distilabel.errors import DistilabelUserError
from distilabel.pipeline import Pipeline
from pydantic import ValidationError

from magpie_steps import reasons
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.recipes import recipe_from_dict
from magpie_steps.running import run_pipeline
from magpie_steps.selection import select
from magpie_steps.steps.apply_recipe import ApplyRecipe
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.decontaminate import Decontaminate

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

PROMPT = "Natalia sold clips to 48 of her friends in April and then half as many in May."
HALF = " ".join(PROMPT.split()[:8])
MOST = " ".join(PROMPT.split()[:9])


@pytest.fixture
def quiz(tmp_path):
    path = tmp_path / "quiz.jsonl"
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in ("Hi?", PROMPT)))
    return str(path)


def marked(quiz, rows, **settings):
    return process(Decontaminate(name="step", paths=[quiz], **settings), rows)


def test_a_row_that_repeats_a_prompt_is_dropped_and_says_of_which_set(quiz):
    rows = [{"instruction": text, "mine": 1} for text in (f"So: {PROMPT}", MOST, HALF, "hi", "Ho!")]
    before = copy.deepcopy(rows)
    found = marked(quiz, rows)
    assert rows == before
    assert [row["contamination_overlap"] for row in found] == [1.0, 9 / 17, 8 / 17, 1.0, 0.0]
    assert [row["contaminated_by"] for row in found] == ["quiz", "quiz", "", "quiz", ""]
    assert [row["keep"] for row in found] == [False, False, True, False, True]
    dropped = {row["drop_reason"] for row in found if not row["keep"]}
    assert dropped == {reasons.CONTAMINATED} <= set(reasons.DROP_REASONS)
    assert [row["drop_reason"] for row in found if row["keep"]] == ["", ""]
    assert all(row["mine"] == 1 for row in found)


def test_the_threshold_decides(quiz):
    rows = [{"instruction": text} for text in (PROMPT, MOST, HALF, "Ho!")]
    strict = [row["keep"] for row in marked(quiz, rows, threshold=0.0)]
    lax = [row["keep"] for row in marked(quiz, rows, threshold=0.6)]
    assert strict == [False, False, False, True]
    assert lax == [False, True, True, True]


def test_of_a_conversation_the_first_user_message_is_compared(quiz):
    said = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "72"}]
    (row,) = marked(quiz, [{"messages": said}])
    assert row["contaminated_by"] == "quiz"


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS[:6])
def test_rows_that_ask_nothing_or_are_dropped_pass_through(row, reason, quiz):
    (found,) = marked(quiz, [row])
    assert found["contaminated_by"] == ""
    assert math.isnan(found["contamination_overlap"])
    kept = row.get("keep", True)
    assert (found["keep"], found["drop_reason"]) == (kept, "" if kept else reason)


def test_a_dropped_row_that_repeats_a_prompt_keeps_its_own_reason(quiz):
    row = {"instruction": PROMPT, "keep": False, "drop_reason": "response_empty"}
    (found,) = marked(quiz, [row])
    assert found["drop_reason"] == "response_empty"
    assert found["contaminated_by"] == ""


def test_the_set_that_is_repeated_most_is_named(quiz, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(f"{MOST} and so on until all of them are gone\n")
    step = Decontaminate(name="step", paths=[str(other), quiz])
    first, second = process(step, [{"instruction": MOST}, {"instruction": other.read_text()}])
    assert (first["contaminated_by"], second["contaminated_by"]) == ("quiz", "other")


def test_a_recipe_keeps_the_reason(quiz):
    recipe = {"name": "mine", "rules": [{"kind": "one_of", "column": "language", "values": ["EN"]}]}
    rows = marked(quiz, [{"instruction": PROMPT, "language": "DE"}, {"instruction": "Ho!"}])
    found = process(ApplyRecipe(name="recipe", recipe=recipe), rows)
    assert [row["drop_reason"] for row in found] == ["contaminated", "recipe_language"]
    assert select(recipe_from_dict(recipe), rows).reasons == ["contaminated", "recipe_language"]


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan"), float("inf"), "much"])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(ValidationError, match="threshold"):
        Decontaminate(name="step", threshold=threshold)


def test_sets_that_cannot_be_read_are_told_when_the_step_loads(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "Hi?"}')
    for path, words in ((tmp_path / "no.jsonl", "there is no"), (tmp_path / "a.jsonl", "body")):
        step = Decontaminate(name="step", paths=[str(path)])
        with pytest.raises(DistilabelUserError, match=words):
            step.load()


def test_without_sets_no_row_is_contaminated():
    (row,) = process(Decontaminate(name="step"), [{"instruction": PROMPT}])
    assert (row["keep"], row["contamination_overlap"]) == (True, 0.0)


def test_it_must_be_loaded():
    with pytest.raises(RuntimeError, match="not loaded"):
        next(Decontaminate(name="step").process([{"instruction": PROMPT}]))


def test_in_a_pipeline_before_the_recipe(tmp_path):
    """The scripted engine's rows are compared with their own first instruction."""
    path = tmp_path / "own.txt"
    with Pipeline(name="plain") as plain:
        ConversationGenerator(llm=ScriptedEngine(), num_rows=4, batch_size=2)
    rows = run_pipeline(plain, work_dir=tmp_path / "plain").dataset.to_list()
    path.write_text(" ".join(rows[0]["instruction"].split()))
    with Pipeline(name="line") as line:
        (
            ConversationGenerator(llm=ScriptedEngine(), num_rows=4, batch_size=2)
            >> Decontaminate(paths=[str(path)])
            >> ApplyRecipe(recipe={"name": "all", "rules": []})
        )
    found = run_pipeline(line, work_dir=tmp_path / "line").dataset.to_list()
    same = [row["instruction"] == rows[0]["instruction"] for row in found]
    assert [row["drop_reason"] == "contaminated" for row in found] == same
    assert any(same)
