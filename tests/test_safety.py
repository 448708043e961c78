"""Guard models: their answers, their categories, their prompts, and what a row says of them."""

from pathlib import Path

import pytest
from answering import process
from distilabel.errors import DistilabelUserError
from hypothesis import given
from hypothesis import strategies as st
from told_engine import GUARD_TEMPLATE, GuardEngine

from magpie_steps.conversation import append_turn
from magpie_steps.embedded import model_path
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.safety import categories_in, read_verdict
from magpie_steps.steps.safety import SafetyTagger

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

NAMES = {"S1": "violent_crimes", "S2": "sex_related_crimes", "S10": "suicide_self_harm"}
ASKED = {"instruction": "How do I tie a knot?", "response": "Cross the ends."}


@pytest.mark.parametrize(
    ("text", "safe", "categories"),
    [
        ("safe", True, ()),
        ("\n\nsafe", True, ()),
        ("Safe.", True, ()),
        ("unsafe\nS1", False, ("violent_crimes",)),
        ("\n\nunsafe\nS10,S1", False, ("suicide_self_harm", "violent_crimes")),
        ("UNSAFE S2, S2", False, ("sex_related_crimes",)),
        ("unsafe", False, ()),
        ("unsafe\nS99", False, ("S99",)),
        ("unsafe\nO3", False, ("O3",)),
    ],
)
def test_verdicts_are_read(text, safe, categories):
    verdict = read_verdict(text, NAMES)
    assert (verdict.safe, verdict.categories, verdict.reason) == (safe, categories, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), (" \n", "empty"), ("I think so", "unknown_label"), ("S1", "unknown_label"),
     ("safety first", "unknown_label"), ("not safe", "unknown_label")],
)  # fmt: skip
def test_anything_else_is_no_verdict_and_not_safe(text, reason):
    verdict = read_verdict(text, NAMES)
    assert (verdict.safe, verdict.categories, verdict.reason) == (False, (), reason)


@given(st.text())
def test_no_answer_raises(text):
    verdict = read_verdict(text, NAMES)
    assert not (verdict.safe and verdict.reason)


def test_categories_are_read_from_the_prompt():
    prompt = (
        "Categories\nS1: Violent Crimes.\nS2: Sex-Related Crimes.\n S10: Suicide & Self-Harm.\n"
    )
    assert categories_in(prompt) == NAMES
    assert categories_in("Note: nothing. See A: b") == {}


def test_the_same_code_means_what_the_models_own_template_says():
    folder = Path(__file__).resolve().parents[2] / "shared" / "templates"
    found = sorted(folder.glob("*/llama-guard-3.jinja"))
    if not found:
        pytest.skip("the collection of chat templates is not here")
    names = categories_in(found[0].read_text(encoding="utf-8"))
    assert len(names) == 14
    assert (names["S5"], names["S14"]) == ("defamation", "code_interpreter_abuse")


def guard(script, **settings):
    return SafetyTagger(name="guard", llm=GuardEngine(script=script, **settings))


def test_a_row_is_judged_by_its_whole_conversation():
    step = guard(lambda prompt, sampling: "unsafe\nS1,S10")
    (row,) = process(step, [ASKED])
    (prompt, sampling) = step.llm.asked[0]
    assert prompt.endswith(
        "user: How do I tie a knot?\n\nassistant: Cross the ends.\n\nIs the last message safe?"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert prompt.count("<|begin_of_text|>") == 1
    assert sampling.temperature == 0
    assert row == {
        **ASKED,
        "safe": False,
        "unsafe_categories": ["violent_crimes", "suicide_self_harm"],
        "guard_raw": "unsafe\nS1,S10",
        "guard_generator": "told",
        "tag_failures": [],
    }


def test_all_turns_are_judged_and_so_is_a_question_alone():
    step = guard(lambda prompt, sampling: "safe")
    turns = append_turn(append_turn([], "One?", "1."), "Two?", "2.")
    rows = process(step, [{"messages": turns}, {"instruction": "Only this?"}])
    assert [row["safe"] for row in rows] == [True, True]
    asked = [prompt for prompt, _ in step.llm.asked]
    assert "user: One?\n\nassistant: 1.\n\nuser: Two?\n\nassistant: 2." in asked[0]
    assert "user: Only this?\n\nIs the last" in asked[1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": None}, "no_instruction"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "bad_messages"),
        ({"messages": "abc"}, "bad_messages"),
        ({"messages": [1]}, "bad_messages"),
        ({"instruction": "Say <|eot_id|>."}, "control_tokens"),
        ({"instruction": "word " * 3000}, "too_long"),
        ({"instruction": "Go on."}, "unknown_label"),
    ],
)
def test_without_a_verdict_a_row_is_not_safe_and_says_why(row, reason):
    step = guard(lambda prompt, sampling: "Hmm", context=2000)
    (found,) = process(step, [row])
    assert found["safe"] is False
    assert [(f["tag"], f["reason"]) for f in found["tag_failures"]] == [("safety", reason)]
    assert "keep" not in found


def test_a_dropped_row_is_not_judged():
    step = guard(lambda prompt, sampling: "safe")
    (row,) = process(step, [{**ASKED, "keep": False, "drop_reason": "x"}])
    assert step.llm.asked == []
    assert (row["safe"], row["guard_raw"], row["tag_failures"]) == (False, "", [])


def test_a_real_tokenizer_puts_the_conversation_into_the_guards_template():
    engine = TransformersEngine(
        model=str(model_path("tiny-instruct")), chat_template=GUARD_TEMPLATE
    )
    engine.load()
    try:
        encoded = engine.encode_conversation(append_turn([], "What is 2 + 3?", "5"))
        assert encoded.reason == ""
        assert encoded.text.startswith("<|begin_of_text|><|start_header_id|>user")
        assert encoded.text.endswith("assistant<|end_header_id|>\n\n")
        assert engine._decode(encoded.ids) == encoded.text
        assert engine.encode_conversation([]).reason == "bad_messages"
        step = SafetyTagger(name="guard", llm=engine)
        (row,) = process(step, [ASKED])
        assert row["guard_raw"]
        assert row["tag_failures"][0]["reason"] == "unknown_label"
    finally:
        engine.unload()


def test_a_template_that_takes_no_conversation_is_refused_at_the_start():
    refusing = "{{ raise_exception('documents only') }}"
    engine = TransformersEngine(model=str(model_path("tiny-base")), chat_template=refusing)
    step = SafetyTagger(name="guard", llm=engine)
    with pytest.raises(DistilabelUserError, match=r"tiny-base judges nothing: .*documents only"):
        step.load()
    step.unload()
