"""Which chat template does a tokenizer have, and what do its renderings give?

Here are the texts alone; `templates.py` adds the tokenizer's ids.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from magpie_steps.probes import Split, split
from magpie_steps.reasoning import Marks, find_marks, find_opening
from magpie_steps.rendering import ChatRenderer, ChatTemplateError, options_of
from magpie_steps.sandbox import rendered_together
from magpie_steps.scaffold import Scaffold, derive_scaffold

Clock = Callable[[], datetime] | datetime
Options = Mapping[str, Any]


def choose_template(own: Any, wanted: str | None) -> str:
    """Choose as `tokenizer.get_chat_template(wanted, tools=None)` does."""
    named = own if isinstance(own, Mapping) else {}
    if wanted is not None:
        return str(named.get(wanted, wanted))
    if isinstance(own, str):
        return own
    if "default" in named:
        return str(named["default"])
    if named:
        raise ChatTemplateError(
            "no_chat_template",
            "The tokenizer has several chat templates and no default one; choose with"
            f" chat_template=: {', '.join(sorted(named))}.",
        )
    raise ChatTemplateError(
        "no_chat_template",
        "The tokenizer has no chat template, so this is probably a base model: Magpie needs an"
        " instruction-tuned one. Choose its instruct version, or give the Jinja text with"
        " chat_template=.",
    )


@dataclass(frozen=True, slots=True)
class Derivation:
    """What a template's renderings give.

    Attributes:
        scaffold: What the template writes around texts.
        responses: Renders the prompts of responses.
        answered: The prompt of a first response, cut at the user's text.
        marks: What the model writes around a thought, `None` if it does not think.
        opening: What a response's prompt opens a thought with, and what closes it.
        bos_token: The BOS token's text, "" when there is none.
        vocabulary: The tokenizer's added tokens and their ids; empty without a tokenizer.
    """

    scaffold: Scaffold
    responses: ChatRenderer
    answered: Split
    marks: Marks | None
    opening: tuple[str, str] | None
    bos_token: str
    vocabulary: Mapping[str, int]

    @property
    def hazards(self) -> tuple[str, ...]:
        """What is unusual about the template."""
        return self.scaffold.hazards + (("opens_reasoning",) if self.opening else ())

    @classmethod
    def begin(
        cls,
        source: str,
        special_tokens: Mapping[str, Any],
        *,
        kwargs: tuple[Options | None, Options | None],
        clock: Clock | None,
        vocabulary: Mapping[str, int],
    ) -> Self:
        """Render a template's probes.

        Args:
            source: Jinja text.
            special_tokens: What the template may name.
            kwargs: Variables for all prompts, and over them those for responses' prompts alone.
            clock: Tells the date, once; the machine's clock when `None`.
            vocabulary: The tokenizer's added tokens and their ids.

        Raises:
            ChatTemplateError: The template cannot serve, or knows no such variable.
        """
        if not isinstance(source, str):
            raise ChatTemplateError(
                "no_chat_template",
                f"A chat template is a Jinja text, not {type(source).__name__}; give one.",
            )
        now = clock if isinstance(clock, datetime) else (clock or datetime.now)()
        tokens = {name: token for name, token in special_tokens.items() if token is not None}
        renderer = ChatRenderer(source, tokens, dict(kwargs[0] or {}), now)
        for options in kwargs:
            _require_known(renderer, options or {})
        bos_token = str(tokens.get("bos_token", ""))
        with rendered_together():
            scaffold = derive_scaffold(renderer, vocabulary, bos_token=bos_token)
        renderer = scaffold.renderer
        responses = replace(renderer, kwargs={**renderer.kwargs, **(kwargs[1] or {})})
        with rendered_together():
            answered = split(responses, [])
            marks = find_marks(responses)
        opening = _opening(answered.after, marks)
        return cls(scaffold, responses, answered, marks, opening, bos_token, vocabulary)


def _opening(post_query: str, marks: Marks | None) -> tuple[str, str] | None:
    """Return what a response's prompt opens a thought with, and what closes it."""
    found = find_opening(post_query, marks) if marks else ""
    return (found, marks.close) if marks and found else None


def settable(renderer: ChatRenderer) -> tuple[str, ...]:
    """Return the template's variables but its special tokens, sorted."""
    named = options_of(renderer.source)
    return tuple(sorted(name for name in named if not name.endswith("_token")))


def _require_known(renderer: ChatRenderer, options: Options) -> None:
    """Refuse a variable that the template does not name: it would be ignored without a word."""
    known = options_of(renderer.source)
    for name in options:
        if name not in known:
            names = ", ".join(settable(renderer)) or "none"
            raise ChatTemplateError(
                "unknown_option",
                f"The chat template does not know the option {name!r}, so it would do nothing; it"
                f" knows: {names}. Correct the name in chat_template_kwargs, or leave it out.",
            )
