"""What a template writes around a user's text is found, whatever the template's habits.

Each template here is our own and has one habit that a model's template somewhere has.
"""

from typing import Any

import pytest

from magpie_steps.rendering import ChatRenderer, ChatTemplateError
from magpie_steps.scaffold import Scaffold, derive_scaffold, require_user_turn

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def derive(source: str, **tokens: Any) -> Scaffold:
    special = {**TOKENS, **tokens}
    return derive_scaffold(ChatRenderer(source, special), bos_token=special["bos_token"])


def loop(turn: str, start: str = "", end: str = "") -> str:
    """Return a template that prints `start`, each message as `turn`, and `end` to be answered."""
    opening = "{% if add_generation_prompt %}" + end + "{% endif %}" if end else ""
    return start + "{% for m in messages %}" + turn + "{% endfor %}" + opening


# A first turn, and the header, bare form and mode that it should give.
HABITS = {
    "the role stands before its separator": (
        loop(
            "{{ m.role + '<|sep|>' + m.content + '<|stop|>\n' }}",
            "{{ bos_token }}{% if messages[0].role != 'system' %}"
            "{{ 'system<|sep|>Be kind.<|stop|>\n' }}{% endif %}",
            "assistant<|sep|>",
        ),
        "user<|sep|>",
        "<s>user<|sep|>",
        "separate",
    ),
    "turns are numbered": (
        loop(
            "{% if m.role == 'user' %}{{ '[Turn ' ~ loop.index ~ ']\nQ: ' + m.content }}"
            "{% elif m.role == 'assistant' %}{{ '\nA: ' + m.content + '\n' }}{% endif %}",
            end="{{ '\nA: ' }}",
        ),
        "[Turn 1]\nQ: ",
        "[Turn 1]\nQ: ",
        "dropped",
    ),
    "the user's header also ends an answer": (
        loop(
            "{{ '<|' + m.role + '|>\n' + m.content }}",
            "[pad]<start>",
            "<|assistant|>\n",
        ).replace(
            "{% if add_generation_prompt %}",
            "{% if messages[-1].role == 'assistant' %}<|user|>{% endif %}"
            "{% if add_generation_prompt %}",
        ),
        "<|user|>\n",
        "[pad]<start><|user|>\n",
        "separate",
    ),
    "only one turn is printed, after a system prompt": (
        loop(
            "{{ '<|in|>' + m.role + '\n' + m.content + '<|out|>\n' }}",
            "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
            "{% if messages[0].role != 'system' %}"
            "{{ '<|in|>system\nUse a great many tools.\n\n<|out|>\n' }}{% endif %}",
            "{{ '<|in|>assistant\n' }}",
        ),
        "<|in|>user\n",
        "<|in|>user\n",
        "separate",
    ),
    "tokens start every prompt, and a preamble follows": (
        loop(
            "{{ '<|' + m.role + '|>' + m.content }}",
            "[gap]<go><|system|>Effort: high",
            "<|assistant|>",
        ),
        "<|user|>",
        "[gap]<go><|user|>",
        "separate",
    ),
    "an empty system turn stands first": (
        loop(
            "{{ '[|' + m.role + '|]' + m.content + '[|end|]\n' }}",
            "{% if messages[0].role != 'system' %}{{ '[|system|][|end|]\n' }}{% endif %}",
            "[|assistant|]",
        ),
        "[|user|]",
        "[|user|]",
        "separate",
    ),
    "a sentence stands before the header on one line": (
        loop(
            "{% if m.role == 'user' %}{{ ' USER: ' + m.content }}"
            "{% elif m.role == 'assistant' %}{{ ' ASSISTANT: ' + m.content + eos_token }}"
            "{% else %}{{ m.content }}{% endif %}",
            "{% if messages[0].role != 'system' %}A chat between two people.{% endif %}",
            " ASSISTANT:",
        ),
        " USER: ",
        " USER: ",
        "separate",
    ),
}


@pytest.mark.parametrize(("source", "header", "bare", "mode"), HABITS.values(), ids=HABITS.keys())
def test_the_header_of_a_user_turn(source: str, header: str, bare: str, mode: str) -> None:
    scaffold = derive(source)
    assert scaffold.user_header == header
    assert scaffold.bare_pre_query == bare
    assert scaffold.system_mode == mode
    assert scaffold.pre_query.endswith(header)


def test_a_header_is_the_same_for_a_tokenizer_that_lacks_a_token() -> None:
    turn = "{{ '<|' + m.role + '|>' + m.role + '<|mid|>' + m.content + '<|end|>' }}"
    start = (
        "{% if messages[0].role != 'system' %}{{ '<|system|>system<|mid|>Hi.<|end|>' }}{% endif %}"
    )
    source = loop(turn, start, "<|assistant|>assistant<|mid|>")
    for known in ((), ("<|user|>", "<|assistant|>", "<|mid|>", "<|end|>"), ("<|mid|>",)):
        scaffold = derive_scaffold(ChatRenderer(source, TOKENS), known, bos_token="<s>")
        assert scaffold.user_header == "<|user|>user<|mid|>"


def test_a_preamble_has_words_beyond_the_name_of_a_role() -> None:
    empty = HABITS["an empty system turn stands first"][0]
    assert "default_preamble" not in derive(empty).hazards
    written = empty.replace("[|system|][|end|]", "[|system|]Be good.[|end|]\\n")
    assert "default_preamble" in derive(written).hazards


def test_an_end_that_only_the_last_answer_has_rewrites_the_history() -> None:
    ends = loop(
        "{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}",
        end="<|assistant|>",
    ).replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}")
    assert {"history_rewritten", "conversation_end_differs"} <= set(derive(ends).hazards)
    plain = loop("{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}", end="<|assistant|>")
    assert "history_rewritten" not in derive(plain).hazards


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "no_user_header"),
        ("{% for m in messages %}{{ ' ' + m.content + eos_token }}{% endfor %}", "no_user_header"),
        ("{% for m in messages %}{{ '<u>' + m.content + '\n' }}{% endfor %}", "no_text_after_user"),
    ],
)
def test_a_template_without_turns_is_described_but_not_prompted_with(
    source: str, code: str
) -> None:
    scaffold = derive(source)
    assert code in scaffold.hazards
    with pytest.raises(ChatTemplateError, match="chat_template=") as caught:
        require_user_turn(scaffold)
    assert caught.value.code == code
    require_user_turn(derive(HABITS["turns are numbered"][0]))


def test_a_system_prompt_inside_a_turn_without_a_header_is_merged() -> None:
    source = loop(
        "{% if m.role == 'system' %}{{ '<<' + m.content + '>>\n' }}"
        "{% else %}{{ m.content + '[/' + m.role + ']' }}{% endif %}"
    )
    assert derive(source).system_mode == "merged"
