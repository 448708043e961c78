"""Reads a turn of the miniature world: is it well formed, what does it ask, is its answer right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from magpie_steps.embedded.dialogues.conversations import THANKS, WELCOME
from magpie_steps.embedded.dialogues.families import FAMILIES
from magpie_steps.embedded.dialogues.grammar import Family

Message = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """What a user turn asks: its family and the values of the slots."""

    family: Family
    values: Mapping[str, str]

    @property
    def is_held_out(self) -> bool:
        """Whether training never showed this combination of values."""
        return self.family.is_held_out(self.values)


def read_instruction(text: str) -> Question | None:
    """Read a first user turn. None: it is not well formed (no family has such a question)."""
    for family in FAMILIES:
        values = family.read(text)
        if values is not None:
            return Question(family, values)
    return None


def is_well_formed(text: str) -> bool:
    """Whether a first user turn is a question of the miniature world with sensible values."""
    return read_instruction(text) is not None


def category_of(text: str) -> str | None:
    """The category key of a first user turn, also of one whose values make no sense.

    "Find the odd one out among these colors: black, blue, green, red." is a question of reasoning,
    though not well formed. None: no family asks like this.
    """
    question = read_instruction(text)
    if question:
        return question.family.category
    return next((family.category for family in FAMILIES if family.recognises(text)), None)


def is_correct_answer(instruction: str, answer: str) -> bool | None:
    """Whether an answer to a first user turn is right; None where the turn is not well formed."""
    question = read_instruction(instruction)
    return question.family.is_correct(question.values, answer) if question else None


def judge_conversation(messages: Sequence[Message]) -> list[bool | None]:
    """Judge every assistant turn, reading follow-ups in the light of the turns before them.

    Args:
        messages: User and assistant turns in order; system messages are passed over.

    Returns:
        One entry an assistant turn: right, wrong, or None where its question is not well formed.
    """
    verdicts: list[bool | None] = []
    question: Question | None = None
    asked = ""
    for message in messages:
        if message["role"] == "user":
            asked = message["content"]
            question = _read_later(question, asked)
        elif message["role"] == "assistant":
            verdicts.append(_judge(question, asked, message["content"]))
    return verdicts


def relate_follow_ups(messages: Sequence[Message]) -> list[bool]:
    """Say of every user turn after the first whether it belongs to the conversation.

    It does if it changes something in the question before it, asks another question of the same
    category, or says thanks.
    """
    verdicts: list[bool] = []
    before: Question | None = None
    for place, text in enumerate(m["content"] for m in messages if m["role"] == "user"):
        found = _read_later(before, text)
        if place:
            same = before and found and found.family.category == before.family.category
            verdicts.append(bool(same))
        before = found or before
    return verdicts


def _read_later(before: Question | None, text: str) -> Question | None:
    """Read a user turn as a new question, else as a follow-up, else keep the subject (thanks)."""
    question = read_instruction(text)
    if question or before is None or text in THANKS:
        return question or before
    values = before.family.read_follow_up(before.values, text)
    return Question(before.family, values) if values is not None else None


def _judge(question: Question | None, asked: str, answer: str) -> bool | None:
    if asked in THANKS:
        return answer.strip() == WELCOME
    return question.family.is_correct(question.values, answer) if question else None
