"""Render chat templates exactly as transformers does, without transformers.

A chat template is untrusted code from a model repository. It runs in the same sandbox, with the
same block trimming, tags, filters and globals as `transformers.utils.chat_template_utils` (5.23).
What differs on purpose: time and size are limited, the clock is an argument, since a prompt that
changes at midnight cannot be reproduced, and every failure is a `ChatTemplateError` that says what
to do.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.utils import Namespace

from magpie_steps.sandbox import LimitedEnvironment, LimitError

ContentFormat = Literal["string", "parts"]

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""The names under which a message's reasoning is passed; the first is the standard one."""


def is_attack(error: "ChatTemplateError") -> bool:
    """Say whether the sandbox has refused what no honest template does.

    Some change a list or a dict in a branch that is of no use here; it refuses that, too.
    """
    cause = error.__cause__
    reaches_out = isinstance(cause, SecurityError) and "attribute '_" in str(cause)
    return isinstance(cause, LimitError) or reaches_out


def raise_attack(error: "ChatTemplateError") -> None:
    """Raise an error again if it is an attack's, which no probe may hide."""
    if is_attack(error):
        raise error


_ALWAYS_GIVEN = frozenset({"messages", "add_generation_prompt", "strftime_now"})
_MAX_SOURCE = 300_000
"""Characters of a chat template; the longest of 415 real ones has 20,000."""

_MAX_INDENT = 100

_USUAL_OPTIONS = frozenset({"tools", "documents"})


class ChatTemplateError(ValueError):
    """A chat template that cannot serve, or a call that it cannot serve.

    Attributes:
        code: What went wrong, one stable word, e.g. `no_chat_template` or `system_dropped`.
        message: What went wrong, the value, and the remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        """Keep both as `args`, so that the error survives pickling between processes."""
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Return the message, with the code at its end."""
        return f"{self.message} [{self.code}]"


@dataclass(frozen=True)
class ChatRenderer:
    """A chat template with everything but the messages filled in.

    Attributes:
        source: The Jinja text.
        special_tokens: What the template may name, as `tokenizer.special_tokens_map`. A token that
            is not set must be absent: then it is undefined, as in transformers.
        kwargs: Extra template variables; they win over `special_tokens`.
        now: The time that `strftime_now` prints.
        content_format: How a message's text is passed: `"string"`, or `"parts"` for templates that
            only take `[{"type": "text", "text": ...}]`.
    """

    source: str
    special_tokens: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = field(default_factory=datetime.now)
    content_format: ContentFormat = "string"

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False
    ) -> str:
        """Return the prompt text.

        Args:
            messages: Dicts with `role` and `content`; keys whose value is `None` are dropped.
            add_generation_prompt: Open the assistant's turn at the end.

        Raises:
            ChatTemplateError: `compile_error`, `extra_variable_required` or `render_error`.
        """
        template = compile_template(self.source)
        variables = {
            "strftime_now": self.now.strftime,
            "tools": None,
            "documents": None,
            **_plain({**self.special_tokens, **self.kwargs}),
        }
        chat = [_prepare(message, self.content_format) for message in messages]
        assert isinstance(template.environment, LimitedEnvironment)
        template.environment.start(sum(_characters(message) for message in chat))
        try:
            return template.render(
                {**variables, "messages": chat, "add_generation_prompt": add_generation_prompt}
            )
        except jinja2.UndefinedError as error:
            raise ChatTemplateError(
                "extra_variable_required",
                f"The chat template needs something that was not given: {error}. If it is a special"
                " token, set it on the tokenizer; if it is an option, pass it in"
                " chat_template_kwargs.",
            ) from error
        except (LimitError, SecurityError) as error:
            detail = str(error).rstrip(".")
            raise ChatTemplateError(
                "render_error",
                f"The chat template does what no chat template needs and is refused: {detail}. Take"
                " the model from its original repository, or give another template with"
                " chat_template=.",
            ) from error
        except Exception as error:  # template code may raise anything
            detail = str(error) or type(error).__name__
            raise ChatTemplateError(
                "render_error", f"The chat template refused these messages: {detail}"
            ) from error


@lru_cache(maxsize=64)
def compile_template(source: str) -> jinja2.Template:
    """Compile a chat template in the sandbox; the result is shared and keeps no state.

    Raises:
        ChatTemplateError: `compile_error`, with the line.
    """
    environment = LimitedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["dict"] = _TemplateDict()
    environment.globals["namespace"] = _TemplateNamespace
    environment.limit_filters()
    if len(source) > _MAX_SOURCE:
        raise ChatTemplateError(
            "compile_error",
            f"The chat template has {len(source):,} characters, more than {_MAX_SOURCE:,}; give"
            " another with chat_template=.",
        )
    try:
        template = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ChatTemplateError(
            "compile_error",
            f"The chat template is not valid Jinja: {error.message}; line {error.lineno} is"
            f" {_line(source, error.lineno)!r}. Mend it, or give another with chat_template=.",
        ) from error
    except Exception as error:  # nested too deeply for Jinja or for Python
        detail = str(error) or type(error).__name__
        raise ChatTemplateError(
            "compile_error", f"The chat template cannot be compiled: {detail:.200}"
        ) from error
    # Jinja's own is a chain of mappings, which it copies key by key for each rendering.
    template.globals = dict(template.globals)
    return template


@lru_cache(maxsize=64)
def options_of(source: str) -> frozenset[str]:
    """Return the variables that a chat template reads and that a caller can set.

    What every rendering is given is not among them, nor are names that the template itself sets, if
    it does not ask whether they are set already.

    Raises:
        ChatTemplateError: `compile_error`.
    """
    environment = compile_template(source).environment
    tree = environment.parse(source)
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx in ("store", "param")}
    tests = (test for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined"))
    filters = (each for each in tree.find_all(nodes.Filter) if each.name in ("default", "d"))
    asked = {each.node.name for each in (*tests, *filters) if isinstance(each.node, nodes.Name)}
    asked -= {name.name for name in tree.find_all(nodes.Name) if name.ctx == "param"}
    found = meta.find_undeclared_variables(tree) - set(environment.globals) - _ALWAYS_GIVEN
    return frozenset(found - (own - asked - _USUAL_OPTIONS))


def _line(source: str, number: int) -> str:
    lines = source.splitlines()
    return lines[number - 1].strip()[:120] if 0 < number <= len(lines) else ""


class _GenerationTag(Extension):
    """`{% generation %}` marks what an assistant wrote; here it only prints its body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = nodes.CallBlock(self.call_method("_print_body"), [], [], body)
        return call.set_lineno(lineno)

    def _print_body(self, caller: Macro) -> str:
        return str(caller())


class _TemplateDict:
    """`dict` for templates, without the class's other attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _TemplateNamespace(Namespace):
    """`namespace` for templates; names with a leading underscore are refused."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # The instance is taken out of args so that `namespace(self=...)` works, as in jinja2.
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _refuse_underscore(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        # Without what it holds, which may hold others, each several times.
        return "<Namespace>"


def _refuse_underscore(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template may not store the namespace attribute {name!r}")


def _raise_exception(message: Any) -> None:
    raise jinja2.TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(indent, int) and indent > _MAX_INDENT:
        raise LimitError(f"it indents JSON by more than {_MAX_INDENT}")
    # Jinja's own filter escapes HTML characters, which no model was trained on.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _characters(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    texts.append(message.get("reasoning_content"))
    return sum(len(text) for text in texts if isinstance(text, str))


def _prepare(message: Mapping[str, Any], content_format: ContentFormat) -> dict[str, Any]:
    plain: dict[str, Any] = {
        key: _plain(value) for key, value in message.items() if value is not None
    }
    reasoning = next((plain[key] for key in REASONING_FIELDS if key in plain), None)
    if reasoning is not None:
        plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
    if content_format == "parts" and isinstance(plain.get("content"), str):
        plain["content"] = [{"type": "text", "text": plain["content"]}]
    return plain


def _plain(value: Any) -> Any:
    """Rebuild a value from JSON types, since the methods of anything else escape the sandbox."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return f"<{type(value).__name__}>"
