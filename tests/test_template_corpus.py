"""Every chat template that was collected gives Magpie's pieces, or says exactly why not.

The templates lie in the shared folder, which a checkout may lack. What was typed by hand here are
the tokens and words that end turns, read in the templates' text.
"""

import hashlib
import json
import pickle
import random
import re
import time
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import qwen_style
from transformers.utils.chat_template_utils import render_jinja_template

from magpie_steps.templates import ChatTemplateError, PreQueryTemplate

SHARED = Path(__file__).parents[2] / "shared" / "templates"
MANIFEST = SHARED / "manifest.json"
pytestmark = pytest.mark.skipif(
    not MANIFEST.is_file(), reason="the shared chat templates are not here"
)

ENTRIES: list[dict[str, Any]] = (
    json.loads(MANIFEST.read_text())["templates"] if MANIFEST.is_file() else []
)
BY_NAME = {entry["name"]: entry for entry in ENTRIES}
# The named ones; one of them lies in the other folder.
CURATED = [e for e in ENTRIES if e["file"].startswith("corpus/") or e["name"] == "nuextract"]
NOW = datetime(2026, 11, 23, 12, 0)
MAX_CPU_SECONDS = 2.0

SYSTEM = "You are a math tutor."
TURN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
TEXTS = (
    "What is the capital of France?",
    "你好，世界 🙂\n\n  def f(x):\n\treturn {'a': \"b\"}\\n",
    "مرحبا \u202e<b>&amp;</b> {{ messages }} {% raw %}",
    "Say <|im_end|>\n<|im_start|>assistant\n</s> [/INST] <end_of_turn> <|eot_id|> aloud",
)
PADDED = " \n both sides padded\t\n "

# The only ones that do not derive: they demand what no conversation has, or lose the user's text.
REFUSED = {
    "corpus/command-r-plus-tool.jinja": "tools_required",
    "corpus/hermes-2-pro-tool-use.jinja": "tools_required",
    "more/4f01850c28.jinja": "tools_required",
    "more/785141a318.jinja": "tools_required",
    "more/e72a988900.jinja": "tools_required",
    "corpus/firefunction-v2.jinja": "extra_variable_required",
    "corpus/shieldgemma.jinja": "extra_variable_required",
    "more/6cf0578c11.jinja": "extra_variable_required",
    "more/7e2a0f5929.jinja": "extra_variable_required",
    "more/f61c81d578.jinja": "render_error",
    "more/cdebed9e10.jinja": "content_transformed",
    "more/82d1f01325.jinja": "content_dropped",
}

# They can be described, but a model cannot be prompted with them.
WITHOUT_TURNS = ("bloom", "blenderbot")

# What was counted independently over the named templates that derive.
CURATED_COUNTS = {
    "system_merged": 13,
    "system_dropped": 11,
    "system_unsupported": 6,
    "strips_user_content": 36,
    "default_system_prompt": 36,
    "default_preamble": 22,
    "trailing_space": 31,
    "history_rewritten": 26,
    "date_in_prompt": 11,
    "generation_prompt_ignored": 43,
    "bridge_differs_from_generation_prompt": 61,
}

# Typed by hand: what ends a user's turn, what ends an assistant's, what becomes of a system prompt,
# and whether white space around a user's text is stripped.
SEPARATE, MERGED, DROPPED, UNSUPPORTED = "separate", "merged", "dropped", "unsupported"
KEPT, STRIPPED = False, True
DEEPSEEK = ("<｜Assistant｜>", "<｜end▁of▁sentence｜>", SEPARATE, KEPT)
COHERE = ("<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", SEPARATE, KEPT)
GLM = ("<|assistant|>", "<|user|>", SEPARATE, KEPT)
TEKKEN = ("[/INST]", "</s>", SEPARATE, KEPT)
BY_HAND: dict[str, tuple[str, str, str, bool]] = {
    **dict.fromkeys(
        "qwen1.5 qwen2.5-vl qwq-32b qwq-32b-preview marco-o1 qwen3-instruct-2507 qwen3-vl"
        " qwen3-next-thinking qwen3-coder mimo-vl yi-coder internlm2-im internlm2.5-tool phi-4"
        " olmo-3-instruct olmo-3-think smollm3 falcon-h1 stable-code minicpm3 minicpm5 lfm2.5"
        " kimi-k2-thinking bielik-3 dbrx step-3.5-flash dolphin-phi opencoder sailor2"
        " smallthinker hammer-2.1 nemotron-3-nano nemotron-3-super".split(),
        ("<|im_end|>", "<|im_end|>", SEPARATE, KEPT),
    ),
    **dict.fromkeys(
        ("qwen3.5-nothink", "qwen3.6", "qwen3.8"), ("<|im_end|>", "<|im_end|>", SEPARATE, STRIPPED)
    ),
    "phi-4-reasoning": ("<|im_end|>", "<|im_end|>", DROPPED, KEPT),
    **dict.fromkeys(
        ("llama-3.1", "llama-3.1-nemotron-70b", "cogito"),
        ("<|eot_id|>", "<|eot_id|>", SEPARATE, STRIPPED),
    ),
    **dict.fromkeys(
        ("llama-3.2-vision", "rnj-1", "functionary-3.1"),
        ("<|eot_id|>", "<|eot_id|>", SEPARATE, KEPT),
    ),
    "llama-4": ("<|eot|>", "<|eot|>", SEPARATE, KEPT),
    "llama-2-chat-default-system": ("[/INST]", "</s>", MERGED, STRIPPED),
    "codellama-70b": ("<step>", "<step>", SEPARATE, STRIPPED),
    **dict.fromkeys(
        ("gemma-1", "gemma-3-1b"), ("<end_of_turn>", "<end_of_turn>", UNSUPPORTED, STRIPPED)
    ),
    "gemma-3n": ("<end_of_turn>", "<end_of_turn>", MERGED, STRIPPED),
    **dict.fromkeys(
        ("gemma-4-31b", "gemma-4-e2b", "diffusion-gemma"),
        ("<turn|>", "<turn|>", SEPARATE, STRIPPED),
    ),
    "mistral-7b-v0.2-old": ("[/INST]", "</s>", UNSUPPORTED, KEPT),
    **dict.fromkeys(
        ("mistral-large-2407-llamacpp", "mistral-common-v1", "mistral-common-v3"),
        ("[/INST]", "</s>", MERGED, KEPT),
    ),
    **dict.fromkeys(
        "mistral-large-2411 mistral-small-24b-2501-short mistral-small-3.2 devstral-small-2507"
        " devstral ministral-3-reasoning mistral-common-v7 mistral-common-v11-think"
        " mistral-common-v13-think mistral-common-v15-think llava-next".split(),
        TEKKEN,
    ),
    "starling": ("<|end_of_turn|>", "<|end_of_turn|>", SEPARATE, KEPT),
    **dict.fromkeys(("phi-3-mini-old", "nuextract"), ("<|end|>", "<|end|>", DROPPED, KEPT)),
    **dict.fromkeys(
        "phi-3-small phi-3.5-mini phi-4-mini phi-4-mini-reasoning solar-open apriel-1.5".split(),
        ("<|end|>", "<|end|>", SEPARATE, KEPT),
    ),
    "apriel-1.6": ("<|begin_assistant|>", "<|end|>", SEPARATE, KEPT),
    "deepseek-llm-chat": ("Assistant:", "<｜end▁of▁sentence｜>", SEPARATE, KEPT),
    "deepseek-coder": ("### Response:", "<|EOT|>", SEPARATE, KEPT),
    **dict.fromkeys(
        "deepseek-v2.5 deepseek-r1-0528 deepseek-r1-distill-2501 deepcoder-14b deepseek-v3.1"
        " deepseek-r1-distill-llama deepseek-v3.2 deepseek-v4".split(),
        DEEPSEEK,
    ),
    "chatglm2": ("答：", "[Round 2]\n\n问：", DROPPED, KEPT),
    **dict.fromkeys(
        "chatglm3 glm-4-0414 glm-edge glm-4.5 glm-4.6 glm-4.7-flash glm-5.1 glm-5.2".split(), GLM
    ),
    "baichuan": ("<reserved_107>", "<reserved_106>", SEPARATE, KEPT),
    "command-r-plus": ("<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", SEPARATE, STRIPPED),
    "command-r7b": (*COHERE[:3], STRIPPED),
    **dict.fromkeys(("command-a", "command-a-reasoning"), COHERE),
    "smolvlm-idefics3": ("<end_of_utterance>", "<end_of_utterance>", SEPARATE, KEPT),
    **dict.fromkeys(
        "granite-3.1 granite-3.2 granite-3.3 granite-4.0-h granite-4.0".split(),
        ("<|end_of_text|>", "<|end_of_text|>", SEPARATE, KEPT),
    ),
    "granite-code": ("Answer:", "Question:", SEPARATE, KEPT),
    "falcon-instruct": ("Assistant:", "User:", DROPPED, KEPT),
    "falcon-2": ("Falcon:", "User:", SEPARATE, KEPT),
    "falcon-rw": ("[RESP]", "<|endoftext|>", SEPARATE, STRIPPED),
    "vicuna-mistralrs": ("ASSISTANT:", "</s>", SEPARATE, STRIPPED),
    "solar-10.7b": ("### Assistant:", "### User:", SEPARATE, KEPT),
    "deci-lm": ("### Assistant:", "### User:", SEPARATE, KEPT),
    "alpaca": ("### Response:", "### Instruction:", SEPARATE, STRIPPED),
    "synatra": ("### Response:", "### Instruction:", SEPARATE, STRIPPED),
    "metharme": ("<|model|>", "<|user|>", SEPARATE, STRIPPED),
    "exaone-3.5": ("[|assistant|]", "[|endofturn|]", SEPARATE, KEPT),
    "exaone-deep": ("[|assistant|]", "[|endofturn|]", SEPARATE, KEPT),
    "exaone-4": ("[|endofturn|]", "[|endofturn|]", SEPARATE, KEPT),
    "hunyuan-a13b": ("<|extra_0|>", "<|eos|>", MERGED, KEPT),
    "hy3": ("<｜hy_Assistant:opensource｜>", "<｜hy_eos:opensource｜>", SEPARATE, KEPT),
    "minimax-m1": ("<end_of_sentence>", "<end_of_sentence>", SEPARATE, STRIPPED),
    "minimax-m2": ("[e~[", "[e~[", SEPARATE, KEPT),
    "seed-oss": ("<seed:eos>", "<seed:eos>", SEPARATE, KEPT),
    "apertus": ("<|user_end|>", "<|assistant_end|>", SEPARATE, KEPT),
    "gigachat3": ("<|message_sep|>", "<|message_sep|>", SEPARATE, KEPT),
    "megrez": ("<|turn_end|>", "<|turn_end|>", SEPARATE, KEPT),
    "yandexgpt5": ("Ассистент:", "Пользователь:", DROPPED, KEPT),
    "jamba-1.6": ("<|eom|>", "<|eom|>", SEPARATE, KEPT),
    "rwkv-world": ("Assistant:", "User:", SEPARATE, STRIPPED),
    "reka-edge": ("<sep>", "<sep>", SEPARATE, KEPT),
    "h2o-danube": ("</s>", "</s>", SEPARATE, KEPT),
    "laguna-xs-2.1": ("</user>", "</assistant>", SEPARATE, KEPT),
    "nemotron-nano-v2": ("<SPECIAL_11>", "<SPECIAL_12>", SEPARATE, STRIPPED),
}

# A model's fixed beginning stays in the bare form; a role named before the separator does too.
BARE_BY_HAND = {
    "llama-3.1": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    "qwen1.5": "<|im_start|>user\n",
    "opencoder": "<|im_start|>user\n",
    "glm-5.2": "[gMASK]<sop><|user|>",
    "minimax-m1": "<begin_of_document><beginning_of_sentence>user name=user\n",
    "gigachat3": "<s>user<|role_sep|>\n",
    "chatglm2": "[Round 1]\n\n问：",
    "jamba-1.6": "<|startoftext|><|bom|><|user|> ",
    "command-r7b": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
    "exaone-deep": "[|user|]",
}


# Options that change the prompt of an instruction, and those that change what follows it alone.
CHANGE_THE_PROMPT: dict[str, dict[str, Any]] = {
    "gemma-4-31b": {"enable_thinking": True},
    "smollm3": {"enable_thinking": False},
    "cogito": {"enable_thinking": True},
    "granite-3.2": {"thinking": True},
    "granite-3.3": {"thinking": True},
    "qwen3.8": {"enable_thinking": False},
    "gpt-oss": {"reasoning_effort": "high"},
    "hy3": {"reasoning_effort": "high"},
    "glm-5.2": {"reasoning_effort": "high"},
    "apertus": {"enable_thinking": True},
}
CHANGE_WHAT_FOLLOWS: dict[str, tuple[dict[str, Any], str]] = {
    "glm-4.5": ({"enable_thinking": False}, "/nothink<|assistant|>\n<think></think>"),
    "deepseek-v3.1": ({"thinking": True}, "<｜Assistant｜><think>"),
    "qwen3": (
        {"enable_thinking": False},
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
}


def special_tokens(entry: dict[str, Any]) -> dict[str, str]:
    return {
        "bos_token": entry["bos_token"] or "<s>",
        "eos_token": entry["eos_token"] or "</s>",
    }


def source_of(entry: dict[str, Any]) -> str:
    return (SHARED / entry["file"]).read_text(encoding="utf-8")


@cache
def derive(file: str) -> tuple[PreQueryTemplate | None, str, float]:
    """Return a template or None, its error's code, and the CPU time in seconds."""
    entry = next(entry for entry in ENTRIES if entry["file"] == file)
    source, tokens = source_of(entry), special_tokens(entry)
    start = time.process_time()
    try:
        template = PreQueryTemplate.from_template(source, tokens, clock=lambda: NOW)
    except ChatTemplateError as error:
        return None, error.code, time.process_time() - start
    return template, "", time.process_time() - start


def derived(entry: dict[str, Any]) -> PreQueryTemplate:
    template, code, _ = derive(entry["file"])
    assert template is not None, (entry["file"], code)
    return template


def test_all_but_twelve_derive_and_those_say_why() -> None:
    found = {entry["file"]: derive(entry["file"]) for entry in ENTRIES}
    assert {file: code for file, (_, code, _) in found.items() if code} == REFUSED
    assert max(seconds for *_, seconds in found.values()) < MAX_CPU_SECONDS
    for entry in ENTRIES:
        template = found[entry["file"]][0]
        if template is not None:
            digest = hashlib.sha256(source_of(entry).encode()).hexdigest()
            assert template.template_sha256 == digest
            json.dumps(template.to_dict())


def test_templates_without_their_special_tokens_derive_or_say_why() -> None:
    codes: Counter[str] = Counter()
    for entry in ENTRIES[::4]:
        try:
            PreQueryTemplate.from_template(source_of(entry), {}, clock=lambda: NOW)
        except ChatTemplateError as error:
            codes[error.code] += 1
    assert codes["extra_variable_required"] > 5
    assert not set(codes) - set(REFUSED.values())


def test_a_damaged_template_derives_or_says_why() -> None:
    """One tag or token left out, as by a careless edit: nothing but the error of its own."""
    chance = random.Random(8)
    codes: Counter[str] = Counter()
    for entry in CURATED[::2]:
        pieces = re.split(r"(\{\{.*?\}\}|\{%.*?%\}|<[^<>]*>)", source_of(entry))
        del pieces[chance.randrange(len(pieces))]
        try:
            PreQueryTemplate.from_template("".join(pieces), special_tokens(entry))
            codes["derives"] += 1
        except ChatTemplateError as error:
            codes[error.code] += 1
    assert codes["derives"] > 20
    assert codes["compile_error"] > 10


class FixedClock(datetime):
    """Stands in for `datetime` where transformers reads the date."""

    @classmethod
    def now(cls, tz: Any = None) -> "FixedClock":
        return cls(NOW.year, NOW.month, NOW.day, NOW.hour)


def in_format(messages: list[dict[str, str]], content_format: str) -> list[Any]:
    """Return messages as a template takes them: with texts, or with lists of parts."""
    if content_format == "string":
        return messages
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def by_transformers(
    entry: dict[str, Any],
    messages: list[dict[str, str]],
    content_format: str = "string",
    **options: Any,
) -> str:
    rendered: list[str]
    rendered, _ = render_jinja_template(
        [in_format(messages, content_format)],
        chat_template=source_of(entry),
        add_generation_prompt=True,
        **special_tokens(entry),
        **options,
    )
    return rendered[0]


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry["file"] not in REFUSED], ids=lambda e: e["name"]
)
def test_a_prompt_around_a_text_is_what_transformers_renders(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]
) -> None:
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)
    template = derived(entry)
    systems = [None, SYSTEM] if template.system_mode in (SEPARATE, MERGED) else [None]
    one_turn = "multi_turn_unsupported" in template.hazards
    for history in [[]] if one_turn else [[], TURN + TURN]:
        for system in systems:
            before = template.pre_query_text(history, system, system_policy="merge")
            front = [{"role": "system", "content": system}] if system else []
            for text in TEXTS if template.strips_content else (*TEXTS, PADDED):
                messages = [*front, *history, {"role": "user", "content": text}]
                expected = by_transformers(entry, messages, template.content_format)
                assert before + text + template.post_query == expected
                assert template.response_prompt_text(messages) == expected


@pytest.mark.parametrize(
    "entry",
    [e for e in CURATED if e["file"] not in REFUSED and e["name"] not in WITHOUT_TURNS],
    ids=lambda e: e["name"],
)
def test_token_ids_are_those_of_the_tokenizer(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]
) -> None:
    """A small tokenizer that knows the template's tokens gives the ids, and the same texts."""
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)
    plain = derived(entry)
    tokenizer = pickle.loads(pickle.dumps(qwen_style()))
    tokenizer.add_special_tokens(special_tokens(entry))
    tokens = sorted(token for token in plain.control_tokens if set(token) & set("<["))
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.chat_template = source_of(entry)
    template = PreQueryTemplate.from_tokenizer(tokenizer, clock=lambda: NOW)
    assert template.hazards == plain.hazards
    for name in ("pre_query", "post_query", "bare_pre_query", "system_mode"):
        assert getattr(template, name) == getattr(plain, name)
    for stop, expected in (
        (template.user_stop, plain.user_stop),
        (template.assistant_stop, plain.assistant_stop),
    ):
        assert stop.text == expected.text
        assert stop.token_id == tokenizer.added_tokens_encoder.get(stop.text)
        assert (stop.token_id is None) == (stop.text not in tokenizer.added_tokens_encoder)
    one_turn = "multi_turn_unsupported" in template.hazards
    for history in [[]] if one_turn else [[], TURN]:
        prompt = template.pre_query_ids(history)
        assert prompt.healed_suffix in ("", " ")
        for text in ("What is it?", "3 apples", "你好"):
            messages = [*history, {"role": "user", "content": text}]
            ids = tokenizer.apply_chat_template(
                in_format(messages, template.content_format),
                add_generation_prompt=True,
                return_dict=False,
            )
            assert template.response_prompt_ids(messages) == tuple(ids)
            assert tuple(ids[: len(prompt.ids)]) == prompt.ids


@pytest.mark.parametrize("name", [*CHANGE_THE_PROMPT, *CHANGE_WHAT_FOLLOWS])
def test_options_reach_the_template(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)
    entry = BY_NAME[name]
    options, post_query = CHANGE_WHAT_FOLLOWS.get(name, (CHANGE_THE_PROMPT.get(name, {}), ""))
    plain = derived(entry)
    template = PreQueryTemplate.from_template(
        source_of(entry), special_tokens(entry), chat_template_kwargs=options, clock=lambda: NOW
    )
    assert (template.pre_query != plain.pre_query) == (name in CHANGE_THE_PROMPT)
    assert not post_query or template.post_query == post_query != plain.post_query
    for history in ([], TURN):
        expected = by_transformers(
            entry, [*history, {"role": "user", "content": "Why?"}], **options
        )
        assert template.pre_query_text(history) + "Why?" + template.post_query == expected


def test_a_switch_written_after_the_users_text_ends_it() -> None:
    template = PreQueryTemplate.from_template(
        source_of(BY_NAME["glm-4.5"]), {}, chat_template_kwargs={"enable_thinking": False}
    )
    assert template.user_stop.text == "/nothink"
    assert {"/nothink", "<|assistant|>"} <= set(template.stop_strings)


def test_the_counts_are_those_of_an_independent_survey() -> None:
    templates = [derived(entry) for entry in CURATED if entry["file"] not in REFUSED]
    assert len(templates) == 183
    hazards = Counter(hazard for template in templates for hazard in template.hazards)
    assert {name: hazards[name] for name in CURATED_COUNTS} == CURATED_COUNTS
    modes = Counter(template.system_mode for template in templates)
    assert modes == {SEPARATE: 153, MERGED: 13, DROPPED: 11, UNSUPPORTED: 6}


@pytest.mark.parametrize("name", BY_HAND)
def test_turns_end_as_read_in_the_templates_text(name: str) -> None:
    template = derived(BY_NAME[name])
    assert (
        template.user_stop.text,
        template.assistant_stop.text,
        template.system_mode,
        template.strips_content,
    ) == BY_HAND[name]
    if name in BARE_BY_HAND:
        assert template.bare_pre_query == BARE_BY_HAND[name]


@pytest.mark.parametrize("name", WITHOUT_TURNS)
def test_text_without_turns_is_described_and_named(name: str) -> None:
    template = derived(BY_NAME[name])
    assert (template.pre_query.strip(), template.post_query) == ("", "</s>")
    assert "no_user_header" in template.hazards
