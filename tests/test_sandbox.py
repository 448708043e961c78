"""A chat template that would run for hours or fill the memory is refused; an honest one is not."""

import time

import pytest

from magpie_steps.rendering import ChatRenderer, ChatTemplateError
from magpie_steps.templates import PreQueryTemplate

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HELLO = [{"role": "user", "content": "Hello"}]


def grown(step: str, start: str = "['x']", then: str = "{{ ns.s }}") -> str:
    """Return a template that repeats a step 60 times."""
    body = "{% set ns.s = " + step + " %}"
    return (
        f"{{% set ns = namespace(s={start}) %}}{{% for i in range(60) %}}{body}{{% endfor %}}{then}"
    )


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "recursive loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}
HUGE = {
    "text times": "{{ 'x' * 10**10 }}",
    "list times": "{{ [1] * 10**9 }}",
    "power": "{% set n = 10 %}{{ n ** 10000000 }}",
    "center": "{{ 'x' | center(10**10) }}",
    "ljust": "{{ 'x'.ljust(9999999999) }}",
    "percent": "{{ '%9999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (10**10, 1) }}",
    "format filter": "{{ '%9999999999d' | format(1) }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "format of a format": "{{ '{:{}}'.format('x', 9999999999) }}",
    "doubled text": grown("ns.s + ns.s", "'x'"),
    "doubled by tilde": grown("ns.s ~ ns.s", "'x'"),
    "doubled list": grown("ns.s + ns.s"),
    "lists in lists": grown("[ns.s, ns.s]"),
    "lists in lists as JSON": grown("[ns.s, ns.s]", then="{{ ns.s | tojson }}"),
    "tuples in tuples": grown("(ns.s, ns.s)", then="{{ ns.s | string | length }}"),
    "dicts in dicts": grown("{'a': ns.s, 'b': ns.s}"),
    "dicts by call": grown("dict(a=ns.s, b=ns.s)"),
    "repeated lists": grown("[ns.s] * 2"),
    "filled batches": grown("([ns.s] | batch(2, ns.s) | list)"),
    "equal without end": "{% set ns = namespace(s=['x'], t=['x']) %}{% for i in range(60) %}"
    "{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
    "wide JSON": "{{ [1] | tojson(indent=100000000) }}",
    "one text many times": "{{ ['a' * 900000] * 100 }}",
    "one text many times, as JSON": "{{ (['a' * 900000] * 100) | tojson }}",
    "keys with one value": "{{ dict.fromkeys(range(3000), range(30000) | list) | string }}",
    "sorted letters": "{{ ('ab' * 20000000) | sort }}",
    "long text": "{{ ('ab' * 20000000) | title }}",
    "dates": "{{ strftime_now('%Y' * 10000000) }}",
    "made again and again": "{% set x %}{% for i in range(99999) %}{{ 'a' * 40000 }}{% endfor %}"
    "{% endset %}{{ x | length }}",
    "output": "{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
    "replace": "{{ ('x' * 10**7).replace('x', 'y' * 10**6) }}",
    "replace filter": "{{ ('x' * 10**7) | replace('x', 'y' * 10**6) }}",
    "join": "{{ ('x' * 10**6).join(range(99999) | map('string') | list) }}",
    "join filter": "{{ range(99999) | map('string') | join('x' * 10**6) }}",
    "indent": "{{ ('\n' * 10**6) | indent(10**6) }}",
    "wrapped": "{{ ('x ' * 10**6) | wordwrap(1, wrapstring='y' * 10**6) }}",
    "tabs": "{{ ('\t' * 10**6).expandtabs(10**6) }}",
    "translated": "{{ ('x' * 10**6).translate({120: 'y' * 10**6}) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
}
FORBIDDEN = {
    "class": "{{ ''.__class__.__mro__ }}",
    "subclasses": "{{ messages.__class__.__base__.__subclasses__() }}",
    "init": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "namespace": "{{ namespace(_x=1) }}",
    "change": "{{ messages.append(1) }}",
    "file": "{% include '/etc/passwd' %}",
    "module": "{% import 'os' as os %}",
    "lorem ipsum": "{{ lipsum.__globals__ }}",
}


@pytest.mark.parametrize("source", [*ENDLESS.values(), *HUGE.values()], ids=[*ENDLESS, *HUGE])
def test_what_never_ends_or_fills_the_memory_is_refused(source: str) -> None:
    start = time.process_time()
    with pytest.raises(ChatTemplateError) as caught:
        ChatRenderer(source).render(HELLO)
    assert caught.value.code == "render_error"
    assert time.process_time() - start < 3
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("source", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_reaches_out_of_the_template_is_refused(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatRenderer(source).render(HELLO)
    with pytest.raises(ChatTemplateError):
        PreQueryTemplate.from_template(source + "{{ messages[0].content }}", {})


@pytest.mark.parametrize(
    "condition",
    ["messages | length > 2", "messages[0].role == 'system'", "'\\n' in messages[0].content"],
)
@pytest.mark.parametrize("attack", [FORBIDDEN["class"], HUGE["text times"], ENDLESS["loops"]])
def test_what_is_refused_in_any_probe_refuses_the_template(condition: str, attack: str) -> None:
    """A template that reached out for later turns alone was said to have no later turns."""
    source = "{% if " + condition + " %}" + attack + "{% endif %}" + CHATML
    with pytest.raises(ChatTemplateError, match="is refused") as caught:
        PreQueryTemplate.from_template(source, {})
    assert caught.value.code == "render_error"


def test_all_probes_together_have_one_budget() -> None:
    """Each rendering kept to its own, and thirty of them took seconds."""
    busy = "{% for i in range(1500) %}{% for j in range(1500) %}{% endfor %}{% endfor %}"
    start = time.process_time()
    with pytest.raises(ChatTemplateError, match="takes too long"):
        PreQueryTemplate.from_template(busy + CHATML, {})
    assert time.process_time() - start < 2


def test_a_template_of_megabytes_is_refused() -> None:
    with pytest.raises(ChatTemplateError, match=r"has 3,000,\d+ characters") as caught:
        PreQueryTemplate.from_template("x" * 3_000_000 + CHATML, {})
    assert caught.value.code == "compile_error"


def test_an_endless_template_is_given_up_at_once() -> None:
    """Each other way of rendering it was tried as well, each up to its limit."""
    start = time.process_time()
    with pytest.raises(ChatTemplateError, match="takes too long"):
        PreQueryTemplate.from_template(ENDLESS["loops"], {})
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
    ],
)
def test_what_cannot_be_compiled_is_an_error_of_the_template(source: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        ChatRenderer(source).render(HELLO)
    assert caught.value.code == "compile_error"


def test_a_syntax_error_is_shown_with_its_line() -> None:
    with pytest.raises(ChatTemplateError, match=r"line 2 is.*endfi") as caught:
        ChatRenderer("{% if messages %}\n{{ 1 }}{% endfi %}").render(HELLO)
    assert caught.value.code == "compile_error"


def test_long_conversations_are_no_attack() -> None:
    source = (
        "{% set ns = namespace(out='') %}{% for m in messages %}"
        "{% set ns.out = ns.out + '<|' ~ m.role ~ '|>' + m.content.replace('\n', '\r\n') %}"
        "{% endfor %}{{ ns.out | trim }}{{ [m.role for m in messages] if false else '' }}"
    ).replace("{{ [m.role for m in messages] if false else '' }}", "")
    messages = [{"role": "user", "content": "long\ntext " * 50_000}] * 20
    text = ChatRenderer(source).render(messages)
    assert text.count("<|user|>") == 20
    assert len(text) > 10_000_000


def test_renderings_on_several_threads_have_each_their_time() -> None:
    from concurrent.futures import ThreadPoolExecutor

    quick = ChatRenderer("{% for i in range(2000) %}{{ messages[0].content }}{% endfor %}")
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: quick.render(HELLO), range(200)))
    assert set(texts) == {"Hello" * 2000}
