"""Which questions does no model see in training?"""

from collections.abc import Iterable, Mapping, Sequence

from magpie_steps.embedded.dialogues.checker import Question, read_instruction
from magpie_steps.embedded.evaluate import held_out_questions

Message = Mapping[str, str]


def questions(count: int) -> list[str]:
    """Return held-out questions, those that the embedded models are measured with first."""
    return [turn.instruction for turn in held_out_questions(count)]


def asks_held_out(messages: Sequence[Message]) -> bool:
    """Say whether a user turn asks about a held-out combination, follow-ups in their context."""
    before: Question | None = None
    for message in messages:
        if message["role"] != "user":
            continue
        before = _read(before, message["content"]) or before
        if before and before.is_held_out:
            return True
    return False


def occurrences(conversations: Iterable[Sequence[Message]], asked: Iterable[str]) -> int:
    """Count conversations that have one of these questions or any held-out combination."""
    texts = set(asked)
    return sum(
        asks_held_out(messages)
        or any(m["role"] == "user" and m["content"] in texts for m in messages)
        for messages in conversations
    )


def _read(before: Question | None, text: str) -> Question | None:
    found = read_instruction(text)
    if found or before is None:
        return found
    values = before.family.read_follow_up(before.values, text)
    return Question(before.family, values) if values is not None else None
