"""What may follow in a conversation, and what belongs to it."""

import pytest

from magpie_steps.follow_ups import find_follow_up_fault, is_related, says_goodbye, similarity

SAID = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("And what is the capital of Italy?", None),
        ("What is the capital of France?", "repetition"),
        ("  what is the capital of FRANCE?", "repetition"),
        ("The capital of France is Paris.", "role_forgotten"),
        ("I'm an AI language model, I cannot travel.", "role_forgotten"),
        ("Is there anything else I can help you with?", "role_forgotten"),
        ("Thanks!", "closing"),
        ("Be kind.", None),
        ("What is the capital of Frances?", None),
    ],
)
def test_faults(text, fault):
    assert find_follow_up_fault(SAID, text) == fault


def test_a_long_text_that_differs_in_a_word_is_a_repetition():
    essay = "Please check this essay about the weather of the north and the people who live there. "
    history = [{"role": "user", "content": essay * 4}, SAID[2]]
    assert find_follow_up_fault(history, (essay * 4).replace("north", "south", 1)) == "repetition"
    assert find_follow_up_fault(history, essay * 4 + "And now shorten it. " * 5) is None


@pytest.mark.parametrize(
    "text",
    [
        "Thanks!",
        "Thank you so much for your help!",
        "Great, thanks.",
        "Okay, that makes sense. Thank you!",
        "Perfect, that helps a lot. Thanks again!",
        "That's all for now, bye!",
        "Goodbye.",
        "Thank you, have a nice day!",
    ],
)
def test_courtesies_that_end_a_conversation(text):
    assert says_goodbye(text)


@pytest.mark.parametrize(
    "text",
    [
        "Thanks! And what about Italy?",
        "Thank you. Now explain the second step.",
        "Great, can you make it shorter?",
        "Great idea for a story.",
        "How do I say thanks in French?",
        "Thanks, but I wanted a list.",
        "Byte order marks confuse me.",
        "",
    ],
)
def test_a_request_with_thanks_goes_on(text):
    assert not says_goodbye(text)


def test_similarity_is_a_share_and_grows_with_what_is_common():
    same = similarity(SAID[1:2], "What is the capital of France?")
    some = similarity(SAID, "Which rivers does France have?")
    none = similarity(SAID, "xyzzy qux")
    assert same == pytest.approx(1.0)
    assert 0 < some < same
    assert none == 0.0
    assert similarity([], "Hi?") == similarity(SAID, "?!") == 0.0


@pytest.mark.parametrize(
    ("text", "related"),
    [
        ("And in Italy?", True),
        ("Make it shorter.", True),
        ("Can you give me another one?", True),
        ("How large is Paris, the capital?", True),
        ("Sort these numbers from small to large: 4, 2, 9", False),
        ("My dog hates cold rain", False),
    ],
)
def test_related(text, related):
    assert is_related(SAID, text) is related
