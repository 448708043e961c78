import pytest

from magpie_steps import prompts


def test_twelve_categories_in_order():
    texts = prompts.category_prompts()
    assert tuple(texts) == prompts.CATEGORIES
    assert len(texts) == 12
    assert len(set(texts.values())) == 12


@pytest.mark.parametrize("key", prompts.CATEGORIES)
def test_prompts_are_short_plain_sentences(key):
    text = prompts.category_prompts()[key]
    assert text.isascii()
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text.split()) <= 25


def test_few_shot_examples_are_there_and_end_with_an_answer():
    text = prompts.few_shot_prompt()
    assert text.rpartition("\n\n[Answer]\n")[2]
    assert text == text.strip()


def test_callers_get_their_own_copy():
    prompts.category_prompts().clear()
    assert prompts.category_prompts()
