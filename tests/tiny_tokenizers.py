"""Small real tokenizers, trained on a few sentences, for tests that need true token ids.

They have the habits of several families: Llama 3 (byte-level BPE whose post-processor prepends
BOS), Qwen (byte-level BPE, no BOS), Mistral (Metaspace BPE, where a space belongs to the next
word), Llama 2 (the same, with headers that are no tokens), Phi 3 (tokens that eat the white space
after them) and Falcon (byte-level BPE, headers of plain words).
"""

from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    *["user\n", "assistant\n", "system\n", "What\n"] * 5,
    *["You help people.", "Hi there", "Hello!", "\n\n"] * 3,
    "Hello! What is the capital of France?",
    "You are a math tutor. You are a helpful assistant.",
    "How many apples are left when I eat three of them?",
    "Write a short poem about the sea, please.",
    "Hi there, can you explain gravity to me?",
    "The answer is four.\n\nThank you very much.\n",
]

LLAMA_TEMPLATE = (
    "{% for m in messages %}"
    "{% set turn = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim"
    " + '<|eot_id|>' %}"
    "{{ bos_token + turn if loop.first else turn }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)

QWEN_TEMPLATE = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\nYou help people.<|im_end|>\n' }}"
    "{% endif %}"
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Takes the system prompt into the last user turn, as several Mistral templates do.
MISTRAL_TEMPLATE = (
    "{{ bos_token }}"
    "{% set ns = namespace(system='') %}"
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{% set ns.system = m.content + '\n\n' %}"
    "{% elif m.role == 'user' %}"
    "{{ '[INST] ' + (ns.system if loop.last else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}"
    "{% endfor %}"
)

# Writes no BOS; its tokenizer eats the line ends after each token.
PHI_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

# Headers of plain words, and nothing at the end of an assistant's turn.
FALCON_TEMPLATE = (
    "{% for m in messages %}{{ '' if loop.first else '\n' }}"
    "{{ m.role | capitalize + ': ' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nAssistant:' }}{% endif %}"
)

_LLAMA_SPECIALS = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
_QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_MISTRAL_SPECIALS = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
_PHI_SPECIALS = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"]
# Splits off line ends, words with their space, digits and signs: what both byte-level families do.
_WORDS = r"\s*[\r\n]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


@cache
def llama_style() -> PreTrainedTokenizerFast:
    """Byte-level BPE; BOS comes from the template and, if asked for, from the post-processor."""
    tokenizer = _byte_level(_LLAMA_SPECIALS)
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                special_tokens=[("<|begin_of_text|>", bos)],
            ),
        ]
    )
    return _wrap(tokenizer, LLAMA_TEMPLATE, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


@cache
def gpt2_style() -> PreTrainedTokenizerFast:
    """Llama 3's template on GPT-2's splitting, where line ends split off before a word."""
    return _wrap(
        _byte_level(_LLAMA_SPECIALS, pre_tokenizers.ByteLevel(add_prefix_space=False)),
        LLAMA_TEMPLATE,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )


@cache
def qwen_style() -> PreTrainedTokenizerFast:
    """Byte-level BPE without BOS, with a default system prompt."""
    return _wrap(
        _byte_level(_QWEN_SPECIALS),
        QWEN_TEMPLATE,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


@cache
def mistral_style() -> PreTrainedTokenizerFast:
    """Metaspace BPE; the template's header ends with a space."""
    tokenizer = _metaspace([AddedToken(text, special=True) for text in _MISTRAL_SPECIALS])
    return _wrap(tokenizer, MISTRAL_TEMPLATE, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def llama2_style() -> PreTrainedTokenizerFast:
    """SentencePiece as Llama 2 had it: `[INST]` is plain text, and BOS comes with encoding."""
    tokenizer = _metaspace([AddedToken(text, special=True) for text in _MISTRAL_SPECIALS[:3]])
    _spell_spaces(tokenizer)
    _prepend_bos(tokenizer, "<s>")
    return _wrap(tokenizer, MISTRAL_TEMPLATE, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def phi_style() -> PreTrainedTokenizerFast:
    """SentencePiece whose role tokens strip what follows; BOS comes with encoding alone."""
    specials = [AddedToken(text, special=True) for text in _MISTRAL_SPECIALS[:3]]
    specials += [AddedToken(text, special=True, rstrip=True) for text in _PHI_SPECIALS]
    tokenizer = _metaspace(specials)
    _spell_spaces(tokenizer)
    _prepend_bos(tokenizer, "<s>")
    return _wrap(
        tokenizer, PHI_TEMPLATE, bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>"
    )


@cache
def falcon_style() -> PreTrainedTokenizerFast:
    """Byte-level BPE without BOS; the template's header is `User: `."""
    return _wrap(_byte_level(["<|endoftext|>"]), FALCON_TEMPLATE, eos_token="<|endoftext|>")


def _metaspace(specials: list[AddedToken]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return tokenizer


def _spell_spaces(tokenizer: Tokenizer) -> None:
    """Write spaces as the normalizer of older SentencePiece models does, one before each text."""
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


def _prepend_bos(tokenizer: Tokenizer, bos: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos} $B",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )


def _byte_level(
    specials: list[str], splitting: pre_tokenizers.PreTokenizer | None = None
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitting or pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[AddedToken(text, special=True) for text in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return tokenizer


def _wrap(tokenizer: Tokenizer, template: str, **special: str) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special
    )
    wrapped.chat_template = template
    return wrapped
