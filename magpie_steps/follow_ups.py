"""Is this a follow-up that a user of this conversation would write?

Two questions. Whether a later user turn may stand at all: the model may have forgotten that it is
the user, repeat itself, or say goodbye (`find_follow_up_fault`). And whether it belongs to what was
said before it, which the Magpie paper does not report (`similarity`, `is_related`).
"""

import re
from collections import Counter
from collections.abc import Sequence
from math import sqrt
from typing import Literal

from magpie_steps.conversation import ASSISTANT, USER, Message
from magpie_steps.sanitize import speaks_as_assistant

FollowUpFault = Literal["role_forgotten", "repetition", "closing"]

RELATED_SIMILARITY = 0.2
"""Similarity from which on a turn counts as related. Measured in the embedded models' world: 99 %
of real follow-ups reach it or refer back in words, and 21 % of questions from elsewhere do."""

ECHO_SIMILARITY = 0.95
"""Similarity from which on a turn counts as a repetition of a single earlier message."""

_CLOSING = re.compile(
    r"(?:(?:ok(?:ay)?|great|perfect|awesome|wonderful|excellent|nice|cool|alright|got it|ah|oh|wow"
    r"|amazing|fantastic|that(?:'s| is) (?:all|great|perfect|helpful|very helpful|it)"
    r"|that (?:helps?|was helpful|makes sense)(?: a lot)?)[\s,.!\u2014-]+)*"
    r"(?:(?:many )?thanks|thank you|thx|cheers|good ?bye|bye|see you|have a (?:nice|great|good) day"
    r"|that(?:'s| is) all(?: for now)?|no(?:thing)?,? (?:that(?:'s| is) all|else))\b"
    r"(?P<rest>[^?]*)",
    re.IGNORECASE,
)
_MAX_CLOSING_CHARS = 200
"""A longer text that begins with thanks goes on to say something."""
_ASKS_ON = re.compile(
    r"\b(?:can|could|would|will|please|what|how|why|who|where|when|which|now|but|also|explain|tell"
    r"|show|give|write|make|help me)\b",
    re.IGNORECASE,
)
_REFERS_BACK = re.compile(
    r"^\W*(?:and|but|so|or|also|then|now|next|what about|how about|what if|why|really|instead"
    r"|can you (?:also|now)|in that case|if so)\b"
    r"|\b(?:instead|again|another(?: one)?|one more|the same|as well|too|else|more (?:detail|about)"
    r"|you (?:said|mentioned|wrote|gave|suggested|listed|just)|above|previous|earlier|the (?:first"
    r"|second|third|last|former|latter)(?: one)?)\b"
    # "Sort these numbers: ..." points forward.
    r"|\b(?:this|that|these|those|it|its|they|them|their)\b(?![^\n]*:)",
    re.IGNORECASE,
)


def find_follow_up_fault(history: Sequence[Message], text: str) -> FollowUpFault | None:
    """Return why a text cannot be the next user turn, or None.

    Args:
        history: The conversation so far, ending with the assistant's answer.
        text: The user turn, as the instruction sanitiser accepted it.

    Returns:
        `role_forgotten`: it speaks as the assistant, or says the assistant's words again;
        `repetition`: the user asked it before; `closing`: it only says thanks or goodbye.
    """
    if speaks_as_assistant(text):
        return "role_forgotten"
    for message in history:
        if message["role"] in (USER, ASSISTANT) and _is_echo(message["content"], text):
            return "repetition" if message["role"] == USER else "role_forgotten"
    return "closing" if says_goodbye(text) else None


def says_goodbye(text: str) -> bool:
    """Say whether a text is a courtesy that ends a conversation, and asks for nothing."""
    match = _CLOSING.fullmatch(text.strip())
    return bool(
        match and len(text) <= _MAX_CLOSING_CHARS and not _ASKS_ON.search(match.group("rest"))
    )


def similarity(history: Sequence[Message], text: str) -> float:
    """Return how similar a text is to the conversation before it.

    Returns:
        The cosine of the counts of letter triples, 0 (nothing in common) to 1; 0 without a history.
    """
    said = [message["content"] for message in history if message["role"] in (USER, ASSISTANT)]
    return _cosine(_triples("\n".join(said)), _triples(text))


def is_related(history: Sequence[Message], text: str) -> bool:
    """Say whether a user turn belongs to the conversation before it.

    It does if it is similar enough, or if it refers back in words, as "And in Italy?" or "Make it
    shorter." do. The words are English; in other languages only similarity counts.
    """
    return is_close(similarity(history, text), text)


def is_close(similar: float, text: str) -> bool:
    """Say the same of a user turn whose similarity to the conversation is known."""
    return similar >= RELATED_SIMILARITY or bool(_REFERS_BACK.search(text))


def _is_echo(earlier: str, text: str) -> bool:
    """Say whether two messages say the same, but for case, white space or a word."""
    first, second = " ".join(earlier.casefold().split()), " ".join(text.casefold().split())
    if first == second:
        return True
    shorter, longer = sorted((len(first), len(second)))
    # Short texts that differ in one word ("add 5 to 7", "add 5 to 8") are different questions.
    return (
        shorter > _MAX_CLOSING_CHARS
        and shorter > ECHO_SIMILARITY * longer
        and _cosine(_triples(first), _triples(second)) >= ECHO_SIMILARITY
    )


def _triples(text: str) -> Counter[str]:
    """Count the runs of three characters, words apart, case and punctuation left out."""
    words = re.findall(r"\w+", text.casefold())
    padded = (f" {word} " for word in words)
    return Counter(word[i : i + 3] for word in padded for i in range(len(word) - 2))


def _cosine(first: Counter[str], second: Counter[str]) -> float:
    if not first or not second:
        return 0.0
    dot = sum(count * second[triple] for triple, count in first.items() if triple in second)
    return dot / sqrt(_square(first) * _square(second))


def _square(counts: Counter[str]) -> int:
    return sum(count * count for count in counts.values())
