"""Every untidy answer gives its label, or a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.reasons import TAG_REASONS
from magpie_steps.tag_answers import read_answer
from magpie_steps.tagging import FORMS

DIFFICULTY, QUALITY, CATEGORY = FORMS["difficulty"], FORMS["quality"], FORMS["category"]


def difficulty(value, before='"intent": "a", "knowledge": "b", '):
    return f'{{{before}"difficulty": {value}}}'


DIFFICULTIES = [
    # As asked for.
    (difficulty('"very easy"'), "very easy"),
    (difficulty('"hard"'), "hard"),
    ('{"difficulty":"medium","intent":"a","knowledge":"b"}', "medium"),
    # Line breaks in a text.
    ('{"intent": "a\nb", "knowledge": "c\n\nd", "difficulty": "easy"}', "easy"),
    ('{\n  "intent": "a",\n  "knowledge": "b",\n  "difficulty": "easy"\n}\n', "easy"),
    ('{"intent": "a\tb\r\n", "knowledge": "", "difficulty": "easy"}', "easy"),
    # Backslashes.
    (
        r'{"intent": "solve \(x\)", "knowledge": "\frac{1}{2}", "difficulty": "very hard"}',
        "very hard",
    ),
    (r'{"intent": "C:\dir\new", "knowledge": "b", "difficulty": "hard"}', "hard"),
    (r'{"intent": "\sqrt{2} \cdot \alpha", "knowledge": "b", "difficulty": "hard"}', "hard"),
    (r"{\"intent\": \"a\", \"knowledge\": \"b\", \"difficulty\": \"hard\"}", "hard"),
    # Quotes in a text.
    ('{"intent": "says "hello" twice", "knowledge": "b", "difficulty": "medium"}', "medium"),
    ('{"intent": ""quoted"", "knowledge": "the "x", "y"", "difficulty": "medium"}', "medium"),
    ("{'intent': 'a', 'knowledge': 'it's b', 'difficulty': 'hard'}", "hard"),
    ("{“intent”: “a”, “knowledge”: “b”, “difficulty”: “hard”}", "hard"),
    # Commas and brackets too many or too few.
    ('{"intent": "a", "knowledge": "b", "difficulty": "easy",}', "easy"),
    ('{"intent": "a",, "knowledge": "b", "difficulty": "easy"}', "easy"),
    ('{"intent": "a" "knowledge": "b" "difficulty": "easy"}', "easy"),
    ('{"intent": "a"\n"knowledge": "b"\n"difficulty": "easy"}', "easy"),
    ('{{"intent": "a", "knowledge": "b", "difficulty": "hard"}}', "hard"),
    ('{\n{"intent": "a", "knowledge": "b", "difficulty": "hard"}', "hard"),
    ('"intent": "a", "knowledge": "b", "difficulty": "hard"}', "hard"),
    ('[{"intent": "a", "knowledge": "b", "difficulty": "hard"}]', "hard"),
    # Braces in a text.
    ('{"intent": "use { and }", "knowledge": "f(x) = {x}", "difficulty": "hard"}', "hard"),
    ('{"intent": "a } b", "knowledge": "say "}"", "difficulty": "hard"}', "hard"),
    # Text around the object.
    ('```json\n{"intent": "a", "knowledge": "b", "difficulty": "hard"}\n```\nI hope so.', "hard"),
    (
        'Sure! Here it is: {"intent": "a", "knowledge": "b", "difficulty": "hard"} Anything else?',
        "hard",
    ),
    ('<think>is it "difficulty": "easy"?</think>\n' + difficulty('"hard"'), "hard"),
    (difficulty('"hard"') + "\n" + difficulty('"hard"'), "hard"),
    # Case, marks and brackets around a label.
    (difficulty('"Very Easy"'), "very easy"),
    (difficulty('"EASY"'), "easy"),
    (difficulty('"very_hard"'), "very hard"),
    (difficulty('"Very-Hard."'), "very hard"),
    (difficulty('"[very easy]"'), "very easy"),
    (difficulty('"<medium>"'), "medium"),
    (difficulty('"**hard**"'), "hard"),
    (difficulty("\"'easy'\""), "easy"),
    (difficulty('" medium "'), "medium"),
    (difficulty('["hard"]'), "hard"),
    (difficulty("[very hard]"), "very hard"),
    (difficulty("very hard"), "very hard"),
    (difficulty('"hard difficulty"'), "hard"),
    (difficulty('"4 - hard"'), "hard"),
    (difficulty('"hard (needs calculus)"'), "hard"),
    (difficulty('"easy: anybody knows"'), "easy"),
    # Keys of another kind.
    ('{"Intent": "a", "KNOWLEDGE": "b", "Difficulty": "easy"}', "easy"),
    ('{"intent": "a", "knowledge": "b", "Difficulty Level": "easy"}', "easy"),
    ("intent: a\nknowledge: b\ndifficulty: easy", "easy"),
    ("**Intent:** a\n**Difficulty:** very hard", "very hard"),
    ("- difficulty = hard", "hard"),
    # A label alone.
    ("hard", "hard"),
    ("**Very easy**.", "very easy"),
    # Cut off behind the label.
    ('{"intent": "a", "knowledge": "b", "difficulty": "easy"', "easy"),
    ('{"difficulty": "easy", "intent": "a user wan', "easy"),
    ('{"difficulty": "easy", "intent": "says "hi', "easy"),
]
NO_DIFFICULTY = [
    # A label inside a text is none, nor one in thoughts that do not end.
    ('{"intent": "The user lists (a) category, difficulty: easy, or more', "truncated"),
    ('{"intent": "It asks about pairs; difficulty: easy; and more of it"', "truncated"),
    ("<think>Let me see.\n- Difficulty: hard.\nBut wait", "empty"),
    ('{"intent": "Parse {"difficulty": "hard"}.", "difficulty": "easy"}', "several_labels"),
    ("", "empty"),
    (" \n\t", "empty"),
    ("<think>hm</think>", "empty"),
    ("It is not hard.", "no_object"),
    ("I cannot judge this.", "no_object"),
    ("2 + 3 is 5.", "no_object"),
    ("[1, 2]", "no_object"),
    ("{}", "missing_key"),
    ('{"intent": "a", "knowledge": "b"}', "missing_key"),
    (difficulty("null"), "missing_key"),
    (difficulty('""'), "missing_key"),
    (difficulty("[]"), "missing_key"),
    (difficulty('"impossible"'), "unknown_label"),
    (difficulty('"moderate"'), "unknown_label"),
    (difficulty('"not hard"'), "unknown_label"),
    (difficulty("3"), "unknown_label"),
    (difficulty("true"), "unknown_label"),
    (difficulty('{"level": "hard"}'), "unknown_label"),
    (difficulty('"good"'), "unknown_label"),
    (difficulty('"medium to hard"'), "several_labels"),
    (difficulty('"easy/medium"'), "several_labels"),
    (difficulty('"very easy|easy|medium|hard|very hard"'), "several_labels"),
    (difficulty('["hard", "easy"]'), "several_labels"),
    (difficulty('"easy"') + difficulty('"hard"'), "several_labels"),
    ("easy or hard", "several_labels"),
    ('{"intent": "a", "knowledge": "b", "difficulty": "eas', "truncated"),
    ('{"intent": "a", "knowledge": "b", "difficulty": "very', "truncated"),
    ('{"intent": "a", "knowledge": "b", "difficulty":', "truncated"),
    ('{"intent": "a", "know', "truncated"),
    ('{"intent": "the user wants', "truncated"),
    ("{", "truncated"),
]
CATEGORIES = [
    ('{"primary_tag": "Math", "other_tags": ["Reasoning"]}', "Math", ["Reasoning"]),
    ('{"primary_tag": "Others", "other_tags": []}', "Others", []),
    ('{"primary_tag": "Other", "other_tags": ["Others", "other"]}', "Others", []),
    ('{"primary_tag": "other.", "other_tags": null}', "Others", []),
    ('{"primary_tag": "coding and debugging", "other_tags": []}', "Coding & Debugging", []),
    ('{"primary_tag": "Coding & debugging", "other_tags": []}', "Coding & Debugging", []),
    ('{"primary_tag": "Coding", "other_tags": []}', "Coding & Debugging", []),
    ('{"primary_tag": "Debugging", "other_tags": []}', "Coding & Debugging", []),
    ('{"primary_tag": "information-seeking", "other_tags": [],}', "Information seeking", []),
    ('{"primary_tag": "INFORMATION_SEEKING"}', "Information seeking", []),
    (
        '{"primary_tag": "[Role-playing]", "other_tags": [Math, Reasoning',
        "Role playing",
        ["Math", "Reasoning"],
    ),
    (
        '{"primary_tag": "Roleplaying", "other_tags": "Math, Planning"}',
        "Role playing",
        ["Math", "Planning"],
    ),
    ('{"primary_tag": "Mathematics", "other_tags": ["Math", "math", "Cooking", 3]}', "Math", []),
    ("primary_tag: Data analysis\nother_tags: [Math]", "Data analysis", ["Math"]),
    (
        '{"Primary Tag": "Editing", "Other Tags": ["Creative Writing"]}',
        "Editing",
        ["Creative writing"],
    ),
]


@pytest.mark.parametrize(("text", "label"), DIFFICULTIES)
def test_a_label_that_is_there_is_found(text, label):
    answer = read_answer(text, DIFFICULTY)
    assert answer.reason == ""
    assert answer.values["difficulty"] == label
    assert list(answer.values) == ["intent", "knowledge", "difficulty"]
    assert all(type(value) is str for value in answer.values.values())


@pytest.mark.parametrize(("text", "reason"), NO_DIFFICULTY)
def test_an_answer_without_a_label_says_why(text, reason):
    assert reason in TAG_REASONS
    answer = read_answer(text, DIFFICULTY)
    assert (answer.values, answer.reason) == ({}, reason)


@pytest.mark.parametrize(("text", "label", "others"), CATEGORIES)
def test_categories_are_the_twelve_words(text, label, others):
    answer = read_answer(text, CATEGORY)
    assert answer.values == {"primary_tag": label, "other_tags": others}


def test_texts_keep_what_they_say():
    def intent(text):
        return read_answer(text, DIFFICULTY).values["intent"]

    assert intent(r'{"intent": "\frac{1}{2} \times \theta", "difficulty": "hard"}') == (
        r"\frac{1}{2} \times \theta"
    )
    assert intent(r'{"intent": "one\ntwo \"three\"", "difficulty": "hard"}') == 'one\ntwo "three"'
    assert intent('{"intent": "says "a, b" to "c"", "difficulty": "hard"}') == 'says "a, b" to "c"'
    assert intent(r'{"intent": "a \(x\) "b" \n c", "difficulty": "hard"}') == 'a \\(x\\) "b" \n c'
    assert intent('{"intent": ["a", "b"], "difficulty": "hard"}') == '["a", "b"]'
    assert intent('{"intent": null, "difficulty": "hard"}') == ""
    assert intent(json.dumps({"intent": "Käse 你好 {x}", "difficulty": "hard"})) == "Käse 你好 {x}"


def test_a_form_named_before_it_costs_no_text():
    """The prompt shows forms behind their names, and models write them so."""
    named = 'difficulty: {"intent": "a", "knowledge": "b", "difficulty": "easy",}'
    values = {"intent": "a", "knowledge": "b", "difficulty": "easy"}
    assert read_answer(named, DIFFICULTY).values == values
    quoted = 'quality: {"explanation": "It says "hi" only.", "input_quality": "good"}'
    assert read_answer(quoted, QUALITY).values["explanation"] == 'It says "hi" only.'
    twice = '{"explanation": "bad "quality": here", "input_quality": "good",}'
    assert read_answer(twice, QUALITY).values["input_quality"] == "good"


def test_the_model_running_out_of_tokens_is_told():
    assert read_answer("", QUALITY, truncated=True).reason == "truncated"
    assert read_answer("The request is", QUALITY, truncated=True).reason == "truncated"
    cut = '{"explanation": "good at first, "clear", but'
    assert read_answer(cut, QUALITY, truncated=True).reason == "truncated"
    whole = '{"explanation": "x", "input_quality": "good"}'
    assert read_answer(whole, QUALITY, truncated=True).values["input_quality"] == "good"


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.tag)
def test_what_the_schema_allows_is_read_as_it_is(form):
    for label in form.labels:
        values = dict.fromkeys(form.texts, "text")
        values |= {form.label: str(label)} | {key: [] for key in form.many}
        answer = read_answer(json.dumps({key: values[key] for key in form.columns}), form)
        assert answer.values == values


PIECES = st.sampled_from(
    ['{', '}', '"', "'", ",", ":", "\\", "\n", "[", "]", "intent", "difficulty", '"difficulty": ',
     "very easy", "hard", "null", "3", " ", "```", "<think>", "</think>", "\\frac", "\ud800", "\0"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)), st.booleans())
def test_nothing_raises_and_every_answer_has_a_label_or_a_reason(text, truncated):
    for form in FORMS.values():
        answer = read_answer(text, form, truncated=truncated)
        if answer.reason:
            assert answer.reason in TAG_REASONS
            assert answer.values == {}
        else:
            assert answer.values[form.label] in list(form.labels)


@pytest.mark.parametrize(
    "text", ["[" * 50_000, "{" * 50_000, '{"a":' * 20_000, '"difficulty": ' * 5_000]
)
def test_endless_nesting_is_no_trap(text):
    assert read_answer(text, DIFFICULTY).reason in TAG_REASONS
