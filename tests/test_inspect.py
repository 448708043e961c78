"""What `magpie-steps inspect` tells about a model: to a person, to a program, by its exit code."""

import ast
import importlib
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import (
    LLAMA_TEMPLATE,
    MISTRAL_TEMPLATE,
    QWEN_TEMPLATE,
    llama_style,
    mistral_style,
    qwen_style,
)

from magpie_steps import scaffold
from magpie_steps.cli import main
from magpie_steps.inspection.advice import ERRORS, HAZARDS
from magpie_steps.inspection.findings import values_to_try
from magpie_steps.inspection.marking import BRACKETS, LONGEST, REVERSED, Marker
from magpie_steps.inspection.sources import read_source, template_alone
from magpie_steps.inspection.verdict import judge
from magpie_steps.scaffold import SystemMode
from magpie_steps.templates import PreQueryTemplate

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "templates"

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKS = (
    "{% if think_pair %}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content and keep_thinking %}"
    "{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA_SPECIALS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str], Path]:
    """Write a template to a file of its own."""

    def write(text: str, name: str = "template.jinja") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def folder_of(tokenizer: Any, path: Path, template: Any = None, **files: Any) -> Path:
    """Save a tokenizer; with a template, that one stands in its configuration, as it once did."""
    tokenizer.save_pretrained(path)
    if template is not None:
        (path / "chat_template.jinja").unlink()
        config = json.loads((path / "tokenizer_config.json").read_text())
        (path / "tokenizer_config.json").write_text(json.dumps({**config, **template}))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


class Told:
    """What a command says, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: Any) -> None:
        capsys.readouterr()
        self.code = main(["inspect", *map(str, arguments)])
        said = capsys.readouterr()
        self.out, self.error = said.out, said.err

    @property
    def verdict(self) -> str:
        last = self.out.rstrip("\n").rpartition("\n\n")[2]
        assert last.startswith("verdict: ")
        return last.removeprefix("verdict: ")

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(*arguments: Any) -> Told:
        return Told(capsys, *arguments)

    return run


# --- for a person ---------------------------------------------------------------------------------


def test_a_folder_is_shown_from_prompt_to_verdict(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    folder = folder_of(llama_style(), tmp_path / "model")
    told = inspect(folder)
    assert (told.code, told.error) == (0, "")
    assert told.verdict == "works"
    tokenizer = llama_style()
    ids = tokenizer.encode("<|start_header_id|>user<|end_header_id|>\n\n")
    user = "⟦<|start_header_id|>⟧user⟦<|end_header_id|>⟧↵\n    ↵"
    sha256 = PreQueryTemplate.from_tokenizer(tokenizer).template_sha256
    stops = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|eot_id|>",)}
    for shown in (
        str(folder),
        sha256,
        f"the prompt (pre-query)\n    ⟦<|begin_of_text|>⟧{user}\n",
        f"token ids: {' '.join(map(str, ids))}\n",
        "the bare form: the same",
        "with the system prompt 'You are a math tutor.'\n    ⟦<|begin_of_text|>⟧"
        "⟦<|start_header_id|>⟧system⟦<|end_header_id|>⟧↵\n    ↵\n    You are a math tutor.⟦",
        "the second turn, after 'Hi' and 'Hello!'",
        f"Hello!⟦<|eot_id|>⟧{user}\n",
        "what follows the user's text (post-query)\n    ⟦<|eot_id|>⟧⟦<|start_header_id|>⟧assistant",
        "of which opens the assistant's turn\n    ⟦<|start_header_id|>⟧assistant",
        f"a user's turn ends at ⟦<|eot_id|>⟧ ({stops['<|eot_id|>']})",
        "thinking: none",
        "strips_user_content: The template takes white space off both ends of a user's text.",
    ):
        assert shown in told.out


def test_a_space_left_to_the_model_is_shown(tmp_path: Path, inspect: Callable[..., Told]) -> None:
    told = inspect(folder_of(mistral_style(), tmp_path / "model"))
    tokenizer = mistral_style()
    ids = " ".join(map(str, tokenizer.convert_tokens_to_ids(["<s>", "[INST]"])))
    assert f"    ⟦<s>⟧⟦[INST]⟧·\n  token ids: {ids}\n  left to the model: ·\n" in told.out
    assert told.code == 0
    assert told.verdict == "works with system prompts inside the user's turn only"


def test_every_hazard_of_a_template_is_explained(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    folder = folder_of(mistral_style(), tmp_path / "model")
    hazards = PreQueryTemplate.from_tokenizer(mistral_style()).hazards
    assert len(hazards) > 3
    shown = " ".join(inspect(folder).out.split())
    for name in hazards:
        assert f"{name}: {HAZARDS[name].meaning} {HAZARDS[name].remedy}" in shown


def test_what_a_template_adds_on_its_own_is_told_apart(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    told = inspect(folder_of(qwen_style(), tmp_path / "model"))
    added = "⟦<|im_start|>⟧system↵\n    You help people.⟦<|im_end|>⟧↵\n"
    user = "    ⟦<|im_start|>⟧user↵\n"
    assert f"the prompt (pre-query)\n    {added}{user}" in told.out
    assert f"the bare form: without what the template adds\n{user}" in told.out
    assert "default_system_prompt" in told.out


def test_what_options_do_to_thoughts_is_shown(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put(THINKS))
    assert told.verdict == "works"
    thinking = told.out.partition("\nthinking\n")[2].partition("\n\n")[0]
    assert "think_pair" not in thinking  # changes nothing whatever its value
    assert "  a thought stands between ⟦<think>⟧ and ⟦</think>⟧\n" in thinking
    assert "  thoughts are taken out of earlier answers\n" in thinking
    assert "  enable_thinking = true: changes nothing\n" in thinking
    empty = "⟦<|im_end|>⟧↵⟦<|im_start|>⟧assistant↵⟦<think>⟧↵↵⟦</think>⟧↵↵"
    changed = f"  enable_thinking = false changes\n    what follows the user's text: {empty}\n"
    assert changed in thinking + "\n"
    kept = "⟦<think>⟧↵They greet me.↵⟦</think>⟧↵↵Hello!"
    assert "keep_thinking = true changes\n    the prompt of a second turn: " in thinking
    assert kept in thinking
    for name in ("enable_thinking", "keep_thinking"):
        assert name in told.out.partition("options of the template: ")[2].partition("\n")[0]


def test_options_reach_the_template_and_the_verdict(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    options = '{"enable_thinking": false}'
    told = inspect(put(THINKS), "--chat-template-kwargs", options)
    assert told.code == 0
    assert told.verdict == f"works with --chat-template-kwargs '{options}'"
    post_query = "what follows the user's text (post-query)\n    ⟦<|im_end|>⟧↵\n    ⟦<|im_start|>⟧"
    assert f"{post_query}assistant↵\n    ⟦<think>⟧↵\n    ↵\n    ⟦</think>⟧↵\n    ↵\n" in told.out


def test_tokens_of_what_a_template_adds_stand_out_too(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    """They open no turn that a user or an assistant has, so they are no stops."""
    told = inspect(put("{{ '<|about|>Be kind.<|about_end|><tools>' }}" + CHATML))
    assert "    ⟦<|about|>⟧Be kind.⟦<|about_end|>⟧<tools>⟦<|im_start|>⟧user↵\n" in told.out


def test_stops_that_are_no_tokens_are_quoted(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    plain = "{% for m in messages %}{{ '\n### ' + m.role + ':\n' + m.content }}{% endfor %}{% if "
    told = inspect(put(plain + "add_generation_prompt %}{{ '\n### assistant:\n' }}{% endif %}"))
    assert told.code == 0
    assert "a user's turn ends at '### assistant:'\n  and is stopped at '### " in told.out


def test_a_clock_that_goes_on_is_no_effect_of_an_option(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put("{{ '<|system|>' + strftime_now('%H:%M:%S.%f') }}" + THINKS))
    assert "date_in_prompt: " in told.out
    assert "  enable_thinking = true: changes nothing\n" in told.out


def test_values_are_tried_of_what_is_about_thinking_alone() -> None:
    assert values_to_try("enable_thinking") == values_to_try("thinking") == (True, False)
    assert values_to_try("reasoning_effort") == ("low", "medium", "high")
    for other in ("tools", "date_string", "thinking_budget", "custom_tools"):
        assert values_to_try(other) == ()


# --- how texts are shown --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<s>[INST] ", "⟦<s>⟧[INST]·"),
        ("  a b \n c\n", "··a b·↵\n c↵\n"),
        ("<s><s>", "⟦<s>⟧⟦<s>⟧"),
        ("<s>x", "⟦<s>x⟧"),
        ("\x1b[31mred\x07", "\\u001b[31mred\\u0007"),
        ("a\u202eb\u200b\r\t", "a\\u202eb\\u200b\\r\\t"),
        ("\ud800", "\\ud800"),
        ("⟦↵·⟧", "\\u27e6\\u21b5\\u00b7\\u27e7"),
        ("", ""),
    ],
)
def test_texts_are_shown_with_nothing_hidden(text: str, shown: str) -> None:
    assert Marker({"<s>", "<s>x", ""}, BRACKETS).shown(text) == shown


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet=st.characters() | st.sampled_from(" \n\ud800\x1b⟦·")), st.text(max_size=3))
def test_any_text_shows_as_characters_that_a_terminal_only_shows(text: str, token: str) -> None:
    shown = Marker({token}, BRACKETS).shown(text)
    kinds = {unicodedata.category(character) for character in shown if character != "\n"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert shown.count("\n") == text.count("\n")
    shown.encode()


def test_long_texts_show_both_ends() -> None:
    text = "<s>" + "x" * 100_000 + "<e>"
    shown = Marker({"<s>", "<e>"}, REVERSED).shown(text)
    assert shown.startswith("\x1b[7m<s>\x1b[27mxxx")
    assert shown.endswith("xxx\x1b[7m<e>\x1b[27m")
    assert f"\n[{100_006 - LONGEST:,} characters are left out here]\n" in shown
    assert len(shown) < LONGEST + 100


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run the command where its output is a terminal; return what that gets."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "magpie_steps.cli", "inspect", *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**clean, "TERM": "xterm", "PYTHONPATH": str(ROOT), **environment},
    )
    os.close(theirs)
    said = b"".join(read_all(ours))
    os.close(ours)
    assert process.wait(60) == 0
    return said.decode()


def read_all(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except OSError:  # a terminal whose other end is closed
            return
        if not part:
            return
        yield part


def test_tokens_stand_out_on_a_terminal(put: Callable[..., Path]) -> None:
    path = str(put(CHATML))
    said = on_a_terminal(path)
    assert "\x1b[7m<|im_start|>\x1b[27muser↵" in said
    assert "⟦" not in said
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        said = on_a_terminal(path, **plain)
        assert "⟦<|im_start|>⟧user↵" in said
        assert "\x1b" not in said


def test_an_output_that_cannot_show_the_signs_gets_escapes(put: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "magpie_steps.cli", "inspect", str(put(CHATML))],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"\\u27e6<|im_start|>\\u27e7user\\u21b5\n" in done.stdout


HOSTILE = "\\x1b]0;title\\x07\\x1b[2J\\u202e\\u2028\\ud800\\r"


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("<|im_start|>", f"<|im_start|>{HOSTILE}"),
        f"{{{{ '{HOSTILE}' }}}}" + CHATML,
        f"{{{{ raise_exception('{HOSTILE}\\nverdict: works') }}}}",
    ],
    ids=["in a header", "in front", "in its error"],
)
def test_what_a_terminal_would_obey_is_written_out(
    template: str, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put(template))
    for said in (told.out, told.error):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800]", said)
    assert "\\u001b[2J" in told.out
    if told.code:
        assert told.out.count("\nverdict: ") == 1
    again = inspect(put(template), "--json")
    assert again.out.isascii()
    assert again.json["works"] is (again.code == 0)


def test_a_hostile_name_of_a_token_or_a_file_is_written_out(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    path = put("{{ bos_token }}" + CHATML, "te\x1b[31mp.jinja")
    told = inspect(path, "--special-tokens", json.dumps({"bos_token": "<\x1b[31m>"}))
    assert told.code == 0
    assert "\x1b" not in told.out
    assert "⟦<\\u001b[31m>⟧" in told.out


# --- folders in every layout ----------------------------------------------------------------------

NAMED = [
    {"name": "default", "template": LLAMA_TEMPLATE},
    {"name": "rag", "template": QWEN_TEMPLATE},
]


def test_a_template_is_found_wherever_it_stands(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    new = folder_of(llama_style(), tmp_path / "new")
    old = folder_of(llama_style(), tmp_path / "old", {"chat_template": LLAMA_TEMPLATE})
    named = folder_of(llama_style(), tmp_path / "named", {"chat_template": NAMED})
    beside = folder_of(llama_style(), tmp_path / "beside")
    (beside / "additional_chat_templates").mkdir()
    (beside / "additional_chat_templates" / "rag.jinja").write_text(QWEN_TEMPLATE)
    expected = PreQueryTemplate.from_tokenizer(llama_style())
    for folder in (new, old, named, beside):
        found = inspect(folder, "--json").json
        assert found["template_sha256"] == expected.template_sha256
        assert found["pre_query_ids"] == list(expected.pre_query_ids().ids)
        assert found["pre_query_ids"].count(llama_style().bos_token_id) == 1
    other = PreQueryTemplate.from_template(QWEN_TEMPLATE, {})
    for folder in (named, beside):
        found = inspect(folder, "--json", "--chat-template", "rag").json
        assert found["template_sha256"] == other.template_sha256
        assert found["named_templates"] == ["default", "rag"]
        assert "which --chat-template names: default, rag\n" in inspect(folder).out


def test_named_templates_without_a_default_must_be_chosen(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    folder = folder_of(llama_style(), tmp_path / "model", {"chat_template": NAMED[1:]})
    told = inspect(folder)
    assert told.code == 1
    assert told.verdict.startswith("does not work because of no_chat_template: ")
    assert "rag" in told.verdict
    assert inspect(folder, "--chat-template", "rag").code == 0
    told = inspect(folder, "--chat-template", "default")
    assert told.code == 2
    assert "'default' is neither a file nor one of the tokenizer's named chat" in told.error
    assert "it has 'rag'" in told.error


def test_another_template_comes_from_a_file(
    tmp_path: Path, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    folder = folder_of(qwen_style(), tmp_path / "model", {"chat_template": None})
    assert inspect(folder).verdict.startswith("does not work because of no_chat_template: ")
    told = inspect(folder, "--chat-template", put(CHATML), "--json")
    assert told.json["pre_query"] == "<|im_start|>user\n"
    assert told.json["pre_query_ids"][0] == qwen_style().convert_tokens_to_ids("<|im_start|>")


def test_a_tokenizer_without_configuration_is_told_its_special_tokens(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    folder = folder_of(llama_style(), tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    told = inspect(folder)
    assert told.code == 1
    assert told.verdict.startswith("does not work because of extra_variable_required: ")
    assert "bos_token" in told.verdict
    assert "--special-tokens" in told.out
    told = inspect(folder, "--special-tokens", json.dumps(LLAMA_SPECIALS), "--json")
    assert told.code == 0
    eot = llama_style().convert_tokens_to_ids("<|eot_id|>")
    assert told.json["user_stop"] == {"text": "<|eot_id|>", "token_id": eot}
    for wrong, message in (
        ({"bos_token": "<none>"}, "bos_token cannot be '<none>', which is no token"),
        ({"bos": "<|begin_of_text|>"}, "has no special token 'bos'; it has bos_token"),
    ):
        told = inspect(folder, "--special-tokens", json.dumps(wrong))
        assert (told.code, told.out) == (2, "")
        assert message in told.error


def test_the_models_own_ends_are_stops(tmp_path: Path, inspect: Callable[..., Told]) -> None:
    folder = folder_of(qwen_style(), tmp_path / "model", generation_config={"eos_token_id": [1, 7]})
    told = inspect(folder, "--json").json
    assert {1, 7} <= set(told["stop_token_ids"])
    assert {1, 7} <= set(told["assistant_stop_token_ids"])
    shown = inspect(folder).out
    assert "⟦<|im_start|>⟧ (1)" in shown
    assert "token 7" in shown


def test_an_embedded_model_has_a_name(inspect: Callable[..., Told]) -> None:
    told = inspect("tiny-instruct")
    assert (told.code, told.verdict) == (0, "works")


# --- a template alone -----------------------------------------------------------------------------


def test_special_tokens_that_are_not_known_stand_as_their_names(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    path = put(MISTRAL_TEMPLATE)
    told = inspect(path)
    assert told.code == 0
    assert "not known from the template alone: bos_token, eos_token; --special-tokens" in told.out
    assert "    ⟦<bos_token>⟧⟦[INST]⟧·\n  token ids: none without a tokenizer\n" in told.out
    found = inspect(path, "--json").json
    assert found["stand_ins"] == ["bos_token", "eos_token"]
    assert found["pre_query"] == "<bos_token>[INST] "
    given = json.dumps({"bos_token": "<s>", "eos_token": "</s>"})
    found = inspect(path, "--json", "--special-tokens", given).json
    assert (found["stand_ins"], found["pre_query"]) == ([], "<s>[INST] ")
    assert found["assistant_stop"] == {"text": "</s>", "token_id": None}
    assert found["pre_query_ids"] is None


def test_only_the_tokens_that_a_template_names_are_guessed() -> None:
    source = template_alone("x", "{{ bos_token }}{{ my_eos_token }}", {})
    assert source.stand_ins == ("bos_token",)
    assert source.special_tokens == {"bos_token": "<bos_token>"}


# --- for a program --------------------------------------------------------------------------------


def test_the_json_object_has_these_keys(tmp_path: Path, inspect: Callable[..., Told]) -> None:
    documented = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    table = documented.partition("| key |")[2].partition("\n\n")[0]
    keys = [key for line in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", cell(line))]
    found = inspect(folder_of(llama_style(), tmp_path / "model"), "--json")
    assert sorted(found.json) == sorted(keys)
    assert found.json["works"] is True
    assert found.json["verdict"] == "works"
    assert set(found.json["advice"]) == set(found.json["hazards"])
    assert all(set(each) == {"meaning", "remedy"} for each in found.json["advice"].values())


def cell(line: str) -> str:
    return line.split(" | ")[0]


def test_the_json_object_of_a_template_that_does_not_work(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    path = put("{% for m in messages %}")
    told = inspect(path, "--json")
    assert told.code == 1
    assert set(told.json) == {"model", "works", "code", "message"}
    assert told.json["works"] is False
    assert told.json["code"] == "compile_error"
    assert "not valid Jinja" in told.json["message"]


def test_effects_of_options_are_in_the_json_object(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    found = inspect(put(THINKS), "--json").json
    effects = {(each["option"], each["value"]): each for each in found["option_effects"]}
    assert effects["enable_thinking", True]["changes"] == {}
    off = effects["enable_thinking", False]["changes"]
    assert off == {"post_query": found["post_query"] + "<think>\n\n</think>\n\n"}
    assert "They greet me." in effects["keep_thinking", True]["changes"]["second_turn"]
    assert found["keeps_thoughts"] is False


# --- verdicts -------------------------------------------------------------------------------------

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HUGE = "{{ 'x' * 999999999 }}"
ATTRIBUTES = "{{ messages.__class__.__mro__ }}"
ENDLESS = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"

REFUSED = {
    "compile_error": "{% for m in messages %}",
    "render_error": CHATML + "{{ raise_exception('never') }}",
    "extra_variable_required": "{{ guideline + 'x' }}" + CHATML,
    "content_dropped": "{% for m in messages %}<u>{% endfor %}",
    "content_repeated": CHATML.replace("m.content", "m.content + m.content"),
    "content_transformed": CHATML.replace("m.content", "m.content.replace('\n', ' ')"),
    "affix_depends_on_content": CHATML.replace("m.role", "m.role + m.content|length|string"),
    "no_user_header": "{% for m in messages %}{{ m.content + '</s>' }}{% endfor %}",
    "no_text_after_user": "{% for m in messages %}{{ '<u>' + m.content }}{% endfor %}",
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_template_that_does_not_work_says_why(
    code: str, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put(REFUSED[code]))
    assert (told.code, told.error) == (1, "")
    assert told.verdict.startswith(f"does not work because of {code}: ")
    assert ERRORS[code].remedy in " ".join(told.out.split())


@pytest.mark.parametrize(
    ("code", "template"),
    [
        ("bos_doubled", "{{ bos_token }}" + LLAMA_TEMPLATE),
        ("boundary_merge", CHATML.replace("m.role + '\n'", "m.role + '\nT'")),
    ],
)
def test_a_template_that_does_not_go_with_its_tokenizer_says_why(
    code: str,
    template: str,
    tmp_path: Path,
    put: Callable[..., Path],
    inspect: Callable[..., Told],
) -> None:
    folder = folder_of(llama_style(), tmp_path / "model")
    told = inspect(folder, "--chat-template", put(template))
    assert (told.code, told.error) == (1, "")
    assert told.verdict.startswith(f"does not work because of {code}: ")


@pytest.mark.parametrize("template", [LOOP, HUGE, ATTRIBUTES, ENDLESS])
def test_a_malicious_template_is_refused(
    template: str, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put(template + CHATML))
    assert told.code == 1
    assert told.verdict.startswith("does not work because of ")
    assert len(told.out) < 5_000


def test_an_option_that_the_template_does_not_know_is_named(
    put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put(THINKS), "--chat-template-kwargs", '{"enable_thinkin": false}')
    assert told.code == 1
    assert told.verdict.startswith("does not work because of unknown_option: ")
    for name in ("'enable_thinkin'", "enable_thinking", "keep_thinking"):
        assert name in told.verdict


@pytest.mark.parametrize(
    ("template", "kwargs"),
    [
        ("{{ tools | length }}" + CHATML, '{"tools": []}'),
        ("{{ '' if not enable_thinking else 1 // 0 }}{{ 1 + enable_thinking }}" + CHATML, None),
    ],
)
def test_an_option_that_helps_is_found(
    template: str, kwargs: str | None, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    kwargs = kwargs or '{"enable_thinking": false}'
    told = inspect(put(template))
    assert told.code == 0
    assert told.verdict == f"works with --chat-template-kwargs '{kwargs}'"
    found = inspect(put(template), "--json").json
    assert found["chat_template_kwargs"] == json.loads(kwargs)
    assert found["needs"] == [f"--chat-template-kwargs '{kwargs}'"]
    assert inspect(put(template), "--chat-template-kwargs", kwargs).verdict == told.verdict


@pytest.mark.parametrize(
    ("template", "verdict"),
    [
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
            "works with no system prompts",
        ),
        (CHATML.replace("messages %}", "messages if m.role != 'system' %}"), "no system prompts"),
        (CHATML.replace("messages %}", "messages[-1:] %}"), "no system prompts, single turns only"),
        ("{{ tools | length }}" + CHATML.replace("messages %}", "messages[-1:] %}"), "'{\"tools"),
    ],
)
def test_what_a_model_works_without_is_in_the_verdict(
    template: str, verdict: str, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    told = inspect(put(template))
    assert told.code == 0
    assert verdict in told.verdict
    if "single turns only" in told.verdict:
        assert "the second turn, after 'Hi' and 'Hello!': none" in told.out
        assert "with the system prompt 'You are a math tutor.': none" in told.out


# --- the table of meanings ------------------------------------------------------------------------


def test_every_hazard_has_a_meaning_and_no_other_word_has() -> None:
    tree = ast.parse(Path(scaffold.__file__).read_text(encoding="utf-8"))
    (function,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "_hazards"
    )
    (table,) = (node for node in ast.walk(function) if isinstance(node, ast.Dict))
    found = {ast.literal_eval(key) for key in table.keys if key is not None}
    assert found | {"opens_reasoning"} == set(HAZARDS)  # derived from the marks of a thought


def test_every_error_has_a_meaning_and_no_other_word_has() -> None:
    assert set(codes()) == set(ERRORS)


def codes() -> Iterator[str]:
    """Yield the codes of all errors that the package can raise."""
    for path in (ROOT / "magpie_steps").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ChatTemplateError":
                yield from written(node.args[0])


def written(code: ast.expr) -> list[str]:
    if isinstance(code, ast.Constant):
        return [str(code.value)]
    assert ast.unparse(code) == "f'system_{mode}'"
    return [f"system_{mode}" for mode in get_args(SystemMode) if mode != "separate"]


def test_meanings_are_sentences() -> None:
    for advice in (*HAZARDS.values(), *ERRORS.values()):
        for text in (advice.meaning, advice.remedy):
            assert re.fullmatch(r"[A-Z][^\n]+\.", text)


# --- mistakes -------------------------------------------------------------------------------------


def test_mistakes_are_told_in_a_line(
    tmp_path: Path, put: Callable[..., Path], inspect: Callable[..., Told]
) -> None:
    template = put(CHATML)
    folder = folder_of(llama_style(), tmp_path / "model")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "chat_template.jinja").write_text(CHATML)
    binary = tmp_path / "binary.jinja"
    binary.write_bytes(b"\xff\xfe\x00")
    for arguments, message in (
        ([tmp_path / "gone.jinja"], "there is no file"),
        ([tmp_path / "gone"], "there is no model folder"),
        (["./gone"], "there is no model folder"),
        (["some/model"], "could not be fetched from the hub"),
        ([folder / "tokenizer.json"], "is neither a folder nor a chat template"),
        ([binary], "is not UTF-8 text"),
        ([alone], f"or its template alone: {alone}/chat_template.jinja"),
        ([template, "--chat-template", "rag"], "is a chat template itself"),
        ([folder, "--chat-template", "rag"], "it has none"),
        ([template, "--chat-template-kwargs", "{"], "--chat-template-kwargs is '{', which is no"),
        ([template, "--chat-template-kwargs", "[1]"], "which is no JSON object"),
        ([template, "--chat-template-kwargs", '{"a": NaN}'], "which is no JSON object"),
        ([template, "--chat-template-kwargs", "[" * 99_999], "which is no JSON object"),
        ([template, "--special-tokens", '{"bos_token": 1}'], "'bos_token' is 1"),
        ([template, "--colour"], "unrecognized arguments: --colour"),
        ([], "the following arguments are required: MODEL"),
    ):
        told = inspect(*arguments)
        assert (told.code, told.out) == (2, "")
        assert told.error.startswith("magpie-steps: error: ")
        assert told.error.count("\n") == 1
        assert message in told.error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"a": 1}'),
        ("tokenizer.json", ""),
        ("tokenizer_config.json", "[1]"),
        ("tokenizer_config.json", "{"),
        ("generation_config.json", '{"eos_token_id": "x"}'),
        ("generation_config.json", '{"eos_token_id": [true]}'),
    ],
)
def test_garbage_in_a_folder_is_told_in_a_line(
    name: str, content: str, tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    folder = folder_of(llama_style(), tmp_path / "model")
    (folder / name).write_text(content)
    told = inspect(folder)
    assert (told.code, told.out) == (2, "")
    assert told.error.count("\n") == 1
    assert "model" in told.error


def test_code_that_comes_with_a_tokenizer_runs_only_if_it_is_trusted(
    tmp_path: Path, inspect: Callable[..., Told]
) -> None:
    code = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    folder = folder_of(llama_style(), tmp_path / "model", {**code, "chat_template": CHATML})
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    told = inspect(folder)
    assert (told.code, told.out) == (2, "")
    assert "--trust-remote-code" in told.error
    assert not mark.exists()
    assert inspect(folder, "--trust-remote-code").code == 0
    assert mark.exists()


def test_weights_are_never_read(tmp_path: Path, inspect: Callable[..., Told]) -> None:
    folder = folder_of(qwen_style(), tmp_path / "model")
    for name in ("model.safetensors", "pytorch_model.bin"):
        (folder / name).write_bytes(b"no weights")
    assert inspect(folder).code == 0


# --- the table of families ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared chat templates are not here")
def test_the_table_of_families_is_what_the_templates_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    families = importlib.import_module("templates").count(SHARED)
    stored = json.loads((ROOT / "benchmarks" / "results" / "templates.json").read_text())
    assert families == stored["figures"]["families"]


def test_families_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    family_of = importlib.import_module("templates").family_of
    for model, family in {
        "meta-llama/Llama-3.3-70B-Instruct": "Llama 3 to 3.3",
        "meta-llama/Llama-Guard-3-8B": "guards, extractors, function callers",
        "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF": "Nemotron",
        "axolotl:phi_35": "Phi 3 to 4",
        "mistral.rs:vicuna": "Vicuna, Alpaca, SOLAR",
        "bigscience/bloom": importlib.import_module("templates").OTHERS,
    }.items():
        assert family_of({"name": "extra-1", "models": [model]}) == family


def test_a_folder_of_templates_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"a": MISTRAL_TEMPLATE, "b": "{{ tools | length }}" + THINKS, "c": "{% if %}"}
    for name, text in texts.items():
        (tmp_path / f"{name}.jinja").write_text(text)
    entries = [
        {
            "name": name,
            "file": f"{name}.jinja",
            "models": ["mistralai/Mistral"],
            "bos_token": "<s>",
            "eos_token": None,
        }
        for name in texts
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"templates": entries}))
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    (counted,) = importlib.import_module("templates").count(tmp_path)
    assert counted == {
        "family": "Mistral, Mixtral, Devstral",
        "templates": 3,
        "works": 2,
        "system_mode": {"merged": 1, "separate": 1},
        "single_turn": 0,
        "thinks": 1,
        "opens_thoughts": 0,
        "switches": {"enable_thinking": 1, "keep_thinking": 1},
        "needs": {
            "--chat-template-kwargs '{\"tools\": []}'": 1,
            "system prompts inside the user's turn only": 1,
        },
        "refused": {"compile_error": 1},
    }


def test_a_source_can_be_judged_without_a_shell(put: Callable[..., Path]) -> None:
    source = read_source(str(put(CHATML)))
    judgement = judge(source.derive, {})
    assert judgement.verdict.works
    assert judgement.findings is not None
    assert judgement.findings.second_turn is not None
    assert judgement.findings.second_turn.endswith("Hello!<|im_end|>\n<|im_start|>user\n")
