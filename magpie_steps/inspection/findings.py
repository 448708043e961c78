"""What comes out of a chat template when it is asked for Magpie's prompts?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magpie_steps.templates import ChatTemplateError, PreQueryTemplate, PromptIds

SYSTEM = "You are a math tutor."
"""The system prompt of the examples."""

HISTORY = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"})
"""The first turn of the examples with two."""

THOUGHT = "They greet me."
"""What the assistant thought in it, where that matters."""

_AFTER_A_THOUGHT = (HISTORY[0], {**HISTORY[1], "reasoning_content": THOUGHT})

Derive = Callable[[Mapping[str, Any]], PreQueryTemplate]
"""Derives a template with these options."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a value of an option changes.

    Attributes:
        option: The option's name.
        value: The value that was tried.
        changes: The texts that become others with it, by name: `pre_query`, `post_query`,
            `second_turn` (after an answer that was thought about; not where `pre_query` changes).
        code: Why the template cannot serve with it, "" if it can.
    """

    option: str
    value: bool | str
    changes: Mapping[str, str]
    code: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a chat template gives, in examples.

    Attributes:
        template: All that is derived from it.
        with_system: The prompt of a first turn with `SYSTEM`, `None` where there is no place for
            a system prompt.
        second_turn: The prompt after `HISTORY`, `None` where there are no second turns.
        second_turn_with_system: Both together.
        prompt: The token ids of a first turn's prompt, `None` without a tokenizer.
        keeps_thoughts: Whether the thoughts of earlier answers stay, `None` without second turns.
        effects: What the options about thinking do.
    """

    template: PreQueryTemplate
    with_system: str | None
    second_turn: str | None
    second_turn_with_system: str | None
    prompt: PromptIds | None
    keeps_thoughts: bool | None
    effects: tuple[Effect, ...]


def examine(derive: Derive, kwargs: Mapping[str, Any]) -> Findings:
    """Derive a template and try it out.

    Args:
        derive: Derives it with other options.
        kwargs: The options to examine it with.

    Raises:
        ChatTemplateError: It cannot serve.
    """
    template = derive(kwargs)
    after_a_thought = _prompt_after(template, _AFTER_A_THOUGHT)
    return Findings(
        template=template,
        with_system=_prompt_after(template, (), SYSTEM),
        second_turn=_prompt_after(template, HISTORY),
        second_turn_with_system=_prompt_after(template, HISTORY, SYSTEM),
        prompt=_ids(template),
        keeps_thoughts=None if after_a_thought is None else THOUGHT in after_a_thought,
        effects=tuple(_effects(derive, template, kwargs)),
    )


def values_to_try(option: str) -> tuple[bool | str, ...]:
    """Return values of an option that is about thinking, none for another one."""
    if "effort" in option:
        return ("low", "medium", "high")
    if "think" in option and "budget" not in option:
        return (True, False)
    return ()


def _prompt_after(
    template: PreQueryTemplate, history: Sequence[Mapping[str, Any]], system: str | None = None
) -> str | None:
    policy: Any = "merge" if template.system_mode == "merged" else "error"
    try:
        return template.pre_query_text(history, system, system_policy=policy)
    except ChatTemplateError:
        return None


def _ids(template: PreQueryTemplate) -> PromptIds | None:
    try:
        return template.pre_query_ids()
    except ChatTemplateError as error:
        if error.code != "no_tokenizer":
            raise
        return None


def _effects(
    derive: Derive, template: PreQueryTemplate, kwargs: Mapping[str, Any]
) -> Sequence[Effect]:
    return [
        _effect(derive, template, kwargs, option, value)
        for option in template.known_options
        for value in values_to_try(option)
    ]


def _effect(
    derive: Derive,
    template: PreQueryTemplate,
    kwargs: Mapping[str, Any],
    option: str,
    value: bool | str,
) -> Effect:
    try:
        other = derive({**kwargs, option: value})
    except ChatTemplateError as error:
        return Effect(option, value, {}, error.code)
    before, after = _texts(template), _texts(other)
    changes = {name: text for name, text in after.items() if text != before[name]}
    if "pre_query" in changes:
        changes.pop("second_turn", None)
    return Effect(option, value, changes)


def _texts(template: PreQueryTemplate) -> dict[str, str]:
    return {
        "pre_query": template.pre_query,
        "post_query": template.post_query,
        "second_turn": _prompt_after(template, _AFTER_A_THOUGHT) or "",
    }
