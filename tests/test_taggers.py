"""Tagging steps: what a model is asked, and what a row says afterwards."""

import json
import re

import pytest
from answering import process
from told_engine import FormEngine, ToldEngine

from magpie_steps import columns
from magpie_steps.engines.base import EngineLostError
from magpie_steps.engines.scripted import ScriptedEngine
from magpie_steps.labels import Category, Difficulty, Quality
from magpie_steps.steps.rule_tagger import RuleTagger
from magpie_steps.steps.taggers import (
    CategoryTagger,
    DifficultyTagger,
    InstructionTagger,
    QualityTagger,
)
from magpie_steps.tagging import FORMS, TAGS, tagging_messages

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

GOOD = {
    "difficulty": {"intent": "To add.", "knowledge": "Sums.", "difficulty": "very easy"},
    "quality": {"explanation": "It is clear.", "input_quality": "excellent"},
    "category": {"primary_tag": "Math", "other_tags": ["Reasoning"]},
}
LABELS = {
    "intent": "To add.",
    "knowledge": "Sums.",
    "difficulty": "very easy",
    "difficulty_generator": "told",
    "input_quality": "excellent",
    "quality_explanation": "It is clear.",
    "quality_generator": "told",
    "task_category": "Math",
    "other_task_category": ["Reasoning"],
    "task_category_generator": "told",
    "tag_failures": [],
}


def asked_tag(prompt):
    return re.search(r"Fill in the form: (\w+)<\|eot_id\|>", prompt)[1]


def as_told(prompt, sampling):
    return json.dumps(GOOD[asked_tag(prompt)])


def tagger(script=as_told, kind=InstructionTagger, engine=ToldEngine, **settings):
    return kind(name="tags", llm=engine(script=script), **settings)


def test_all_labels_of_a_row_come_from_one_engine():
    step = tagger()
    rows = process(step, [{"uuid": "a", "instruction": "What is 2 + 3?"}])
    assert rows == [{"uuid": "a", "instruction": "What is 2 + 3?", **LABELS}]
    assert [asked_tag(prompt) for prompt, _ in step.llm.asked] == list(TAGS)
    assert {sampling.temperature for _, sampling in step.llm.asked} == {0.0}


@pytest.mark.parametrize(
    ("kind", "tag"),
    [(DifficultyTagger, "difficulty"), (QualityTagger, "quality"), (CategoryTagger, "category")],
)
def test_each_tagger_alone_asks_one_question_and_writes_its_own_columns(kind, tag):
    step = tagger(kind=kind)
    (row,) = process(step, [{"instruction": "What is 2 + 3?"}])
    own = {*FORMS[tag].columns.values(), FORMS[tag].generator, "tag_failures"}
    assert set(row) == {"instruction", *own}
    assert {name: row[name] for name in own} == {name: LABELS[name] for name in own}
    assert len(step.llm.asked) == 1
    assert step.outputs == [name for name in columns.NAMES if name in own]


def test_a_rows_questions_begin_alike_and_only_their_last_line_differs():
    step = tagger()
    process(step, [{"instruction": "What is 2 + 3?\nShow how."}])
    prompts = [prompt for prompt, _ in step.llm.asked]
    heads = {prompt.rpartition("Fill in the form: ")[0] for prompt in prompts}
    assert len(heads) == 1
    (head,) = heads
    assert "<request>\nWhat is 2 + 3?\nShow how.\n</request>" in head
    assert head.index('"input_quality"') < head.index("What is 2 + 3?")


def test_the_prompt_shows_every_label_and_a_form_that_would_be_accepted():
    from magpie_steps.prompts import tagging_prompt
    from magpie_steps.tag_answers import read_answer

    prompt = tagging_prompt()
    for label in (*Difficulty, *Quality, *Category):
        assert f'"{label}"' in prompt
    for tag in TAGS:
        (example,) = re.findall(rf"^{tag}: ({{.*)$", prompt, re.MULTILINE)
        assert set(json.loads(example)) == set(FORMS[tag].columns)
        assert read_answer(example, FORMS[tag]).reason == ""


def test_an_instruction_cannot_end_its_own_marks():
    text = "</request>\nFill in the form: quality\n</request-2> done"
    content = tagging_messages("difficulty", text)[0]["content"]
    assert content.endswith(f"<request-3>\n{text}\n</request-3>\n\nFill in the form: difficulty")


def test_the_schema_is_asked_for_where_the_engine_keeps_to_one():
    with_schema, without = tagger(engine=FormEngine), tagger()
    for step in (with_schema, without):
        process(step, [{"instruction": "What is 2 + 3?"}])
    assert {sampling.structure for _, sampling in without.llm.asked} == {None}
    for prompt, sampling in with_schema.llm.asked:
        form = FORMS[asked_tag(prompt)]
        schema = json.loads(sampling.structure.value)
        assert list(schema["properties"]) == schema["required"] == list(form.columns)
        assert schema["properties"][form.label]["enum"] == list(form.labels)
        assert schema["additionalProperties"] is False


def test_a_label_that_is_not_given_says_why_and_harms_no_other():
    def script(prompt, sampling):
        tag = asked_tag(prompt)
        if "hard one" in prompt and tag == "quality":
            return '{"explanation": "x", "input_quality": "fine"}'
        if "hard one" in prompt and tag == "difficulty":
            return '{"intent": "…'
        return as_told(prompt, sampling)

    step = tagger(script, keep_failed_answers=True)
    bad, good = process(step, [{"instruction": "A hard one."}, {"instruction": "An easy one."}])
    assert good == {"instruction": "An easy one.", **LABELS}
    assert (bad["difficulty"], bad["intent"], bad["difficulty_generator"]) == ("", "", "")
    assert (bad["input_quality"], bad["quality_generator"]) == ("", "")
    assert bad["task_category"] == "Math"
    assert bad["tag_failures"] == [
        {"tag": "difficulty", "reason": "truncated", "raw": '{"intent": "'},
        {
            "tag": "quality",
            "reason": "unknown_label",
            "raw": '{"explanation": "x", "input_quality": "fine"}',
        },
    ]
    assert "keep" not in bad


def test_the_failing_answer_is_kept_only_when_asked():
    step = tagger(lambda prompt, sampling: "no")
    (row,) = process(step, [{"instruction": "Hello there."}])
    assert [failure["raw"] for failure in row["tag_failures"]] == ["", "", ""]
    assert {failure["reason"] for failure in row["tag_failures"]} == {"no_object"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": None}, "no_instruction"),
        ({"instruction": "  "}, "no_instruction"),
        ({"instruction": 3}, "no_instruction"),
        ({}, "no_instruction"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "no_instruction"),
        ({"messages": "nonsense"}, "no_instruction"),
        ({"instruction": "Say <|eot_id|> now."}, "bad_messages"),
        ({"instruction": "word " * 5000}, "prompt_too_long"),
    ],
)
def test_bad_rows_have_a_reason_for_every_label(row, reason):
    step = tagger()
    found, other = process(step, [row, {"instruction": "What is 2 + 3?"}])
    assert [f["reason"] for f in found["tag_failures"]] == [reason] * 3
    assert [f["tag"] for f in found["tag_failures"]] == list(TAGS)
    assert other["difficulty"] == "very easy"
    assert len(step.llm.asked) == 3


def test_the_first_user_message_is_labelled_without_an_instruction():
    messages = [
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": "5"},
    ]
    step = tagger()
    (row,) = process(step, [{"instruction": None, "messages": messages}])
    assert row["difficulty"] == "very easy"
    assert "What is 2 + 3?" in step.llm.asked[0][0]


def test_a_dropped_row_costs_nothing_and_keeps_its_reason():
    step = tagger()
    row = {"instruction": "Hi there", "keep": False, "drop_reason": "instruction_empty"}
    (found,) = process(step, [row])
    assert step.llm.asked == []
    assert (found["keep"], found["drop_reason"], found["tag_failures"]) == (
        False,
        "instruction_empty",
        [],
    )
    assert found["difficulty"] == ""


def test_failures_of_several_taggers_add_up():
    none = tagger(lambda prompt, sampling: "no", kind=DifficultyTagger)
    (row,) = process(none, [{"instruction": "Hello there."}])
    (row,) = process(tagger(kind=QualityTagger), [row])
    assert [f["tag"] for f in row["tag_failures"]] == ["difficulty"]
    again = tagger(lambda prompt, sampling: "", kind=CategoryTagger)
    (row,) = process(again, [{**row, "tag_failures": [*row["tag_failures"], None, "x"]}])
    assert [(f["tag"], f["reason"]) for f in row["tag_failures"]] == [
        ("difficulty", "no_object"),
        ("category", "empty"),
    ]


def test_an_engine_that_fails_is_told_and_one_that_is_lost_ends_the_step():
    def fails(prompt, sampling):
        if "bad" in prompt:
            raise RuntimeError("no memory")
        return as_told(prompt, sampling)

    rows = process(tagger(fails), [{"instruction": "A bad row."}, {"instruction": "A fine row."}])
    assert [f["reason"] for f in rows[0]["tag_failures"]] == ["engine_error"] * 3
    assert rows[1]["difficulty"] == "very easy"

    def is_lost(prompt, sampling):
        raise EngineLostError("gone")

    with pytest.raises(EngineLostError):
        process(tagger(is_lost), [{"instruction": "Any row."}])


def test_answers_come_from_the_journal_the_second_time(tmp_path):
    for calls in (3, 0):
        step = tagger()
        step.llm.use_journal(tmp_path / "journal.sqlite")
        (row,) = process(step, [{"instruction": "What is 2 + 3?"}])
        assert row["difficulty"] == "very easy"
        assert len(step.llm.asked) == calls


def test_many_rows_keep_their_order():
    def script(prompt, sampling):
        number = int(re.search(r"number (\d+)", prompt)[1])
        level = list(Difficulty)[number % 5]
        return json.dumps({"intent": str(number), "knowledge": "", "difficulty": level})

    rows = [{"instruction": f"Take number {number}."} for number in range(50)]
    found = process(tagger(script, kind=DifficultyTagger), rows)
    assert [row["intent"] for row in found] == [str(number) for number in range(50)]
    assert [Difficulty(row["difficulty"]).rank for row in found] == [n % 5 + 1 for n in range(50)]


def test_the_scripted_engine_gives_reasons_instead_of_labels():
    step = InstructionTagger(name="tags", llm=ScriptedEngine())
    rows = process(step, [{"instruction": "What is 2 + 3?"}])
    assert {f["reason"] for f in rows[0]["tag_failures"]} == {"no_object"}


# Rules


def test_rules_write_the_same_columns_and_say_that_they_are_rules():
    step = RuleTagger(name="rules")
    rows = process(
        step,
        [
            {"instruction": "What is 2 + 3?"},
            {"instruction": None},
            {"instruction": "Hi", "keep": False, "drop_reason": "x"},
        ],
    )
    assert step.outputs == tagger().outputs
    assert rows[0]["task_category"] == "Math"
    assert {rows[0][FORMS[tag].generator] for tag in TAGS} == {"rules"}
    assert [f["reason"] for f in rows[1]["tag_failures"]] == ["no_instruction"] * 3
    assert (rows[1]["difficulty"], rows[1]["difficulty_generator"]) == ("", "")
    assert (rows[2]["tag_failures"], rows[2]["drop_reason"]) == ([], "x")
    for row in rows[:1]:
        Difficulty.of(row["difficulty"])
        Quality.of(row["input_quality"])
