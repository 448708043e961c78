"""Where a thought ends and the answer begins, for templates of all kinds."""

import json
import string
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.reasoning import (
    Marks,
    Reasoned,
    find_marks,
    find_opening,
    recall,
    split_reasoning,
)
from magpie_steps.rendering import ChatRenderer, ChatTemplateError
from magpie_steps.templates import PreQueryTemplate

TEMPLATES = Path(__file__).parents[2] / "shared" / "templates"
needs_templates = pytest.mark.skipif(
    not (TEMPLATES / "manifest.json").is_file(), reason="the real chat templates are not here"
)

THINK = Marks("<think>", "</think>")
HARMONY = Marks(
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)
COMMAND = Marks("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>", "<|START_RESPONSE|>")

# Drops the thoughts before the last user turn, and closes an empty one when told not to think.
FIELD_TEMPLATE = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% elif force %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
CHANNEL_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.thinking and loop.last %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def marks_of(source, **kwargs):
    return find_marks(ChatRenderer(source, {}, kwargs))


def post_query(source, **kwargs):
    renderer = ChatRenderer(source, {}, kwargs)
    asked = [{"role": "user", "content": "U?"}]
    return renderer.render(asked, add_generation_prompt=True).partition("U?")[2]


@pytest.mark.parametrize(
    "kwargs", [{}, {"force": True}, {"enable_thinking": False}, {"enable_thinking": True}]
)
def test_marks_are_cut_out_of_what_the_template_renders_whatever_its_prompt_opens(kwargs):
    assert marks_of(FIELD_TEMPLATE, **kwargs) == THINK


def test_marks_of_channels_hold_the_turn_that_is_opened_between_thought_and_answer():
    assert marks_of(CHANNEL_TEMPLATE) == HARMONY


def test_a_model_that_does_not_think_has_no_marks():
    assert marks_of(PLAIN_TEMPLATE) is None


@pytest.mark.parametrize(
    ("mention", "marks"),
    [
        ("{% set answer = 'x'.split('</think>')[-1] %}", THINK),
        ("{# the model opens with <think> #}", THINK),
        ("{{ '[THINK]' if x }}", Marks("[THINK]", "[/THINK]")),
        ("{# <seed:think> #}", Marks("<seed:think>", "</seed:think>")),
        ("{# <thought> #}", Marks("<thought>", "</thought>")),
        ("{# <|START_THINKING|> #}", Marks("<|START_THINKING|>", "<|END_THINKING|>")),
        ("{# <|inner_prefix|> #}", Marks("<|inner_prefix|>", "<|inner_suffix|>")),
        ("{{ '<channel|>' if x }}", Marks("<|channel>thought", "<channel|>")),
        (
            "{# Write your thoughts between <think></think> and write your response between"
            " <response></response>. #}",
            Marks("<think>", "</think>", "<response>", "</response>"),
        ),
        (
            "{# Write your thoughts after 'My thoughts:' and write your response after 'So:' #}",
            Marks("My thoughts:", "So:"),
        ),
        (
            "{# in the format: [BEGIN FINAL RESPONSE] ... [END FINAL RESPONSE] #}",
            Marks("", "[BEGIN FINAL RESPONSE]", answer_close="[END FINAL RESPONSE]"),
        ),
        ("{% if enable_thinking %}{% endif %}", THINK),
        ("{# list your reasoning, then call a tool #}", None),
    ],
)
def test_a_template_that_renders_no_thought_may_mention_its_marks(mention, marks):
    assert marks_of(mention + PLAIN_TEMPLATE) == marks


def test_a_template_that_refuses_thoughts_has_no_marks_and_raises_nothing():
    refusing = "{{ raise_exception('no assistant') if messages | length > 1 }}" + PLAIN_TEMPLATE
    assert marks_of(refusing) is None


@pytest.mark.parametrize(
    "source",
    [
        "a" * 200_000,
        "<answer>" * 25_000 + "<think>",
        "a:" * 100_000,
        " ".join(f"think{'ab'[n % 2] * (n % 20)}:{n}" for n in range(20_000)),
        "thoughts after '" * 12_000,
        "[BEGIN A" * 25_000,
        "<|" * 100_000,
    ],
    ids=len,
)
def test_no_template_takes_long_to_look_through(source):
    start = time.process_time()
    marks_of("{# " + source + " #}" + PLAIN_TEMPLATE)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("kwargs", "opening"),
    [({}, ""), ({"force": True}, "<think>\n"), ({"enable_thinking": False}, "")],
)
def test_a_prompt_opens_a_thought_unless_it_closes_it_again(kwargs, opening):
    assert find_opening(post_query(FIELD_TEMPLATE, **kwargs), THINK) == opening


CASES = [
    (THINK, False, "<think>\nSum.\n</think>\n\nFour.", ("Sum.", "Four.")),
    (THINK, True, "Sum.\n</think>\n\nFour.", ("Sum.", "Four.")),
    (THINK, True, "<think>\nSum.\n</think>\n\nFour.", ("Sum.", "Four.")),
    (THINK, False, "Sum.</think>Four.", ("Sum.", "Four.")),
    (THINK, False, "<think>\n\n</think>\n\nFour.", ("", "Four.")),
    (THINK, False, "</think>Four.", ("", "Four.")),
    (THINK, False, "  Four.\n", ("", "Four.")),
    (THINK, False, "<think>Sum.</think>", ("Sum.", "")),
    (THINK, False, "", ("", "")),
    (None, False, "<think>Sum.</think>Four. ", ("", "<think>Sum.</think>Four. ")),
    (
        HARMONY,
        False,
        f"{HARMONY.open}Sum.{HARMONY.close}Four.",
        ("Sum.", "Four."),
    ),
    (HARMONY, False, "<|channel|>final<|message|>Four.", ("", "Four.")),
    (HARMONY, False, "analysisSum.assistantfinalFour.", ("Sum.", "Four.")),
    (HARMONY, False, "The analysis: the assistantfinal word.", ("", "SAME")),
    (COMMAND, False, f"{COMMAND.open}Sum.{COMMAND.close}Four.", ("Sum.", "Four.")),
    (
        COMMAND,
        False,
        "<|START_THINKING|>Sum.<|END_THINKING|>\n<|START_RESPONSE|>Four.",
        ("Sum.", "Four."),
    ),
    (COMMAND, False, "<|START_RESPONSE|>Four.", ("", "Four.")),
    (
        Marks("<think>", "</think>", "<answer>", "</answer>"),
        True,
        "Sum.</think> <answer> Four. </answer>",
        ("Sum.", "Four."),
    ),
    (
        Marks("", "[BEGIN FINAL RESPONSE]", answer_close="[END FINAL RESPONSE]"),
        False,
        "Sum.\n[BEGIN FINAL RESPONSE]\nFour.\n[END FINAL RESPONSE]",
        ("Sum.", "Four."),
    ),
    (
        Marks("Here is my thought process:", "Here is my response:"),
        False,
        "Here is my thought process:\nSum.\nHere is my response:\nFour.",
        ("Sum.", "Four."),
    ),
]


@pytest.mark.parametrize(("marks", "opened", "text", "parts"), CASES)
def test_a_turn_is_taken_apart(marks, opened, text, parts):
    thought, answer = parts
    expected = Reasoned(thought, text if answer == "SAME" else answer)
    assert split_reasoning(text, marks, opened=opened) == expected


@pytest.mark.parametrize(
    ("marks", "opened", "text", "thought"),
    [
        (THINK, False, "<think>\nSum and", "Sum and"),
        (THINK, True, "Sum and", "Sum and"),
        (THINK, True, "", ""),
        (HARMONY, False, f"{HARMONY.open}Sum and", "Sum and"),
        (HARMONY, False, "analysisSum and", "Sum and"),
        (Marks("<|channel>thought", "<channel|>"), False, "<|channel>thought\nSum", "Sum"),
        # Without its special tokens nothing says where this thought ends.
        (Marks("<|channel>thought", "<channel|>"), False, "thought\nSum\nFour.", "Sum\nFour."),
    ],
)
def test_a_thought_that_is_not_closed_leaves_no_answer(marks, opened, text, thought):
    assert split_reasoning(text, marks, opened=opened) == Reasoned(thought, "", closed=False)


@pytest.mark.parametrize(
    "text",
    [
        "<think>Sum.</think>Four.</think>Five.",
        "<think>Sum.</think>Four. <think>No.</think>Five.",
        "<think>Sum. <think>More.</think>Four.",
        "Well. <think>Sum.</think>Four.",
        "Four. <think>",
    ],
)
def test_a_second_mark_is_stray(text):
    assert split_reasoning(text, THINK).stray


def test_thoughts_are_recalled_from_the_last_answer_on_and_change_no_message():
    said = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    ]
    before = json.dumps(said)
    told = recall(said, ["of d"])
    assert [message.get("reasoning") for message in told] == [None, None, None, "of d", None]
    assert recall(said, ["of b", ""])[1]["reasoning"] == "of b"
    assert recall(said, ["", ""]) == said
    assert json.dumps(said) == before


words = st.text(string.printable, max_size=60)


@given(words, words)
def test_any_two_texts_come_back_as_they_went_in(thought, answer):
    """Unless they look like a mark themselves; white space around them aside."""
    for marks in (THINK, HARMONY, COMMAND):
        parts = split_reasoning(marks.open + thought + marks.close + answer, marks)
        if not parts.stray and "<" not in thought + answer:
            assert (parts.reasoning, parts.answer) == (thought.strip(), answer.strip())


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_taken_apart_without_an_error(text, opened):
    for marks in (None, THINK, HARMONY, COMMAND):
        parts = split_reasoning(text, marks, opened=opened)
        assert parts.closed or not parts.answer


# --- the real templates -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def derived():
    """The named templates of models that think, and the known ones, with a renderer each."""
    found = {}
    for entry in json.loads((TEMPLATES / "manifest.json").read_text())["templates"]:
        source = (TEMPLATES / entry["file"]).read_text(encoding="utf-8")
        tokens = {name: entry[name] for name in ("bos_token", "eos_token") if entry.get(name)}
        renderer = ChatRenderer(source, tokens)
        if not entry["file"].startswith("corpus/"):
            continue
        if entry["name"] not in KNOWN and find_marks(renderer) is None:
            continue
        try:
            template = PreQueryTemplate.from_template(source, tokens)
        except ChatTemplateError:
            continue
        renderer = replace(renderer, content_format=template.content_format)
        found[entry["name"]] = (renderer, template)
    return found


KNOWN = {
    "qwen3": (THINK, None),
    "qwq-32b": (THINK, "<think>\n"),
    "deepseek-r1": (THINK, None),
    "deepseek-r1-distill-llama": (THINK, "<think>\n"),
    "deepseek-v3.1": (THINK, None),
    "glm-4.5": (THINK, None),
    "glm-5.1": (THINK, "<think>"),
    "gpt-oss": (HARMONY, None),
    "gemma-4-31b": (Marks("<|channel>thought", "<channel|>"), None),
    "gemma-4-e2b": (Marks("<|channel>thought", "<channel|>"), None),
    "command-a-reasoning": (COMMAND, None),
    "solar-open": (
        Marks("<|think|>", "<|end|><|begin|>assistant<|content|>", "<|content|>"),
        None,
    ),
    "apertus": (Marks("<|inner_prefix|>", "<|inner_suffix|>"), None),
    "seed-oss": (Marks("<seed:think>", "</seed:think>"), None),
    "hy3": (Marks("<think:opensource>", "</think:opensource>"), None),
    "ministral-3-reasoning": (Marks("[THINK]", "[/THINK]"), None),
    "mistral-common-v13-think": (Marks("[THINK]", "[/THINK]"), None),
    "mistral-common-v11-think": (THINK, None),
    "granite-3.2": (Marks("Here is my thought process:", "Here is my response:"), None),
    "granite-3.3": (Marks("<think>", "</think>", "<response>", "</response>"), None),
    "hunyuan-a13b": (THINK, None),
    "apriel-1.6": (
        Marks("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
        "Here are my reasoning steps:\n",
    ),
    "llama-3.1": (None, None),
    "gemma-3": (None, None),
    "qwen2.5": (None, None),
}


@needs_templates
@pytest.mark.parametrize("name", KNOWN)
def test_the_marks_of_known_models(name, derived):
    marks, opening = KNOWN[name]
    _, template = derived[name]
    assert template.reasoning_marks == marks
    assert template.opens_reasoning == (marks and opening and (opening, marks.close))


@needs_templates
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("command-a-reasoning", {"reasoning": False}),
        ("solar-open", {"reasoning_effort": "low"}),
        ("qwen3", {"enable_thinking": False}),
        ("glm-4.5", {"enable_thinking": False}),
        ("glm-5.1", {"enable_thinking": False}),
        ("gemma-4-e2b", {"enable_thinking": False}),
        ("deepseek-v3.1", {"thinking": False}),
    ],
)
def test_a_prompt_that_ends_the_thought_at_once_opens_none(name, kwargs, derived):
    renderer, template = derived[name]
    switched = PreQueryTemplate.from_template(
        renderer.source, renderer.special_tokens, response_kwargs=kwargs
    )
    assert switched.opens_reasoning is None
    marks = switched.reasoning_marks
    assert marks.open == template.reasoning_marks.open
    assert switched.split_reasoning(f"{marks.answer_open}Four.") == Reasoned("", "Four.")


@needs_templates
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("deepseek-v3.1", {"thinking": True}),
        ("deepseek-v3.2", {"enable_thinking": True}),
        ("exaone-4", {"enable_thinking": True}),
    ],
)
def test_a_prompt_may_open_a_thought_when_it_is_told_to(name, kwargs, derived):
    renderer, _ = derived[name]
    switched = PreQueryTemplate.from_template(
        renderer.source, renderer.special_tokens, response_kwargs=kwargs
    )
    assert switched.opens_reasoning[0].strip() == "<think>"
    assert switched.split_reasoning("Sum.\n</think>\n\nFour.") == Reasoned("Sum.", "Four.")
    assert not switched.split_reasoning("Sum and").closed


@needs_templates
def test_what_a_real_template_renders_is_taken_apart_again(derived):
    """A model writes what a final answer with a thought has after the prompt."""
    thought, answer = "First two,\n\nthen two more.", "It is four."
    asked = [{"role": "user", "content": "What is 2 + 2?"}]
    seen = 0
    for name, (renderer, template) in derived.items():
        try:
            prompt = renderer.render(asked, add_generation_prompt=True)
            told = recall([*asked, {"role": "assistant", "content": answer}], [thought])
            whole = renderer.render(told)
        except ChatTemplateError:
            continue
        if thought not in whole or not whole.startswith(prompt) or answer not in whole:
            continue
        seen += 1
        text = whole.removeprefix(prompt)
        text = text[: text.rindex(answer) + len(answer)]
        assert template.split_reasoning(text) == Reasoned(thought, answer), name
    assert seen >= 20


@needs_templates
def test_no_pre_query_of_a_real_template_opens_a_thought(derived):
    """Nor does a history of thoughts: the template keeps or drops them by its own rule."""
    history = [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "It is four."},
    ]
    thinking = 0
    for name, (_, template) in derived.items():
        marks = template.reasoning_marks
        if marks is None or not marks.open:
            continue
        thinking += 1
        texts = [template.pre_query]
        if "multi_turn_unsupported" not in template.hazards:
            texts += [template.pre_query_text(recall(history, each)) for each in ([], ["Sum."])]
        if template.system_mode == "separate":
            texts.append(template.pre_query_text((), "You are a math tutor."))
        for text in texts:
            # A system prompt may explain the marks; what counts is the user's turn.
            turn = text[text.rfind(template.user_header.strip()) :]
            assert marks.open not in turn, name
            assert text.endswith(template.user_header) or marks.open not in text[-40:], name
    assert thinking >= 60


@needs_templates
@pytest.mark.parametrize(
    ("name", "kept"),
    [("qwen3", False), ("gpt-oss", False), ("deepseek-r1", False), ("seed-oss", True)],
)
def test_thoughts_in_a_history_are_kept_by_the_models_own_rule(name, kept, derived):
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    _, template = derived[name]
    assert ("Be kind." in template.pre_query_text(recall(history, ["Be kind."]))) is kept
