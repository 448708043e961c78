"""Our renderer prints what transformers prints, and fails with a clear error."""

import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from magpie_steps.rendering import ChatRenderer, ChatTemplateError

SHARED = Path(__file__).parents[2] / "shared" / "templates"
NOW = datetime(2026, 11, 23, 12, 0)

USER = {"role": "user", "content": "Hi <b>there</b> & 你好"}
ASSISTANT = {"role": "assistant", "content": " Hello! ", "reasoning": "greet back"}
SYSTEM = {"role": "system", "content": "Be brief."}

# One line for each habit of the environment that a template may rely on.
SNIPPETS = {
    "blocks are trimmed": "{% if true %}\n  {% for m in messages %}\n[{{ m.role }}]\n"
    "  {% endfor %}\n{% endif %}end",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
    "{{ m.content }}{% endfor %}",
    "generation tag": "{% for m in messages %}{% generation %}\n {{ m.content }}\n"
    "{% endgeneration %}{% endfor %}",
    "tojson keeps html and letters": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}"
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ namespace(self=1).self }}",
    "dict": "{{ dict(a=1) }}{{ dict.fromkeys(['x'], 2) }}",
    "unset names": "{{ nothing is defined }}{{ tools is none }}{{ documents is none }}"
    "{{ strftime_now is defined }}{{ add_generation_prompt }}",
    "reasoning has three names": "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}"
    "|{{ m.reasoning }}{% endfor %}",
    "special tokens and options": "{{ bos_token }}{{ option }}{{ numbers | sum }}{{ thing }}",
    "macros see the context": "{% macro f(m) %}{{ bos_token }}{{ m.content | trim }}{% endmacro %}"
    "{% for m in messages %}{{ f(m) }}{% endfor %}",
    "string methods": "{{ messages[0].content.split('<')[0].strip().title() }}"
    "{{ messages[0]['content'][::-1] }}",
}
VARIABLES: dict[str, Any] = {
    "bos_token": "<s>",
    "option": True,
    "numbers": [1, 2.5],
    "thing": object,
}


@pytest.mark.parametrize("snippet", SNIPPETS.values(), ids=SNIPPETS.keys())
@pytest.mark.parametrize("opens", [False, True])
def test_every_habit_is_that_of_transformers(snippet: str, opens: bool) -> None:
    messages = [SYSTEM, USER, ASSISTANT]
    expected, _ = render_jinja_template(
        [messages], chat_template=snippet, add_generation_prompt=opens, **VARIABLES
    )
    renderer = ChatRenderer(snippet, {"bos_token": "<s>"}, VARIABLES, NOW)
    assert renderer.render(messages, add_generation_prompt=opens) == expected[0]


CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turn 2": [USER, ASSISTANT, {"role": "user", "content": "  And\n\nnow? "}],
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared chat templates are not here")
@pytest.mark.parametrize(
    ("pattern", "stride"),
    [("corpus/*.jinja", 5), pytest.param("*/*.jinja", 1, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_real_templates_render_as_in_transformers(
    monkeypatch: pytest.MonkeyPatch, pattern: str, stride: int
) -> None:
    class FixedClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "FixedClock":
            return cls(2026, 11, 23, 12, 0)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", FixedClock)
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    paths = sorted(SHARED.glob(pattern))
    assert len(paths) > 180
    for path in paths[::stride]:
        source = path.read_text(encoding="utf-8")
        renderer = ChatRenderer(source, special, {}, NOW)
        for name, messages in CONVERSATIONS.items():
            for opens in (False, True):
                expected = _transformers(source, messages, opens, special)
                assert _ours(renderer, messages, opens) == expected, (path.name, name, opens)


def _transformers(source: str, messages: Any, opens: bool, special: dict[str, str]) -> str | None:
    try:
        rendered, _ = render_jinja_template(
            [messages], chat_template=source, add_generation_prompt=opens, **special
        )
    except Exception:  # noqa: BLE001 - whatever a template raises
        return None
    return str(rendered[0])


def _ours(renderer: ChatRenderer, messages: Any, opens: bool) -> str | None:
    try:
        return renderer.render(messages, add_generation_prompt=opens)
    except ChatTemplateError:
        return None


def test_the_clock_is_an_argument() -> None:
    renderer = ChatRenderer("{{ strftime_now('%d %b %Y') }}", now=datetime(2001, 2, 3))
    assert renderer.render([USER]) == "03 Feb 2001"


def test_parts_wrap_text_and_leave_lists_alone() -> None:
    source = "{% for m in messages %}{{ m.content[0].text }}{% endfor %}"
    renderer = ChatRenderer(source, content_format="parts")
    parts = {"role": "user", "content": [{"type": "text", "text": "b"}]}
    assert renderer.render([{"role": "user", "content": "a"}, parts]) == "ab"


def test_messages_are_not_changed_and_none_counts_as_absent() -> None:
    message = {"role": "user", "content": "a", "name": None, "thinking": "b"}
    before = dict(message)
    assert ChatRenderer("{{ messages[0].name is defined }}").render([message]) == "False"
    assert message == before


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("{% if %}", "compile_error", "line 1"),
        ("{{ bos_token + 'x' }}", "extra_variable_required", "'bos_token' is undefined"),
        ("{{ raise_exception('no system role') }}", "render_error", "no system role"),
        ("{{ 1 / 0 }}", "render_error", "division by zero"),
        ("{{ messages.append(1) }}", "render_error", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "render_error", "unsafe"),
        ("{% set ns = namespace(_x=1) %}", "render_error", "_x"),
        ("{% for i in range(9999999) %}{% endfor %}", "render_error", "[Rr]ange too big"),
    ],
)
def test_a_failure_says_what_is_wrong(source: str, code: str, words: str) -> None:
    with pytest.raises(ChatTemplateError, match=words) as caught:
        ChatRenderer(source).render([USER])
    assert caught.value.code == code
    assert str(caught.value).endswith(f"[{code}]")


def test_renderer_and_error_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(ChatTemplateError("a_code", "a message")))
    assert (error.code, str(error)) == ("a_code", "a message [a_code]")
    renderer = pickle.loads(pickle.dumps(ChatRenderer("{{ messages[0].content }}", now=NOW)))
    assert renderer.render([{"role": "user", "content": "x"}]) == "x"
