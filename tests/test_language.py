"""Languages of texts: told where the text tells, left open where it does not."""

import math

import pytest
from answering import process
from pydantic import ValidationError

from magpie_steps.engines.language import LanguageDetector, words_of
from magpie_steps.steps.language import LanguageTagger

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")


@pytest.fixture(scope="module")
def detector():
    made = LanguageDetector()
    made.load()
    return made


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("$50,000 is my salary; how much should I save if the rent is $1,200?", "EN"),
        ("Please explain this text \ud83d to me in a few simple words", "EN"),
        ("What is the best way to learn to play the guitar at home?", "EN"),
        ("How many legs does a bear have?", "EN"),
        ("Wie spät ist es jetzt in Tokio?", "DE"),
        ("¿Cuál es la capital de España?", "ES"),
        ("Quelle est la meilleure recette de crêpes ?", "FR"),
        ("Привет, как у тебя дела сегодня?", "RU"),
        ("请写一首关于春天的诗。", "ZH"),
        ("你好", "ZH"),
        ("日本の首都はどこですか？", "JA"),
        ("오늘 날씨가 어때요?", "KO"),
        ("ما هي عاصمة مصر وما عدد سكانها؟", "AR"),
        ("Explain what this does:\n```python\nprint(x)\n```\nand how I can test it", "EN"),
    ],
)
def test_a_text_tells_its_language(detector, text, code):
    found = detector.detect(text)
    assert found.code == code
    assert 0 < found.score <= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "Hi",
        "lol ok",
        "42",
        "3.14159 2.71828 1.41421 1.61803",
        "x^2+3x=4",
        "x^2 + 3x = 4, y = 2x + 1",
        "sin(x)+cos(x)=1",
        r"\frac{a}{b} + \sqrt{c} = \int_0^1 x \, dx",
        r"$\alpha + \beta = \gamma$",
        "Calculate 80 + 3.",
        "```python\ndef move(a, b):\n    return a * b\n```",
        "https://example.org/some/long/path/to/a/page",
        "🙂🙂🙂",
        "2024-01-01 | 2024-01-02 | 2024-01-03",
    ],
)
def test_a_text_that_does_not_tell_gets_none(detector, text):
    found = detector.detect(text)
    assert found.code == ""
    assert math.isnan(found.score)


def test_code_and_addresses_do_not_count():
    assert words_of("Explain this please: `a = b`") == "Explain this please:"
    assert "http" not in words_of("Summarise this page for me: https://example.org/x?y=1")


def test_fewer_languages_are_surer():
    few = LanguageDetector(languages=["en", "DE"])
    few.load()
    assert few.languages == ["EN", "DE"]
    assert few.detect("How many legs does a bear have?").score > 0.9


def test_unknown_languages_are_refused_with_those_that_exist():
    with pytest.raises(ValidationError, match=r"\['XX'\] are no languages; there are AF, AR"):
        LanguageDetector(languages=["EN", "xx"])
    with pytest.raises(ValidationError, match="give two or more"):
        LanguageDetector(languages=["EN"])


def test_the_step_labels_rows_and_leaves_others_alone():
    step = LanguageTagger(name="language", detector={"languages": ["EN", "DE", "ZH"]})
    rows = [
        {"instruction": "Wie backe ich ein Brot?"},
        {"instruction": "How do I bake bread?", "keep": False, "drop_reason": "x"},
        {"instruction": None, "messages": [{"role": "user", "content": "请写一首诗"}]},
        {"instruction": 5},
        {},
    ]
    found = process(step, rows)
    assert [row["language"] for row in found] == ["DE", "", "ZH", "", ""]
    assert [math.isnan(row["language_score"]) for row in found] == [False, True, False, True, True]
    assert found[1]["drop_reason"] == "x"
