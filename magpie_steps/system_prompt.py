"""Where does a system prompt go in a chat template, and what if it has no place for one?"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from magpie_steps.probes import user_message
from magpie_steps.rendering import ChatTemplateError
from magpie_steps.scaffold import SystemMode

SystemPolicy = Literal["error", "ignore", "merge", "prepend"]
"""What to do where a template gives a system prompt no turn of its own."""

Message = Mapping[str, Any]

_WHAT_HAPPENS = {
    "merged": "puts a system prompt into the user's turn, so a model would go on with a turn that"
    " begins with the system text",
    "dropped": "drops a system prompt without a word",
    "unsupported": "refuses a system prompt",
}


def take_system(
    messages: Sequence[Message], system: str | None
) -> tuple[list[Message], str | None]:
    """Take a leading system message out of `messages`.

    Args:
        messages: A conversation.
        system: A system prompt that is given beside it, `None` for none.

    Returns:
        The other messages, and the system prompt.

    Raises:
        ChatTemplateError: `bad_messages` if there are two.
    """
    rest = list(messages)
    if not rest or rest[0].get("role") != "system":
        return rest, system
    if system is not None:
        raise ChatTemplateError(
            "bad_messages", "Give the system prompt in the messages or as system=, not in both."
        )
    if not isinstance(rest[0].get("content"), str):
        raise ChatTemplateError("bad_messages", "The system message has no text; give it one.")
    return rest[1:], str(rest[0]["content"])


def place_system(
    messages: list[Message], system: str | None, mode: SystemMode, policy: SystemPolicy
) -> tuple[list[Message], str]:
    """Place a system prompt.

    Args:
        messages: A conversation without it.
        system: Its text, `None` for none.
        mode: What the template does with one.
        policy: What to do if that is not a turn of its own.

    Returns:
        The messages, and what the next user's text must begin with.

    Raises:
        ChatTemplateError: `system_merged`, `system_dropped` or `system_unsupported`.
    """
    if system is None or (policy == "ignore" and mode != "separate"):
        return messages, ""
    if mode == "separate" or (mode == "merged" and policy == "merge"):
        return [{"role": "system", "content": system}, *messages], ""
    if policy != "prepend":
        raise _refusal(mode, policy)
    prefix = f"{system}\n\n"
    if not messages:
        return [], prefix
    return [user_message(prefix + str(messages[0]["content"])), *messages[1:]], ""


def require_printed(text: str, messages: Sequence[Message]) -> None:
    """Check that a system message, if there is one, stands in the rendered text.

    Raises:
        ChatTemplateError: `system_dropped`.
    """
    if not messages or messages[0].get("role") != "system":
        return
    if "".join(messages[0]["content"].split()) not in "".join(text.split()):
        raise ChatTemplateError(
            "system_dropped",
            "The chat template does not print this system prompt as it is:"
            f" {messages[0]['content'][:80]!r}. Change it, or leave it out.",
        )


def _refusal(mode: SystemMode, policy: SystemPolicy) -> ChatTemplateError:
    remedies = '"ignore" or "prepend"' if mode != "merged" else '"merge", "ignore" or "prepend"'
    return ChatTemplateError(
        f"system_{mode}",
        f"The chat template {_WHAT_HAPPENS[mode]}; system_policy={policy!r} does not help. Leave"
        f" the system prompt out, or set system_policy to {remedies}.",
    )
