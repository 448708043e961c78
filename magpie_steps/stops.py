"""Find the tokens and strings that end a turn, in what a template writes after it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from magpie_steps.probes import REASONING_TAGS, TokenFinder
from magpie_steps.reasoning import Marks
from magpie_steps.scaffold import Scaffold


@dataclass(frozen=True, slots=True)
class Stop:
    """What comes first after a turn.

    Attributes:
        text: A control token, or plain text.
        token_id: The token's id; `None` when the text is no single token, or without a tokenizer.
    """

    text: str
    token_id: int | None = None


@dataclass(frozen=True)
class Stops:
    """What ends a turn.

    Attributes:
        first: The token or text that comes first after the turn.
        token_ids: Ids to stop at; control tokens must be stopped at by id, since most engines
            hide them from the text that strings are looked for in.
        strings: Texts to stop at: what is not a single token in the vocabulary.
    """

    first: Stop
    token_ids: tuple[int, ...]
    strings: tuple[str, ...]


def user_stops(
    scaffold: Scaffold, vocabulary: Mapping[str, int], eos_ids: Collection[int]
) -> Stops:
    """Return what ends a user's turn: what follows it, and every other token of the scaffold.

    Args:
        scaffold: The derived texts.
        vocabulary: The tokenizer's added tokens and their ids; empty when there is no tokenizer.
        eos_ids: End-of-sequence ids of tokenizer and model.
    """
    first, literal = _first_stop(scaffold.post_query, scaffold.tokens)
    others = scaffold.tokens.markers(
        scaffold.post_query, scaffold.user_header, scaffold.bridge, scaffold.turn_gap
    )
    others |= _eos_text(scaffold)
    return _stops(first, literal, others, vocabulary, eos_ids)


def assistant_stops(
    scaffold: Scaffold,
    vocabulary: Mapping[str, int],
    eos_ids: Collection[int],
    marks: Marks | None = None,
) -> Stops:
    """Return what ends an assistant's turn.

    Args:
        scaffold: As for `user_stops`.
        vocabulary: As for `user_stops`.
        eos_ids: As for `user_stops`.
        marks: What the model writes around a thought: it does not stop there.
    """
    tokens = scaffold.tokens
    ending = scaffold.turn_gap or scaffold.conversation_end or scaffold.user_header
    first, literal = _first_stop(ending, tokens)
    others = tokens.markers(ending, scaffold.user_header, scaffold.conversation_end)
    others |= tokens.markers(scaffold.post_query)
    # What the model itself must write between the generation prompt and its answer.
    begins = scaffold.bridge.startswith(scaffold.post_query)
    opening = scaffold.bridge.removeprefix(scaffold.post_query) if begins else ""
    written = REASONING_TAGS | tokens.markers(opening)
    if marks is not None:
        written |= tokens.markers(marks.open, marks.close, marks.answer_open)
    others = (others | _eos_text(scaffold)) - written
    stops = _stops(first, literal, others, vocabulary, eos_ids)
    # In a history an answer may end with a token that also ends a thought (gpt-oss's `<|end|>`).
    if first in written and (others or eos_ids):
        own = _stops(None, literal, others, vocabulary, eos_ids)
        return replace(stops, token_ids=own.token_ids, strings=own.strings)
    return stops


def _eos_text(scaffold: Scaffold) -> set[str]:
    token = scaffold.renderer.special_tokens.get("eos_token")
    return {token} if isinstance(token, str) and token.strip() else set()


def _first_stop(ending: str, tokens: TokenFinder) -> tuple[str | None, str | None]:
    """Return the first control token of `ending`, and the text before it if there is some."""
    match = tokens.first(ending)
    literal = (ending[: match.start()] if match else ending).strip()
    return (match.group() if match else None), literal or None


def _stops(
    token: str | None,
    literal: str | None,
    others: Collection[str],
    vocabulary: Mapping[str, int],
    eos_ids: Iterable[int],
) -> Stops:
    wanted = [stop for stop in (literal, token) if stop]
    wanted += sorted(set(others) - set(wanted))
    ids = [vocabulary[stop] for stop in wanted if stop in vocabulary]
    strings = [stop for stop in wanted if stop not in vocabulary]
    first = wanted[0] if wanted else ""
    return Stops(
        first=Stop(first, vocabulary.get(first)),
        token_ids=tuple(dict.fromkeys([*ids, *sorted(eos_ids)])),
        strings=tuple(dict.fromkeys(strings)),
    )


def control_tokens(scaffold: Scaffold, special: Collection[str]) -> frozenset[str]:
    """Return what may never stand in a user's or assistant's text.

    Args:
        scaffold: The derived texts; every token in what surrounds the turns counts.
        special: The tokenizer's special tokens.
    """
    found = scaffold.tokens.markers(
        scaffold.post_query,
        scaffold.user_header,
        scaffold.bare_pre_query,
        scaffold.bridge,
        scaffold.turn_gap,
        scaffold.conversation_end,
        scaffold.system_end,
    )
    return frozenset(found - REASONING_TAGS) | _controls_among(special)


def thought_tokens(scaffold: Scaffold, marks: Marks | None) -> frozenset[str]:
    """Return the tokens that open or close a thought, which only the model may write."""
    own = scaffold.tokens.markers(marks.open, marks.close) if marks else set()
    return frozenset(own | REASONING_TAGS)


def special_controls(tokenizer: Any) -> frozenset[str]:
    """Return the tokenizer's special tokens that may never stand in a text."""
    return _controls_among(special_texts(tokenizer))


def _controls_among(special: Collection[str]) -> frozenset[str]:
    named = {token for token in special if token.strip() and not token.isalnum()}
    return frozenset(named - REASONING_TAGS)


def vocabulary_of(tokenizer: Any) -> dict[str, int]:
    """Return a tokenizer's added tokens and their ids, special or not."""
    added = getattr(tokenizer, "added_tokens_encoder", None)
    if added is None:
        added = tokenizer.get_added_vocab() if hasattr(tokenizer, "get_added_vocab") else {}
    vocabulary = {str(token): int(index) for token, index in dict(added).items()}
    for token in special_texts(tokenizer):
        if token not in vocabulary:
            ids = tokenizer.encode(token, add_special_tokens=False)
            if len(ids) == 1:
                vocabulary[token] = ids[0]
    return vocabulary


def special_texts(tokenizer: Any) -> set[str]:
    """Return the texts of a tokenizer's special tokens, named and unnamed."""
    texts = {value for value in tokenizer.special_tokens_map.values() if isinstance(value, str)}
    texts.update(getattr(tokenizer, "all_special_tokens", ()))
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    texts.update(str(token) for token in decoder.values() if getattr(token, "special", False))
    return texts


def eos_ids_of(*sources: Any) -> set[int]:
    """Return the end-of-sequence ids named by a tokenizer, a generation config or a dict of it."""
    found: set[int] = set()
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        if isinstance(source, Mapping):
            value = source.get("eos_token_id")
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(item) for item in value)
    return found
