"""How is a conversation built, checked and taken apart?

A conversation is a list of messages, oldest first: an optional system message, then user and
assistant messages in turn. One turn is a user message and the assistant's answer to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Message = dict[str, str]
"""One message: ``role`` is "system", "user" or "assistant", ``content`` is its text."""

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"

MessageFault = Literal[
    "messages_missing",
    "messages_unknown_role",
    "messages_out_of_order",
    "messages_without_text",
]
_TURN_COLUMNS = {USER: "instruction", ASSISTANT: "response"}
"""Which column a message of the first turn stands in; those of later turns are numbered."""


@dataclass(frozen=True, slots=True)
class LastTurn:
    """A conversation, cut before its last user message.

    Attributes:
        history: The messages before it, a system message included.
        instruction: The text of the last user message.
        response: The answer to it, "" when the conversation ends with the user.
    """

    history: tuple[Message, ...]
    instruction: str
    response: str


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is a text that says something and can be written as UTF-8.

    Halves of surrogate pairs cannot be: no tokenizer reads them, no file holds them.
    """
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def has_messages(row: Mapping[str, Any]) -> bool:
    """Return whether something stands where a row's messages belong, be it a conversation or not.

    What cannot say whether it is empty, as several values of NumPy, is not.
    """
    try:
        return bool(row.get("messages"))
    except (TypeError, ValueError):
        return True


def append_turn(
    messages: Sequence[Message], instruction: str, response: str | None = None
) -> list[Message]:
    """Return a new conversation with one turn more; ``messages`` stays as it is.

    Args:
        messages: The conversation so far; it must not end with a user message.
        instruction: The user's text.
        response: The assistant's text; with None the conversation ends with the user message.

    Raises:
        ValueError: If the conversation ends with a user message.
    """
    if messages and messages[-1]["role"] == USER:
        raise ValueError("the conversation waits for an answer: it ends with a user message")
    grown = [*messages, {"role": USER, "content": instruction}]
    if response is not None:
        grown.append({"role": ASSISTANT, "content": response})
    return grown


def start(system: str | None = None) -> list[Message]:
    """Return a conversation without turns, with a system message if the text is not empty."""
    return [{"role": SYSTEM, "content": system}] if system else []


def validate(messages: Sequence[Message]) -> None:
    """Check the roles' order and that every message has a text.

    Raises:
        ValueError: If there is no user message, a role is out of order or unknown, or a content is
            not a text (see `is_text`); the message names the position, from 0.
    """
    turns = [*messages]
    offset = 1 if turns and turns[0].get("role") == SYSTEM else 0
    if len(turns) == offset:
        raise ValueError("the conversation has no user message; it needs at least one")
    for position, message in enumerate(turns):
        expected = SYSTEM if position < offset else (USER, ASSISTANT)[(position - offset) % 2]
        if message.get("role") != expected:
            raise ValueError(
                f"message {position} has the role {message.get('role')!r}, expected {expected!r}:"
                " after an optional system message, user and assistant alternate"
            )
        content = message.get("content")
        if not is_text(content):
            raise ValueError(f"message {position} ({expected}) has no text: {content!r}")


def find_fault(messages: object) -> MessageFault | None:
    """Return why a value is no conversation, or None if `validate` accepts it; never raises."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return "messages_missing"
    if not all(isinstance(message, Mapping) for message in messages):
        return "messages_missing"
    if any(not _is_role(message.get("role")) for message in messages):
        return "messages_unknown_role"
    try:
        validate(messages)
    except ValueError:
        written = all(is_text(message.get("content")) for message in messages)
        return "messages_out_of_order" if written else "messages_without_text"
    return None


def take_system(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """Return a conversation's system prompt, "" without one, and its other messages."""
    if messages and messages[0]["role"] == SYSTEM:
        return messages[0]["content"], list(messages[1:])
    return "", list(messages)


def split_last_turn(messages: Sequence[Message]) -> LastTurn:
    """Cut a conversation before its last user message.

    Raises:
        ValueError: If the conversation is not valid, see `validate`.
    """
    validate(messages)
    answered = messages[-1]["role"] == ASSISTANT
    cut = len(messages) - (2 if answered else 1)
    return LastTurn(
        history=tuple(messages[:cut]),
        instruction=messages[cut]["content"],
        response=messages[-1]["content"] if answered else "",
    )


def join_texts(*texts: str) -> str:
    """Return the texts that are not empty with a blank line between them."""
    return "\n\n".join(text for text in texts if text)


def count_turns(messages: Sequence[Message]) -> int:
    """Return the number of turns, an unanswered one included."""
    return sum(message["role"] == USER for message in messages)


def turn_columns(messages: Sequence[Message], n_turns: int) -> dict[str, str]:
    """Return the texts of the turns from the second to `n_turns` as columns.

    Args:
        messages: The conversation; it may be shorter or longer.
        n_turns: The last turn that gets columns.

    Returns:
        ``instruction_2``, ``response_2`` and so on, "" where the conversation has no such text.
    """
    texts = {f"{kind}_{k}": "" for k in range(2, n_turns + 1) for kind in _TURN_COLUMNS.values()}
    turn = 0
    for message in messages:
        turn += message["role"] == USER
        name = f"{_TURN_COLUMNS.get(message['role'])}_{turn}"
        if name in texts:
            texts[name] = message["content"]
    return texts


def _is_role(value: object) -> bool:
    return isinstance(value, str) and value in (SYSTEM, USER, ASSISTANT)
