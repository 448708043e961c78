"""Where does a model's thought end and its answer begin?

Models that think write their thought before the answer, in the same turn and between marks of
their own. The marks are cut out of the chat template's rendering of a thought; where it renders
none, they are what the template's text mentions.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from typing import Any

from magpie_steps.conversation import Message
from magpie_steps.probes import TokenFinder, user_message
from magpie_steps.rendering import ChatRenderer, ChatTemplateError, raise_attack

# The key under which templates find a thought: the renderer passes it on under all their names.
THOUGHT_KEY = "reasoning"

_USER = "Hq5UserProbe2wd"
_THOUGHT = "Lv8ThoughtProbe4jn"
_ANSWER = "Bw6AnswerProbe9tc"
_LOOKS = TokenFinder((), ())

# How a pair of marks is written around a word.
_SHAPES = (
    ("<{}>", "</{}>"),
    ("[{}]", "[/{}]"),
    ("<|START_{}|>", "<|END_{}|>"),
    ("<|{}_prefix|>", "<|{}_suffix|>"),
    ("<|{}>", "<{}|>"),
)
_THOUGHT_WORD = re.compile(
    r"(?:[a-z]{1,20}:)?[a-z]{0,20}(?:think|thought|reason)[a-z]{0,20}(?::\w{1,20})?", re.IGNORECASE
)
_MOST_WORDS = 40  # a template with more is not worth the time
# Marks that do not say that they are a thought's: Apertus has them, Gemma 4 has them.
_OTHER_PAIRS = (("<|inner_prefix|>", "<|inner_suffix|>"), ("<|channel>thought", "<channel|>"))
# What models write whose template has a switch for thoughts and shows none: Cogito does.
_USUAL_PAIR = ("<think>", "</think>")
_ANSWER_PAIRS = (("<response>", "</response>"), ("<answer>", "</answer>"))
# A template may say in words what the model writes: Granite 3.2 and Apriel 1.5 do.
_SAID = re.compile(
    r"thoughts after '([^'\n]{3,60})' and write your response after '([^'\n]{3,60})'"
)
_FINAL = re.compile(r"(\[BEGIN ([A-Z ]{3,40})\]) ?\.\.\. ?(\[END \2\])")


@dataclass(frozen=True, slots=True)
class Marks:
    """What a model writes around its thought and its answer; white space around it aside.

    Attributes:
        open: What stands before a thought; "" when it begins without a mark.
        close: What stands between a thought and its answer.
        answer_open: What stands before an answer, with a thought or without; "" for nothing.
        answer_close: What stands after an answer in the same turn; "" for nothing.
    """

    open: str
    close: str
    answer_open: str = ""
    answer_close: str = ""


@dataclass(frozen=True, slots=True)
class Reasoned:
    """An assistant's turn, taken apart.

    Attributes:
        reasoning: The thought without its marks and white space around it; "" for none.
        answer: The rest; "" when the thought is not closed.
        closed: Whether the turn gets beyond the thought; true when there is none.
        stray: Whether a mark stands inside the thought or the answer, so that the template would
            cut the turn at another place.
    """

    reasoning: str
    answer: str
    closed: bool = True
    stray: bool = False


def find_marks(renderer: ChatRenderer) -> Marks | None:
    """Return what stands around a thought, or None for a model that does not think.

    Args:
        renderer: The chat template, with the content format that it takes.
    """
    rendered = _rendered_marks(renderer)
    if rendered is not None:
        return rendered
    mentioned = _mentioned_marks(renderer.source)
    if mentioned is None or mentioned.answer_open:
        return mentioned
    opening = _answer_opening(renderer, mentioned.open, mentioned.close)
    return Marks(mentioned.open, mentioned.close, opening, mentioned.answer_close)


def find_opening(post_query: str, marks: Marks) -> str:
    """Return how a prompt opens a thought for the model to write, "" if it does not.

    Args:
        post_query: What stands between a user's text and the place where the model goes on.
        marks: The model's.
    """
    start = post_query.rfind(marks.open) if marks.open else -1
    opening = post_query[start:] if start >= 0 else ""
    return "" if _first_token(marks.close) in opening else opening


def split_reasoning(text: str, marks: Marks | None, *, opened: bool = False) -> Reasoned:
    """Take a response apart into thought and answer.

    A thought needs no opening mark, since the prompt may have it or the model may leave it out; it
    goes up to the first closing mark. Marks that an engine has hidden, as it may do with special
    tokens, are found by what is left of them, if anything is.

    Args:
        text: The turn as the engine wrote it.
        marks: The model's; with None the whole text is the answer.
        opened: Whether the prompt has opened the thought.
    """
    if marks is None:
        return Reasoned("", text)
    visible = marks if _is_in(text, marks) else _hidden(marks, text)
    found = _spaced(visible.close).search(text)
    if found:
        return _parts(text[: found.start()], text[found.end() :], visible)
    if opened or (visible.open and text.lstrip().startswith(visible.open)):
        return Reasoned(_without(text, visible.open), "", closed=False)
    return _parts("", text, visible)


def recall(messages: Sequence[Message], thoughts: Sequence[str]) -> list[Message]:
    """Return messages with the thoughts behind the last answers, for the template to render.

    Args:
        messages: A conversation.
        thoughts: What was thought before the last answers of it, oldest first; "" for nothing.
    """
    if not any(thoughts):
        return list(messages)
    told: list[Message] = [dict(message) for message in messages]
    answers = [message for message in told if message.get("role") == "assistant"]
    for message, thought in zip(reversed(answers), reversed(thoughts), strict=False):
        if thought:
            message[THOUGHT_KEY] = thought
    return told


def _parts(thought: str, answer: str, marks: Marks) -> Reasoned:
    reasoning = _without(thought, marks.open)
    answer = _without(answer, marks.answer_open)
    if marks.answer_close:
        answer = answer.removesuffix(marks.answer_close).rstrip()
    found = [mark for mark in (marks.open, marks.close) if mark]
    stray = any(mark in part for mark in found for part in (reasoning, answer))
    return Reasoned(reasoning, answer, stray=stray)


def _without(text: str, opening: str) -> str:
    return text.strip().removeprefix(opening).strip()


@lru_cache(maxsize=64)
def _spaced(mark: str) -> re.Pattern[str]:
    """Return what finds a mark, also with white space between its tokens."""
    ends = [0, *(end for match in _LOOKS.looks.finditer(mark) for end in match.span()), len(mark)]
    pieces = [re.escape(mark[start:end].strip()) for start, end in pairwise(ends)]
    return re.compile(r"\s*".join(piece for piece in pieces if piece))


def _is_in(text: str, marks: Marks) -> bool:
    return bool(_spaced(marks.close).search(text) or (marks.open and marks.open in text))


def _hidden(marks: Marks, text: str) -> Marks:
    """Return the marks without their control tokens, if the text begins as such a thought does."""
    left = _LOOKS.erase(marks.open).strip()
    if not left or not text.lstrip().startswith(left):
        return marks
    close = _LOOKS.erase(marks.close).strip()
    return Marks(left, close or marks.close, _LOOKS.erase(marks.answer_open).strip())


def _rendered_marks(renderer: ChatRenderer) -> Marks | None:
    """Cut the marks out of the rendering of a thought, or return None if it is not rendered."""
    answer = {"role": "assistant", "content": _ANSWER, THOUGHT_KEY: _THOUGHT}
    text = _rendered(renderer, [user_message(_USER), answer])
    before, found, rest = text.rpartition(_USER)[2].partition(_THOUGHT)
    between, answered, _ = rest.partition(_ANSWER)
    close = between.strip()
    if not (found and answered and close):
        return None
    opening = _thought_opening(before, _post_query(renderer), close)
    return Marks(opening, close, _answer_opening(renderer, opening, close))


def _thought_opening(before: str, post_query: str, close: str) -> str:
    """Return what stands before a thought in the assistant's turn.

    Args:
        before: What stands between the user's text and the thought.
        post_query: What stands between the user's text and the place where the model goes on.
        close: What closes the thought.
    """
    rest = post_query.removeprefix(before).strip()
    if post_query.startswith(before) and rest and not rest.startswith(_first_token(close)):
        return rest  # only the prompt has it
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(before, post_query, strict=False))
    shared = _LOOKS.snap(before, len(list(pairs)), forward=False)
    if before[shared:].strip():
        return before[shared:].strip()
    # The prompt opens the thought: it begins at the last token.
    tokens = list(_LOOKS.looks.finditer(before))
    return before[tokens[-1].start() :].strip() if tokens else ""


def _answer_opening(renderer: ChatRenderer, opening: str, close: str) -> str:
    """Return what the model itself writes before an answer that it did not think about."""
    answered = [user_message(_USER), {"role": "assistant", "content": _ANSWER}]
    text = _rendered(renderer, [*answered, user_message(_THOUGHT)])
    bridge, found, _ = text.partition(_USER)[2].partition(_ANSWER)
    post_query = _post_query(renderer)
    given = post_query.partition(opening)[0] if opening else post_query
    if not found or not bridge.startswith(given):
        return ""
    written = bridge.removeprefix(given)
    for mark in (opening, close):  # an empty thought is none of the answer's
        written = written.replace(mark, "") if mark else written
    return written.strip()


def _first_token(mark: str) -> str:
    found = _LOOKS.looks.search(mark)
    return mark[: found.end()] if found else mark


def _post_query(renderer: ChatRenderer) -> str:
    text = _rendered(renderer, [user_message(_USER)], add_generation_prompt=True)
    return text.rpartition(_USER)[2]


def _rendered(
    renderer: ChatRenderer,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = False,
) -> str:
    """Render messages; "" if the template refuses them."""
    try:
        return renderer.render(messages, add_generation_prompt=add_generation_prompt)
    except ChatTemplateError as error:
        raise_attack(error)
        return ""


def _mentioned_marks(source: str) -> Marks | None:
    """Return the marks that a template's text mentions, or None."""
    if said := _SAID.search(source):
        return Marks(said[1], said[2])
    if final := _FINAL.search(source):
        return Marks("", final[1], answer_close=final[3])
    pairs = (pair for pair in _thought_pairs(source) if any(mark in source for mark in pair))
    pair = next(pairs, _USUAL_PAIR if "enable_thinking" in source else None)
    if pair is None:
        return None
    answers = (pair for pair in _ANSWER_PAIRS if all(mark in source for mark in pair))
    return Marks(*pair, *next(answers, ("", "")))


def _thought_pairs(source: str) -> Iterable[tuple[str, str]]:
    """Yield the pairs of marks that would name a thought, as the source names things."""
    words = dict.fromkeys(match.group() for match in _THOUGHT_WORD.finditer(source))
    for word in islice(words, _MOST_WORDS):
        for opening, close in _SHAPES:
            yield opening.format(word), close.format(word)
    yield from _OTHER_PAIRS
