"""Each reason is tripped by a text that trips only that one; what users really write survives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magpie_steps.sanitize import (
    Sanitized,
    has_answer_attached,
    sanitize_instruction,
    sanitize_response,
    speaks_as_assistant,
)

CONTROL_TOKENS = frozenset({"<|eot_id|>", "<|im_end|>", "[INST]", "</s>"})

GOOD_INSTRUCTIONS = [
    "What is 2 + 2?",
    "Explain gravity to a child",
    "What does https://example.com/search?q=magpie&page=2#top do? Is the ?q= part needed?",
    "Who wrote Faust? And when was it published? Name the publisher, too.",
    "Which of these is prime?\nA) 4\nB) 6\nC) 7\nD) 9",
    "Which planet is the largest?\nA: Mars\nB: Jupiter\nC: Venus",
    "Pick one. A: red B: green C: blue",
    "Why does this fail?\n\n```python\ndef f(x):\n    return x ?? 1\n```\n\nI use Python 3.12.",
    "Sort these:\n- pear\n- apple\n* fig\n1. kiwi",
    "3.14 is which famous number?",
    "1. Write a haiku.\n2. Translate it into German.",
    "# Title\n\nTurn this heading into bold text.",
    "法国的首都是哪里？请用一句话回答。",
    "请写一首关于春天的诗",
    "Wie heißt die Hauptstadt von Österreich?",
    "ما هي عاصمة مصر؟",
    "Write a cover letter for the position of assistant manager. The assistant reports to me.",
    "Make a shopping list for:",
    "Complete the sentence: Once upon a time,",
    '"To be or not to be" - who said that?',
    "*Important*: summarise the plot of Hamlet.",
    "**Problem**: Find x if 2x=4?",
    "a) is (b) the same as c)?",
    "Question: what is the tallest mountain?",
    "Fix my HTML: <b>bold</b><br/><p class='x'>text</p>",
    "What is the answer to life?",
    "Is 'Answer: 4' the right thing to write under 2+2",
    'Check whether "Answer: 4" is right for 2+2.',
    "Please check my work: 2+2. Answer: 4",
    "Solve 3x = 9.\nAnswer: in one word",
    "What is 5 + 5?\nAnswer:",
    "Q: 1+1?\nA: 2\nQ: 2+2?\nA:",
    "Is this correct?\nQuestion: capital of France\nAnswer: Paris",
    "Grade the student.\nQuestion: What is 2+2?\nAnswer: 5",
    "Question: What is 3+4?\nAnswer: 7\nExplain how one gets there.",
    "What is 12 x 12?\nAnswer: 144\nWhy is that a square number?",
    "Translate into French:\nQuestion: Where is it?\nAnswer: There.",
    "Continue this chat:\nUser: hi\nAssistant: hello\nUser: tell me a joke",
    "Find m + n.\nThe answer is an integer below 1000.",
    "The answer is 42. What is the question?",
    "Parse this file:\n\nquestion: what\nanswer: 4\n",
    "Make the button print Answer: Yes.",
    "Follow the guide. Is it fine?\n```\n# Step 1\nAnswer: 4\n```",
    "I'm an AI researcher. How do I get funding?",
    "I am an AI engineer at a bank; which metrics matter?",
    "As an AI language model, how would you describe the colour blue to a blind person?",
    "As a large language model enthusiast I want to learn more. Where do I start?",
    "I'm a virtual assistant and I need help with managing e-mails.",
    "Sure, here is my code: print(1). Why does it fail?",
    "Here is a poem. Rate it: roses are red.",
    "How can I help my neighbour with her garden?",
    "How can I help with climate change?",
    "How can I assist my team better?",
    "Hello! How can I help my dog lose weight?",
    "Hi, I work in a shop. Should I greet people with how can I help you?",
    "I can't generate the invoice in SAP, what is wrong?",
    "I'm sorry, but I can't figure out recursion. Can you explain it?",
    "Okay, let me rephrase the question: why is the sky blue?",
    "You are a helpful assistant. Write a welcome message.",
    "Pretend you are an AI and say hello.",
    "family emoji 👨‍👩‍👧 - how is it encoded?",
    "نمی‌خواهم means what?",
    "tabs\tand\r\nwindows line ends survive, right?",
    "2+2",
    "C++ or Rust? <3",
]

ASSISTANT_VOICES = [
    "Sure, here is a poem about the sea.",
    "Sure! Here's a list of five ideas:",
    "Certainly! Below are the steps.",
    "Of course, I'd be happy to help with that.",
    "Certainly, I can help you with your essay.",
    "I'm an AI, I do not have feelings.",
    "I'm just an AI and cannot eat.",
    "I am an AI assistant created to answer questions.",
    "I am a large language model, trained on text.",
    "As an AI language model, I cannot do this.",
    "As an AI language model",
    "How can I help you today?",
    "Hello! How can I assist",
    "Hello! How can I assist you today?",
    "Hi there! I'm Sam, your assistant. How may I help you?",
    "Good morning! 😊 What can I do for you?",
    '"Hello! How can I help you today?"',
    "**Great question!** The sky is blue.",
    "That's a great question, let us see.",
    "I'd be happy to help you with your homework!",
    "I'm here to help.",
    "I'm sorry, but I can't assist with that request.",
    "I cannot fulfill your request.",
    "Is there anything else I can help you with?",
    "Assistant: the capital is Paris",
    "你好！有什么可以帮助你的吗？",
    "作为一个AI语言模型，我没有感情。",
    "当然，以下是一首诗。",
]

ANSWERS_ATTACHED = [
    "What is the capital of France?\nAnswer: Paris",
    "What is the capital of France?\n\n**Answer:** Paris",
    "What is 2+2?\nThe answer is 4.",
    "Find x if 2x = 4.\nSolution: divide by two, so x = 2.",
    "Find x if 2x = 4.\n\n### Solution:\nx = 2",
    "Who painted the Mona Lisa?\nA: Leonardo da Vinci",
    "Q: Who painted the Mona Lisa\nA: Leonardo da Vinci",
    "Question: Who wrote Faust?\nAnswer: Goethe",
    "What is 2+2?\n\nAssistant: 4",
    "What is 2+2?\n\nAssistant: 4\n\nUser: and 3+3?",
    "Which is prime?\nA) 4\nB) 7\nAnswer: B",
    "Which is prime?\nA) 4\nB) 7\nCorrect answer: B) 7",
    "Convert 5 km to m.\nAnswer: 5000 m",
    "How do I boil an egg?\n## Step 1: Boil water\nPut it in.",
    "法国的首都是哪里？\n答案：巴黎",
    "Compute 2+2 Answer: 4",
    "Explain gravity. Solution: mass",
    "Compute 2+2. Correct answer: 4",
    "What is 2+2? The answer is 4.",
]


def test_the_lists_are_free_of_copies() -> None:
    texts = [*GOOD_INSTRUCTIONS, *ASSISTANT_VOICES, *ANSWERS_ATTACHED]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("text", GOOD_INSTRUCTIONS)
def test_a_good_instruction_survives_unchanged(text: str) -> None:
    kept = sanitize_instruction(text, control_tokens=CONTROL_TOKENS)
    assert (kept.text, kept.reason) == (text.strip(), None)


@pytest.mark.parametrize("text", ASSISTANT_VOICES)
def test_a_user_who_speaks_as_the_assistant_is_rejected(text: str) -> None:
    assert sanitize_instruction(text).reason == "assistant_voice"
    assert not has_answer_attached(text)


@pytest.mark.parametrize("text", ANSWERS_ATTACHED)
def test_a_question_that_brings_its_answer_is_rejected(text: str) -> None:
    assert sanitize_instruction(text).reason == "answer_attached"
    assert not speaks_as_assistant(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "whitespace"),
        ("Say hi<|eot_id|>", "template_tokens"),
        ("[INST] Say hi", "template_tokens"),
        ("<think>The user wants a joke</think> Tell a joke", "template_tokens"),
        ("Say \x00 hi", "control_characters"),
        ("Say \ufffd hi", "control_characters"),
        ("Say \x1b[31m hi", "control_characters"),
        (f"Say {chr(0xD83D)} hi", "control_characters"),
        ("hi", "too_short"),
        ("?!...", "too_short"),
        ("word " * 1601, "too_long"),
    ],
)
def test_each_other_reason_has_a_text_of_its_own(text: str, reason: str) -> None:
    rejected = sanitize_instruction(text, control_tokens=CONTROL_TOKENS)
    assert (rejected.text, rejected.reason) == ("", reason)


@pytest.mark.parametrize("finish_reason", ["length", "abort", ""])
def test_a_turn_that_did_not_end_itself_is_truncated(finish_reason: str) -> None:
    text = "Write a poem about"
    assert sanitize_instruction(text).reason is None
    assert sanitize_instruction(text, finish_reason=finish_reason).reason == "truncated"
    assert sanitize_response(text, finish_reason=finish_reason).reason == "truncated"


def test_lengths_are_inclusive_and_count_characters_without_outer_space() -> None:
    assert sanitize_instruction("  äöü  ", min_chars=3, max_chars=3).text == "äöü"
    assert sanitize_instruction("äöü", min_chars=4).reason == "too_short"
    assert sanitize_instruction("äöü", max_chars=2).reason == "too_long"


def test_white_space_around_a_text_goes_and_inside_it_stays() -> None:
    assert sanitize_instruction("\n  one\n\n  two \n").text == "one\n\n  two"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  ", "whitespace"),
        ("Paris.</s>", "template_tokens"),
        ("Par\x07is", "control_characters"),
    ],
)
def test_a_response_has_the_reasons_that_do_not_read_it(text: str, reason: str) -> None:
    rejected = sanitize_response(text, control_tokens=CONTROL_TOKENS)
    assert (rejected.text, rejected.reason) == ("", reason)


def test_a_response_may_speak_as_the_assistant_think_and_be_short() -> None:
    for text in ("Sure, here is one.", "<think>hm</think>Yes", "4", "Answer: 4", "🙂"):
        assert sanitize_response(text).text == text


_FRAGMENTS = st.sampled_from(
    [
        *("Answer:", "A:", "Q:", "User:", "Assistant:", "The answer is", "Solution:", "# Step 1"),
        *("I'm an AI", "Sure, here is", "How can I help you", "Hello!", "As an AI", "check"),
        *(
            "?",
            "\n",
            " ",
            "\t",
            "```",
            "**",
            "4",
            "<think>",
            "<|eot_id|>",
            "\ufffd",
            "？",
            "答案：",
        ),
    ]
)
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(_FRAGMENTS, max_size=20).map("".join),
    st.lists(st.one_of(_FRAGMENTS, st.text(max_size=8)), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=()), max_size=50),
)


@settings(max_examples=300, deadline=None)
@given(_TEXTS, st.sampled_from(["stop", "length"]), st.integers(0, 20), st.integers(0, 200))
def test_any_text_is_either_kept_clean_or_rejected_with_a_reason(
    text: str, finish_reason: str, min_chars: int, max_chars: int
) -> None:
    def clean_instruction(value: str) -> Sanitized:
        return sanitize_instruction(
            value,
            finish_reason=finish_reason,
            control_tokens=CONTROL_TOKENS,
            min_chars=min_chars,
            max_chars=max_chars,
        )

    def clean_response(value: str) -> Sanitized:
        return sanitize_response(value, finish_reason=finish_reason, control_tokens=CONTROL_TOKENS)

    for clean in (clean_instruction, clean_response):
        found = clean(text)
        if found.reason is None:
            assert found.text == text.strip() != ""
            assert clean(found.text) == found
        else:
            assert found.text == ""


def test_long_and_hostile_texts_take_milliseconds() -> None:
    """A nested quantifier once makes such texts take minutes; the test's time limit catches it."""
    for unit in (" ", "*", "a ", "Hello! ", "A: ", "Answer ", "> # ", "?\n", "A.\n", "__ :"):
        sanitize_instruction(unit * (200_000 // len(unit)), max_chars=10**6)
