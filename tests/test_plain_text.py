"""A text for a base model gets the ids that documents have."""

import pickle

import pytest
import tiny_tokenizers
from tokenizers import processors

from magpie_steps.engines.plain_text import PlainTextEncoder

TEXT = "Hello! What is the capital of France?"


@pytest.mark.parametrize(
    ("tokenizer", "front"),
    [
        (tiny_tokenizers.llama_style(), ("<|begin_of_text|>",)),
        (tiny_tokenizers.qwen_style(), ()),
        (tiny_tokenizers.mistral_style(), ()),
    ],
)
@pytest.mark.parametrize("text", ["", "a", TEXT, f"{TEXT}\n\n", " \n"])
def test_bos_is_in_front_where_the_tokenizer_puts_one(tokenizer, front, text):
    ids = PlainTextEncoder(tokenizer).encode(text)
    first = tuple(tokenizer.convert_tokens_to_ids(list(front)))
    assert ids == (*first, *tokenizer.encode(text, add_special_tokens=False))
    assert ids == tuple(tokenizer.encode(text))


def test_an_end_that_the_tokenizer_puts_behind_a_text_is_left_out():
    """A model that is given its end token has nothing to continue."""
    tokenizer = pickle.loads(pickle.dumps(tiny_tokenizers.llama_style()))
    bos, eos = "<|begin_of_text|>", "<|eot_id|>"
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (bos, eos)]
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=ids
    )
    assert tokenizer.encode(TEXT)[-1] == ids[1][1]
    assert PlainTextEncoder(tokenizer).encode(TEXT) == tuple(tokenizer.encode(TEXT)[:-1])


@pytest.mark.parametrize(
    ("tokenizer", "token"),
    [
        (tiny_tokenizers.llama_style(), "<|eot_id|>"),
        (tiny_tokenizers.qwen_style(), "<|im_end|>"),
        (tiny_tokenizers.mistral_style(), "[/INST]"),
    ],
)
def test_a_control_token_in_a_text_stays_text_and_the_tokenizer_as_it_was(tokenizer, token):
    control = tokenizer.convert_tokens_to_ids(token)
    ids = PlainTextEncoder(tokenizer).encode(f"Say {token} now")
    assert control not in ids
    assert token in tokenizer.decode(ids)
    assert control in tokenizer.encode(f"Say {token} now")
