"""Overlaps of texts with evaluation prompts, checked against a plain count."""

import random
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_steps.overlap import MOST_PROMPTS, RUN, THRESHOLD, Index, Match, Size, words_of

PROMPT = "Natalia sold clips to 48 of her friends in April and then half as many in May."
OTHER = "Which of these planets is the largest by mass and also the furthest from the Sun?"


def plain_share(text, prompt):
    """Return the share of the prompt's words in runs of eight that the text has, word by word."""
    ours, theirs = words_of(text), words_of(prompt)
    if ours == theirs:
        return 1.0
    runs = {tuple(ours[at : at + RUN]) for at in range(len(ours) - RUN + 1)}
    inside = set()
    for at in range(len(theirs) - RUN + 1):
        if tuple(theirs[at : at + RUN]) in runs:
            inside.update(range(at, at + RUN))
    return len(inside) / len(theirs)


def share(text, *prompts):
    match = Index({"set": prompts}).match(text)
    return match.share if match else 0.0


@pytest.mark.parametrize(
    "text",
    [
        PROMPT,
        PROMPT.upper(),
        "  natalia SOLD clips, to 48 of her friends in April\n and then half as many in May!!! ",
        "**Natalia** sold clips to 48 of her friends — in April — and then half as many in May",
        "Natalia sold\u200b clips to \uff14\uff18 of her friends in April and then half as many in"
        " May \u2764\ufe0f",
    ],
)
def test_case_punctuation_spaces_and_width_do_not_matter(text):
    assert Index({"gsm": [OTHER, PROMPT]}).match(text) == Match("gsm", 1, 1.0, equal=True)


def test_apostrophes_are_alike():
    assert words_of("Don’t") == words_of("don't") == ["dont"]


def test_the_prompts_words_are_counted_not_the_texts():
    """A long text that holds a whole prompt repeats it; a short part of a long prompt does not."""
    around = "Before you begin take a deep breath and read " * 5
    match = Index({"gsm": [PROMPT]}).match(f"{around} {PROMPT} {around}")
    assert match == Match("gsm", 0, 1.0)
    assert not match.equal
    part = " ".join(PROMPT.split()[:8])
    assert share(part, PROMPT) == 8 / 17 < THRESHOLD
    assert share(" ".join(PROMPT.split()[:9]), PROMPT) == 9 / 17 > THRESHOLD


def test_seven_words_in_a_row_are_no_overlap():
    assert share(" ".join(PROMPT.split()[:7]) + " something else again", PROMPT) == 0.0


@pytest.mark.parametrize("words", range(1, RUN))
def test_short_texts_and_prompts_overlap_only_as_a_whole(words):
    short = " ".join(PROMPT.split()[:words])
    assert share(short, short.upper() + "!") == 1.0
    assert share(short, PROMPT) == 0.0
    assert share(PROMPT, short) == 0.0


def test_words_that_are_covered_twice_count_once():
    prompt = "a b c d e f g h a b c d e f g h i"
    assert share("a b c d e f g h x", prompt) == 16 / 17
    assert share("a b c d e f g h x", prompt) == plain_share("a b c d e f g h x", prompt)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), max_size=30), min_size=1, max_size=6),
    st.lists(st.sampled_from("ab"), max_size=40),
)
def test_the_best_prompt_is_that_of_a_plain_count(prompts, text):
    said = " ".join(text)
    texts = [" ".join(prompt) for prompt in prompts]
    shares = [plain_share(said, prompt) if prompt and said else 0.0 for prompt in texts]
    match = Index({"set": texts}).match(said)
    if match is None:
        assert max(shares) == 0.0
    else:
        assert match.share == pytest.approx(max(shares))
        assert shares[match.prompt] == pytest.approx(max(shares))


def test_each_set_has_its_own_best_prompt_and_the_best_set_is_first():
    half = " ".join(PROMPT.split()[:10])
    index = Index({"one": [OTHER, f"{half} and so on until all of them are gone"], "two": [PROMPT]})
    found = index.matches(f"{half}!")
    assert [(match.name, match.prompt) for match in found] == [("two", 0), ("one", 1)]
    assert [match.share for match in found] == [10 / 17, 10 / 19]
    assert index.match(f"{half}!") == found[0]
    assert index.matches("Something else that nobody ever asked in any exam, I hope.") == []


def test_of_equal_prompts_the_first_counts_and_empty_ones_are_counted():
    index = Index({"set": ["", "Hi there!", " \n", "hi THERE", "..."]})
    assert index.sizes == {"set": Size(prompts=2, empty=3)}
    assert index.match("hi there") == Match("set", 1, 1.0, equal=True)
    assert index.match("") is None
    assert index.match("...") is None
    assert Index({}).match("hi there") is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("What is 5 - 3?", "What is 5-3?"),
        ("What is 5 + 3?", "what is 5 + 3"),
        ("What is 5 × 3?", "What is 5*3?"),
    ],
)
def test_signs_of_arithmetic_are_words(text, same):
    assert share(text, same) == 1.0
    others = [f"What is 5 {sign} 3?" for sign in "+-*/=<>"]
    assert sum(share(text, other) for other in others) <= 1.0


def test_languages_without_spaces_are_compared_by_letters():
    chinese = "小明有五个苹果，他吃了两个，还剩几个？"
    japanese = "りんごが五つあります。二つ食べました。残りはいくつですか？"
    assert share("请回答：" + chinese, chinese) == 1.0
    assert share(japanese.replace("。", " "), japanese) == 1.0
    assert share(chinese[:5], chinese) == 0.0
    assert share("小红买了三本书，又买了一支笔，一共花了多少钱？", chinese) == 0.0
    thai = "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e\u0e40\u0e1b\u0e47\u0e19\u0e40\u0e21\u0e37"
    assert share("A: " + thai, thai) == 1.0


def test_words_of_scripts_with_marks_stay_whole():
    assert words_of("हिन्दी भाषा, العربية") == ["हिन्दी", "भाषा", "العربية"]


@pytest.mark.parametrize(
    "text", ["\ud800", "\x00\x01", "\u202e", "🙂" * 50, "\n" * 50_000, "7 " * 9]
)
def test_any_text_can_be_looked_up(text):
    assert Index({"set": [PROMPT, text]}).sizes["set"].prompts >= 1
    assert Index({"set": [PROMPT]}).match(text) is None


def test_runs_that_many_prompts_share_tell_nothing():
    """A set's own template is in each of its prompts, and says nothing of a text that has it."""
    template = "Answer the following multiple choice question with one letter only please"
    asked = [f"{template} {' '.join(f'w{n}{place}' for place in range(20))}" for n in range(300)]
    index = Index({"mmlu": asked})
    assert len(asked) > MOST_PROMPTS
    assert index.match(f"{template} here is my own question") is None
    near = asked[7].replace("w719", "other")
    match = index.match(near)
    assert match.prompt == 7
    assert match.share > 0.9
    few = Index({"mmlu": asked[:MOST_PROMPTS]})
    assert few.match(f"{template} here is my own question").share == pytest.approx(11 / 31)


def test_the_same_prompts_give_the_same_matches_in_every_process():
    code = (
        "from magpie_steps.overlap import Index, _whole; print(_whole(['a', 'b']),"
        f" Index({{'s': [{PROMPT!r}]}}).match({PROMPT[:60]!r}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_speed_is_in_proportion_to_the_texts():
    """10,000 prompts and 100,000 instructions take less than a minute; here a twentieth of them."""
    chance = random.Random(0)
    words = [f"w{number}" for number in range(5000)]
    prompts = [" ".join(chance.choices(words, k=50)) for _ in range(500)]
    texts = [" ".join(chance.choices(words, k=50)) for _ in range(4900)] + prompts[:100]
    start = time.process_time()
    index = Index({"set": prompts})
    found = sum(index.match(text) is not None for text in texts)
    assert time.process_time() - start < 5.0  # measured 0.5
    assert found == 100


def test_prompts_of_one_template_are_looked_up_as_fast():
    """Without a limit, each of these texts would be compared with each of these prompts."""
    prompts = [f"Explain at length to a child of {n} years why it is so that" for n in range(3000)]
    start = time.process_time()
    index = Index({"set": prompts})
    assert all(index.match(f"{prompt} indeed").prompt == n for n, prompt in enumerate(prompts))
    assert time.process_time() - start < 5.0  # measured 0.3
