"""What of a row is sent to Argilla?"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from magpie_steps.conversation import Message, append_turn, find_fault, take_system
from magpie_steps.preference import SOURCES
from magpie_steps.review.answers import blinded, comparable, named, order_text
from magpie_steps.review.display import MAX_BUBBLES, bubbles, folded, side_by_side
from magpie_steps.review.settings import (
    ANSWER_ORDER,
    ANSWERS,
    CONVERSATION,
    DROP,
    FINGERPRINT,
    KEEP,
    PROPERTIES,
    PROVENANCE,
    Property,
)
from magpie_steps.review.suggestions import Suggestion, suggestions
from magpie_steps.review.values import NO_TEXT, NO_UUID, TOO_LONG, finite, text_of

MAX_TERM = 128
"""Characters of a metadata word that the server's search takes by default."""

NO_PROMPTS: Mapping[str, str] = {}
"""For rows without system prompts."""

_PROVENANCE = (
    "model",
    "system_prompt_key",
    "language",
    "drop_reason",
    "quality_explanation",
    "intent",
    "knowledge",
    "conversation_end",
)
"""Columns that are shown folded; none that would tell compared answers apart."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reviewer sees of a row.

    Attributes:
        conversation: The chat; up to the first answer where answers are compared.
        answers: The compared answers as markup, "" for none.
        order: Where each of them stands in the row, in the order shown, "" for none.
        system: The system prompt.
    """

    conversation: tuple[Message, ...]
    answers: str = ""
    order: str = ""
    system: str = ""

    @property
    def key(self) -> str:
        """A digest of the texts that a verdict is about."""
        return shown_key(self.conversation, self.answers)


@dataclass(frozen=True, slots=True)
class Record:
    """A row as Argilla gets it.

    Attributes:
        id: The row's uuid.
        fields: Texts by field.
        metadata: Values by property; empty ones are left out.
        suggestions: What the machine says.
    """

    id: str
    fields: Mapping[str, Any]
    metadata: Mapping[str, Any]
    suggestions: tuple[Suggestion, ...]

    @property
    def fingerprint(self) -> str:
        """A digest of everything that is sent."""
        value: str = self.metadata[FINGERPRINT.name]
        return value


def shown(row: Mapping[str, Any], seed: int = 0, order: str | None = None) -> Shown | str:
    """Return what a reviewer sees of a row, or why there is nothing to see.

    Args:
        row: The row; columns may be missing.
        seed: What the order of compared answers depends on, besides the row.
        order: Their order instead, as `Shown.order` says it.
    """
    system, messages = take_system(conversation(row))
    if not messages:
        return NO_TEXT
    answers = comparable(row, messages)
    if answers:
        answers = _ordered(answers, seed, str(row.get("uuid")), order)
        messages = messages[:1]
    chat = bubbles(messages)
    if len(chat) > MAX_BUBBLES:
        return TOO_LONG
    boxes = side_by_side(named(answers)) if answers else ""
    return Shown(tuple(chat), boxes, order_text(answers), system)


def shown_key(chat: Sequence[Mapping[str, str]], answers: str) -> str:
    """Return a digest of what a reviewer sees: a chat field's messages and compared answers."""
    return _digest([[(message["role"], message["content"]) for message in chat], answers])


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """Return a row's messages, else its instruction and response; [] without a user message.

    Of a dropped row that has no instruction, the user turn as the model wrote it counts.
    """
    messages = row.get("messages")
    if messages and find_fault(messages) is None:
        return [{"role": m["role"], "content": m["content"]} for m in messages]
    instruction = text_of(row.get("instruction")) or text_of(row.get("instruction_raw"))
    return append_turn([], instruction, text_of(row.get("response")) or None) if instruction else []


def record(
    row: Mapping[str, Any], seed: int, answers: int, prompts: Mapping[str, str] = NO_PROMPTS
) -> Record | str:
    """Return a row as Argilla gets it, or why it cannot be reviewed.

    Args:
        row: The row; columns may be missing.
        seed: What the order of compared answers depends on, besides the row.
        answers: How many answers can be ranked.
        prompts: Texts of system prompts by key, for a row whose messages have none.
    """
    uuid = row.get("uuid")
    if not isinstance(uuid, str) or not uuid or uuid != text_of(uuid):
        return NO_UUID
    seen = shown(row, seed)
    if isinstance(seen, str):
        return seen
    found = Record(
        uuid,
        _fields(row, seen, prompts),
        _metadata(row, seen),
        tuple(suggestions(row, rewards(row, seen.order), answers)),
    )
    digest = _digest(asdict(found))
    return replace(found, metadata={**found.metadata, FINGERPRINT.name: digest})


def rewards(row: Mapping[str, Any], order: str) -> list[float | None]:
    """Return the rewards of compared answers in their order, None for one without."""
    found: dict[str, Any] = {}
    for source in SOURCES.values():
        for answer, score in zip(source.answers, source.scores, strict=True):
            value = row.get(score)
            many = value if isinstance(value, list) else []
            found |= {f"{answer} {number}": each for number, each in enumerate(many)}
            found[answer] = value
    return [finite(found.get(place)) for place in order.split(",")] if order else []


def _ordered(answers: Mapping[str, str], seed: int, uuid: str, order: str | None) -> dict[str, str]:
    """Return answers in a given order if it is one of theirs, else in the seed's."""
    places = (order or "").split(",")
    if sorted(places) == sorted(answers):
        return {place: answers[place] for place in places}
    return blinded(answers, seed, uuid)


def _fields(row: Mapping[str, Any], seen: Shown, prompts: Mapping[str, str]) -> dict[str, Any]:
    system = seen.system or prompts.get(text_of(row.get("system_prompt_key")), "")
    told = {"system prompt": system, **{name: text_of(row.get(name)) for name in _PROVENANCE}}
    known = {name: text for name, text in told.items() if text}
    fields: dict[str, Any] = {CONVERSATION.name: list(seen.conversation)}
    if seen.answers:
        fields[ANSWERS.name] = seen.answers
    if known:
        fields[PROVENANCE.name] = folded("System prompt and provenance", known)
    return fields


def _metadata(row: Mapping[str, Any], seen: Shown) -> dict[str, Any]:
    values = {each.name: _value(each, row.get(each.name)) for each in PROPERTIES if not each.ours}
    values[ANSWER_ORDER.name] = seen.order
    return {name: value for name, value in values.items() if value not in (None, "")}


def _value(kind: Property, value: object) -> str | int | float | None:
    """Return a column's value as metadata, None if it is empty or of another type."""
    if kind.kind == "terms":
        if isinstance(value, bool):
            return KEEP if value else DROP
        return text_of(value)[:MAX_TERM]
    number = finite(value)
    return int(number) if number is not None and kind.kind == "integer" else number


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
