"""Prompts end at token boundaries that training had, and no text becomes a control token."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import (
    LLAMA_TEMPLATE,
    MISTRAL_TEMPLATE,
    falcon_style,
    gpt2_style,
    llama2_style,
    llama_style,
    mistral_style,
    phi_style,
    qwen_style,
)
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from magpie_steps.templates import ChatTemplateError, PreQueryTemplate

STYLES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "llama": llama_style,
    "gpt2": gpt2_style,
    "qwen": qwen_style,
    "mistral": mistral_style,
    "llama2": llama2_style,
    "phi": phi_style,
    "falcon": falcon_style,
}
HISTORY = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello!"}]
INSTRUCTIONS = ("What is it?", "Hello", "a", "3 apples", "Zebra, please")


@cache
def template_of(style: str) -> PreQueryTemplate:
    return PreQueryTemplate.from_tokenizer(STYLES[style]())


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


# --- where prompts end ----------------------------------------------------------------------------

INST = ["[", "I", "N", "S", "T", "]"]
USER = ["U", "ser", ":"]
LLAMA_USER = ["<|start_header_id|>", "user", "<|end_header_id|>", "ĊĊ"]
ENDS = {
    "llama": (["<|begin_of_text|>", *LLAMA_USER], LLAMA_USER, ""),
    "mistral": (["<s>", "[INST]"], ["</s>", "[INST]"], " "),
    "llama2": (["<s>", "▁", *INST], ["</s>", "▁", *INST], " "),
    "phi": (["<|user|>"], ["<|end|>", "<|user|>"], ""),
    "falcon": (USER, ["Ċ", *USER], " "),
}


@pytest.mark.parametrize("style", ENDS)
def test_a_prompt_ends_where_every_word_may_follow(style: str) -> None:
    tokenizer, template = STYLES[style](), template_of(style)
    first, later, healed = ENDS[style]
    prompts = [template.pre_query_ids(), template.pre_query_ids(HISTORY)]
    assert tokenizer.convert_ids_to_tokens(prompts[0].ids) == first
    assert tokenizer.convert_ids_to_tokens(prompts[1].ids)[-len(later) :] == later
    assert {prompt.healed_suffix for prompt in prompts} == {healed}
    for history, prompt in zip(([], HISTORY), prompts, strict=True):
        for instruction in INSTRUCTIONS:
            whole = template.response_prompt_ids([*history, user(instruction)])
            assert whole[: len(prompt.ids)] == prompt.ids


def test_later_turns_end_elsewhere_than_one_with_a_default_system_prompt() -> None:
    """The first turn ends behind that prompt, the second one at `[INST] `: a space more to heal."""
    source = MISTRAL_TEMPLATE.replace("(system='')", "(system='Be kind.\n\n')")
    source = source.replace("(ns.system if loop.last", "(ns.system if loop.first")
    tokenizer = mistral_style()
    template = PreQueryTemplate.from_tokenizer(tokenizer, chat_template=source)
    assert template.pre_query == "<s>[INST] Be kind.\n\n"
    assert template.pre_query_ids().healed_suffix == ""
    later = template.pre_query_ids(HISTORY)
    assert later.healed_suffix == " "
    assert tokenizer.convert_ids_to_tokens(later.ids)[-2:] == ["</s>", "[INST]"]


@pytest.mark.parametrize("style", ["llama", "llama2", "phi"])
def test_bos_that_comes_with_encoding_is_not_added_to_the_templates(style: str) -> None:
    tokenizer, template = STYLES[style](), template_of(style)
    bos = tokenizer.bos_token_id
    assert tokenizer.encode(template.pre_query)[0] == bos
    assert tokenizer.encode("Hello")[0] == bos
    expected = int(template.bos_in_template)
    for ids in (
        template.pre_query_ids().ids,
        template.pre_query_ids(HISTORY).ids,
        template.response_prompt_ids([*HISTORY, user("Why?")]),
    ):
        assert ids.count(bos) == expected
        assert (ids[0] == bos) == bool(expected)


def test_stops_have_ids_where_they_are_single_tokens() -> None:
    for style, first in {"phi": "<|end|>", "qwen": "<|im_end|>", "mistral": "[/INST]"}.items():
        tokenizer, template = STYLES[style](), template_of(style)
        token_id = tokenizer.convert_tokens_to_ids(first)
        assert (template.user_stop.text, template.user_stop.token_id) == (first, token_id)
        assert template.stop_token_ids[0] == token_id
        assert first not in template.stop_strings
    plain = template_of("llama2")
    assert (plain.user_stop.text, plain.user_stop.token_id) == ("[/INST]", None)
    assert "[/INST]" in plain.stop_strings
    assert plain.assistant_stop.token_id == llama2_style().eos_token_id
    words = template_of("falcon")
    assert (words.user_stop.text, words.assistant_stop.text) == ("Assistant:", "User:")
    assert words.stop_strings[0] == "Assistant:"
    assert words.stop_token_ids == (falcon_style().eos_token_id,)


def test_a_marker_that_is_no_token_ends_the_stop_before_it() -> None:
    """A model may leave out the thought that its template opens, and still has ended the turn."""
    for answer, stop in (("Assistant: <think>", "Assistant:"), ("<|bot|>\n<think>", "<|bot|>")):
        template = PreQueryTemplate.from_tokenizer(
            qwen_style(),
            chat_template="{% for m in messages %}{{ 'User: ' + m.content }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '\n" + answer + "' }}{% endif %}",
        )
        assert (template.user_stop.text, template.user_stop.token_id) == (stop, None)
        assert stop in template.stop_strings


# --- ids of published vocabularies ----------------------------------------------------------------


def published_llama3() -> PreTrainedTokenizerFast:
    """The ids that Llama 3's vocabulary gives to its user header."""
    vocab = {letter: index for index, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    vocab.update({"us": 300, "er": 301, "user": 882, "ĊĊ": 271})
    specials = {
        "<|begin_of_text|>": 128000,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
    }
    merges = [("u", "s"), ("e", "r"), ("us", "er"), ("Ċ", "Ċ")]
    # The letter that had 271 goes elsewhere.
    moved = {letter: 400 + index if index == 271 else index for letter, index in vocab.items()}
    moved["ĊĊ"] = 271
    tokenizer = Tokenizer(models.BPE(vocab={**moved, **specials}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s*[\r\n]+|\p{L}+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )
    wrapped.chat_template = LLAMA_TEMPLATE
    return wrapped


def published_mistral() -> PreTrainedTokenizerFast:
    """The ids that Mistral 0.3's vocabulary gives to its instruction header."""
    letters = [chr(code) for code in range(33, 127)]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "[INST]": 3, "[/INST]": 4, "▁": 29473}
    vocab.update({letter: 1000 + index for index, letter in enumerate(letters)})
    vocab.update({f"▁{letter}": 2000 + index for index, letter in enumerate(letters)})
    merges = [("▁", letter) for letter in letters]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in list(vocab)[:5]])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}"
        "{% endfor %}"
    )
    return wrapped


def test_published_ids_of_llama_3() -> None:
    tokenizer = published_llama3()
    template = PreQueryTemplate.from_tokenizer(tokenizer)
    assert template.pre_query_ids().ids == (128000, 128006, 882, 128007, 271)
    assert template.pre_query_ids().healed_suffix == ""
    assert template.user_stop.token_id == 128009


def test_published_ids_of_mistral() -> None:
    tokenizer = published_mistral()
    assert tokenizer.encode("<s>[INST] ", add_special_tokens=False) == [1, 3, 29473]
    prompt = PreQueryTemplate.from_tokenizer(tokenizer).pre_query_ids()
    assert (prompt.ids, prompt.healed_suffix) == ((1, 3), " ")


# --- any text -------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *("<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|start_header_id|>", "[INST]", "</s>"),
            *("<s>", "[/INST]", "<|user|>", "<|end|>", "<|endoftext|>", "<|begin_of_text|>"),
            *(
                "<|im_",
                "end|>",
                "assistant\n",
                "USER:",
                "\x00",
                "\x1b",
                "\u202e",
                "\r\n",
                " ",
                "\n",
            ),
        ]
    ),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


def result_or_code(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the code of its error."""
    try:
        return call()
    except ChatTemplateError as error:
        return error.code


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_no_text_changes_what_stands_around_it(style: str, text: str) -> None:
    template = template_of(style)
    content = text.strip() if template.strips_content else text
    for history in ([], HISTORY):
        before = template.pre_query_text(history)
        messages = [*history, user(text)]
        prompt = result_or_code(partial(template.response_prompt_text, messages))
        if prompt == "control_token_in_content":
            assert any(token in text for token in template.control_tokens)
        else:
            assert prompt == before + content + template.post_query
    assert template.pre_query_text() == template.pre_query


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_no_text_becomes_a_control_token(style: str, text: str) -> None:
    tokenizer, template = STYLES[style](), template_of(style)
    controls = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_encoder.values())
    controls -= {tokenizer.unk_token_id}

    def found(conversation: list[dict[str, str]]) -> list[int]:
        ids = template.response_prompt_ids(conversation)
        return [index for index in ids if index in controls]

    answer = {"role": "assistant", "content": text}
    for place in ([user(text)], [*HISTORY, user(text)], [user("Hi"), answer, user("Go on")]):
        result = result_or_code(partial(found, place))
        if result == "control_token_in_content":
            assert any(token in text for token in tokenizer.added_tokens_encoder)
        else:
            assert result == found([{**message, "content": "Hi"} for message in place])


@pytest.mark.parametrize("place", ["query", "history", "system"])
def test_half_a_character_is_refused_and_named(place: str) -> None:
    template = template_of("qwen")
    calls: dict[str, Callable[[], object]] = {
        "query": lambda: template.response_prompt_ids([user("a\ud83d b")]),
        "history": lambda: template.pre_query_ids([user("\udc00"), HISTORY[1]]),
        "system": lambda: template.pre_query_ids(system="\ud800"),
    }
    with pytest.raises(ChatTemplateError, match="half of a character") as caught:
        calls[place]()
    assert caught.value.code == "unreadable_text"
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "no_user_header"),
        ("{% for m in messages %}{{ 'User: ' + m.content }}{% endfor %}", "no_text_after_user"),
    ],
)
def test_a_model_cannot_be_prompted_without_turns(source: str, code: str) -> None:
    assert code in PreQueryTemplate.from_template(source, {"eos_token": "</s>"}).hazards
    with pytest.raises(ChatTemplateError) as caught:
        PreQueryTemplate.from_tokenizer(qwen_style(), chat_template=source)
    assert caught.value.code == code
