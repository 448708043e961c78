"""What a base model is asked, and where its answer ends."""

from typing import get_args

import pytest

from magpie_steps import prompts
from magpie_steps.base_prompts import PromptStyle, text_styles

RAW, FEW_SHOT = text_styles()["raw"], text_styles()["few_shot"]


def test_every_style_but_the_chat_template_is_text():
    assert {*text_styles(), "template"} == set(get_args(PromptStyle))


def test_the_raw_prompt_is_the_instruction_and_a_blank_line():
    assert RAW.prompt(" What is a {noun}?\n") == "What is a {noun}?\n\n"


def test_the_few_shot_prompt_goes_on_in_the_form_of_its_examples():
    prompt = FEW_SHOT.prompt("What is a {noun}?")
    assert prompt == (
        f"{prompts.few_shot_prompt()}\n\n[Question]\nWhat is a {{noun}}?\n\n[Answer]\n"
    )
    preamble, *asked = prompt.split("\n\n[Question]\n")
    assert "\n" not in preamble
    assert len(asked) == 4
    answers = [each.partition("\n\n[Answer]\n")[2] for each in asked]
    assert all(answers[:3])
    assert answers[3] == ""


def test_the_examples_are_short_ascii_and_in_our_form():
    """They are in every prompt: an embedded model with a context of 512 tokens must hold them."""
    text = prompts.few_shot_prompt()
    assert text.isascii()
    assert len(text.split()) < 170
    assert text.count("[Question]\n") == text.count("[Answer]\n") == 3


@pytest.mark.parametrize("name", text_styles())
def test_whatever_the_engine_stops_at_is_cut_too(name):
    style = text_styles()[name]
    for stop in style.stop_strings:
        line = stop.lstrip("\n")
        assert style.cut(f"Paris.\n\n{line} more").rstrip() == "Paris."
        assert style.cut(f"{line} more") == ""


@pytest.mark.parametrize(
    ("name", "run_on"),
    [
        ("few_shot", "[question]\nWhat?"),
        ("few_shot", "[Question 5]\nWhat?"),
        ("few_shot", "  [ Answer ]"),
        ("few_shot", "**[Question]**"),
        ("raw", "QUESTION: What?"),
        ("raw", "Question 2: What?"),
        ("raw", "**Question**: What?"),
        ("raw", "**Q:** What?"),
        ("raw", "> User: What?"),
        ("raw", "## Instruction\nDo it."),
    ],
)
def test_a_further_question_is_cut_in_other_forms_too(name, run_on):
    assert text_styles()[name].cut(f"Paris.\n{run_on}\n").rstrip() == "Paris."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("few_shot", "Ask yourself:\nQuestion: why?\nUser: me"),
        ("few_shot", "Put the [Questionnaire] on the desk.\nArrays: [answers, x]"),
        ("few_shot", "[1] a\n[2] b"),
        ("few_shot", "[question for question in quiz]\n[answer, question]"),
        ("raw", "The question: why?\nUsers: many\nQuestions:\n1. a\nUser guide: b\nQuit: q"),
        ("raw", "An instruction: do it\n# Instructions for use"),
        ("raw", "a\n\nb\n"),
    ],
)
def test_an_answer_is_not_cut_for_its_words(name, text):
    assert text_styles()[name].cut(text) == text
