"""Decide whether a generated turn is clean text, or name the reason why it is not.

Nothing is cut out of a turn: a text is kept whole, white space around it aside, or rejected with
one reason. Cutting at the first question mark, as the Magpie paper's scripts do, breaks URLs,
second questions and multiple-choice options.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

InstructionReason = Literal[
    "empty",
    "whitespace",
    "template_tokens",
    "control_characters",
    "truncated",
    "too_short",
    "too_long",
    "assistant_voice",
    "answer_attached",
]
ResponseReason = Literal[
    "empty", "whitespace", "template_tokens", "control_characters", "truncated"
]

# What no written text holds: control codes but tab and line ends, halves of surrogate pairs, the
# replacement character (bytes that were no UTF-8) and code points that are no characters.
_CONTROL_CHARACTERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffd\ufffe\uffff]"
)
# A user does not think aloud in tags; a response may, so these are not control tokens.
_THOUGHT_TAGS = re.compile(r"</?think>")


@dataclass(frozen=True)
class Sanitized:
    """A turn after cleaning.

    Attributes:
        text: The text without white space around it, or `""` when it is rejected.
        reason: Why it is rejected, or `None` when it is kept.
    """

    text: str
    reason: InstructionReason | None


def sanitize_instruction(
    text: str,
    *,
    finish_reason: str = "stop",
    control_tokens: Collection[str] = (),
    min_chars: int = 3,
    max_chars: int = 8000,
) -> Sanitized:
    """Clean a user turn that a model wrote.

    The reasons are looked for in this order: `empty`, `whitespace`, `template_tokens` (a control
    token of the template, or a thought tag), `control_characters`, `truncated` (it did not end with
    a stop), `too_short`, `too_long`, `assistant_voice` (the user speaks as the assistant) and
    `answer_attached` (the question brings its answer along).

    Args:
        text: The turn, from `PreQueryTemplate.clean_query`.
        finish_reason: The engine's: `stop` when the model ended the turn itself.
        control_tokens: `PreQueryTemplate.control_tokens`.
        min_chars: Shortest text kept, in characters.
        max_chars: Longest text kept, in characters.
    """
    cleaned = _sanitize(text, finish_reason, control_tokens)
    if cleaned.reason:
        return cleaned
    reason = _find_instruction_fault(cleaned.text, min_chars, max_chars)
    return Sanitized("", reason) if reason else cleaned


def sanitize_response(
    text: str, *, finish_reason: str = "stop", control_tokens: Collection[str] = ()
) -> Sanitized:
    """Clean an assistant turn that a model wrote.

    Its reasons are `empty`, `whitespace`, `template_tokens`, `control_characters` and `truncated`,
    looked for in this order.

    Args:
        text: The turn.
        finish_reason: The engine's: `stop` when the model ended the turn itself.
        control_tokens: `PreQueryTemplate.control_tokens`.
    """
    return _sanitize(text, finish_reason, control_tokens)


def _sanitize(text: str, finish_reason: str, control_tokens: Collection[str]) -> Sanitized:
    stripped = text.strip()
    reason: InstructionReason | None = None
    if not text:
        reason = "empty"
    elif not stripped:
        reason = "whitespace"
    elif _any_of(frozenset(control_tokens)).search(stripped):
        reason = "template_tokens"
    elif _CONTROL_CHARACTERS.search(stripped):
        reason = "control_characters"
    elif finish_reason != "stop":
        reason = "truncated"
    return Sanitized("" if reason else stripped, reason)


def _find_instruction_fault(text: str, min_chars: int, max_chars: int) -> InstructionReason | None:
    if _THOUGHT_TAGS.search(text):
        return "template_tokens"
    # A text without any letter or digit asks nothing, however long it is.
    if len(text) < min_chars or not any(map(str.isalnum, text)):
        return "too_short"
    if len(text) > max_chars:
        return "too_long"
    if speaks_as_assistant(text):
        return "assistant_voice"
    if has_answer_attached(text):
        return "answer_attached"
    return None


@lru_cache(maxsize=64)
def _any_of(tokens: frozenset[str]) -> re.Pattern[str]:
    escaped = [re.escape(token) for token in sorted(tokens) if token.strip()]
    return re.compile("|".join(escaped) or "(?!)")


# --- the user speaks as the assistant ---------------------------------------------------------

_AI = r"an? (?:AI|artificial intelligence|(?:large )?language model|LLM|chatbot)"
# After "I'm an AI": what makes it the speaker's nature, not the trade of an "AI engineer".
_AI_NATURE = (
    r"(?: (?:language )?model| (?:virtual )?assistant| chatbot)?"
    r"(?=\s*(?:[,.;:!?(\u2013\u2014]|$)"
    r"| (?:and|so|but|that|who|which|without|designed|created|developed|trained|built|made|here)\b)"
)
_GREETING = r"(?:hello|hi|hey|greetings|welcome|good (?:morning|afternoon|evening|day))"
_OFFER = (
    r"(?:how|what) (?:can|may|could|might) i"
    r" (?:help|assist|support|do for|be of (?:help|assistance))"
    r"(?: you\b| to you\b| today\s*(?:[?.!]|$)|\s*\?|$)"
)
_CONSENT = r"(?:sure|certainly|of course|absolutely|definitely|no problem|great question)"
_GLAD = r"(?:would|'d|\u2019d) be (?:happy|glad|delighted) to"
_CANNOT = r"i (?:can't|can\u2019t|cannot|am unable to|am not able to)"
_REFUSED = r"(?:fulfill? (?:that|this|your)|comply|(?:assist|help)(?: you)? with (?:that|this))"

_ASSISTANT_VOICE = re.compile(
    "|".join(
        (
            # "Sure, here is ..."; but a user may hand over "my code".
            rf"{_CONSENT}(?: thing)?[!,.:\s\u2013\u2014-]+(?:here|below)"
            r"(?: is| are|'s|\u2019s)\b(?! (?:my|our)\b)",
            rf"{_CONSENT}[!,.]? i ?{_GLAD}",
            rf"{_CONSENT}[!,.]? i(?: can|'ll|\u2019ll| will)(?: certainly| gladly)?"
            r" (?:help|assist|explain|provide)\b",
            r"(?:great|good|excellent|interesting) question[!.,](?=[\s*]|$)",
            r"that(?:'s|\u2019s| is) (?:a|an) (?:great|good|excellent|interesting) question\b",
            rf"i(?:'m|\u2019m| am)(?: just| only| actually)? {_AI}{_AI_NATURE}",
            # "As an AI language model, how would you ..." is a user's way to ask.
            rf"as {_AI}{_AI_NATURE}(?![^.!?\n]*\byou)",
            rf"(?:{_GREETING}\b(?:[^?\n]*[^\w\s?'\"\u201c])?\s*)?{_OFFER}",
            r"is there anything else (?:that )?i can (?:help|assist|do)\b",
            r"i(?:'m|\u2019m| am) here to (?:help|assist)(?: you\b|[.!])",
            rf"i ?{_GLAD} (?:help|assist)(?: you\b|[.!,]| with (?:that|your)\b|$)",
            rf"(?:i(?:'m|\u2019m| am) sorry,?(?: but)? )?{_CANNOT} {_REFUSED}\b",
            r"(?:assistant|chatgpt|ai assistant):\s",
            r"(?:当然|好的)[,\uff0c!\uff01。]\s*(?:以下是|下面是|我(?:很乐意|可以)帮)",
            r"(?:作为|我是)(?:一个|一名|一款)?(?:AI|人工智能|大?语言模型|智能助手)"
            r"(?:语言模型|模型|助手)?(?:[,\uff0c。!\uff01]|$)",
            r"(?:你好|您好)[,\uff0c!\uff01。~\s]*(?:请问)?有?什么(?:我)?可以帮助?到?(?:你|您)",
        )
    ),
    re.IGNORECASE,
)
_LEADING_MARKS = re.compile(r"[\s\"'*_>#\u201c\u2018]*")


def speaks_as_assistant(text: str) -> bool:
    """Say whether a user turn opens in the assistant's voice: it greets, offers help or refuses."""
    start = _LEADING_MARKS.match(text)
    return bool(_ASSISTANT_VOICE.match(text, start.end() if start else 0))


# --- the question brings its answer along -----------------------------------------------------

_LABEL = (
    r"(?:(?:the )?(?:correct |final )?answers?|(?:the )?solution(?: approach)?|explanation|response"
    r"|ans|assistant|chatgpt|答案|解答|答|回答)"
)
_MARKS = r"[\s*_>#]*"
_COLON = rf"{_MARKS}[:\uff1a]{_MARKS}"
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_ANSWER_LINE = re.compile(rf"{_MARKS}(?P<label>{_LABEL}){_COLON}(?P<rest>.*)", re.IGNORECASE)
_SHORT_ANSWER_LINE = re.compile(rf"{_MARKS}A{_COLON}(?P<rest>.*)")
_ANSWER_IS_LINE = re.compile(
    rf"{_MARKS}(?:so,? |therefore,? |thus,? )?(?:the )?(?:correct |final )?answer is\b:?"
    r"(?! (?:not|given|supposed|known|required|expected|unique|an? (?:integer|number|fraction)))"
    r"(?P<rest>.*)",
    re.IGNORECASE,
)
_STEP_LINE = re.compile(r"#{1,4} *step 1\b(?P<rest>.*)", re.IGNORECASE)
_EMPTY_LABEL = re.compile(rf"{_MARKS}(?:{_LABEL}|A){_COLON}", re.IGNORECASE)
_QUESTION_LINE = re.compile(rf"{_MARKS}(?:q|question)\b[^:\n]{{0,12}}[:\uff1a]", re.IGNORECASE)
_USER_LINE = re.compile(rf"^{_MARKS}(?:user|human|customer)\s*:", re.IGNORECASE | re.MULTILINE)
_OPTION_B = re.compile(r"^[\s*_(]*B[).:\uff1a]", re.MULTILINE)
# A text that does something with a given answer, or that shows the form of one.
_ABOUT_ANSWERS = re.compile(
    r"\b(?:check|verif|grade|grading|feedback|proofread|critiqu|student|mistake|wrong|incorrect"
    r"|(?:mark|score|review|assess|judge|rate) (?:my|this|the|these)\b"
    r"|(?:my|this|these|following|given|below|his|her|their|your) (?:\w+ ){0,2}"
    r"(?:answer|solution|explanation|response)s?\b(?!\s*:)"
    r"|is (?:this|that|my|it) (?:\w+ )?(?:correct|right)\b"
    r"|for example\b|like this\b|as follows|format|template|transcript"
    r"|(?:start|begin|end|reply|respond) (?:\w+ ){0,3}with\b)"
    r"|检查|判断|翻译|批改|评价|改写|格式|对吗|正确吗",
    re.IGNORECASE,
)
# What a user goes on with after quoting a question and its answer.
_REQUEST_LINE = re.compile(
    rf"{_MARKS}(?:explain|show|why|how|prove|describe|write|give|find|derive|justify|tell|help|now"
    r"|please|can|could|would|what|rewrite|translate|summari|make|turn|use|generate|create)\b",
    re.IGNORECASE,
)
# Within a line only a capitalised label after some text, with a short rest.
_INLINE_ANSWER = re.compile(
    r"(?P<before>[^\s\"'\u201c\u2018(:]+)\s+"
    r"(?:(?:The )?[Cc]orrect answer|(?:The )?[Ff]inal answer|Answers?|Solution)(?: is)?"
    r"\s*[:\uff1a]\s+(?P<rest>\S[^\n]{0,200})\Z"
)
_INLINE_ANSWER_IS = re.compile(
    r"(?P<before>[?.])\s+The (?:correct |final )?answer is:? "
    r"(?!(?:an?|not|given|supposed|known|required|expected|unique|in|the)\b)"
    r"(?P<rest>\S+(?: \S+)?)\Z"
)
# "prints Answer: 4" talks about a label.
_LABEL_IS_QUOTED = frozenset(
    "read reads say says said show shows write writes wrote print prints printed output outputs put"
    " with type named called labelled labeled like as is my your their his her and or the".split()
)
# "Answer: in one word", "Answer: yes or no", "Answer: [your answer]": the wanted form of an answer.
_WANTED_FORM = re.compile(
    r"(?:in (?:one|two|three|a|at most|no more|under|\d+|short|brief|full|detail|english|the form"
    r"|terms|words?)|as (?:an?|briefly|short)|with an?|using|briefly|only|please|yes or no|yes/no"
    r"|true or false|true/false)\b"
    r"|\[[^\]]*(?:your|insert|answer|here)[^\]]*\]|<[^>]*>|_{2,}|\{\w*\}|\.{3}|\u2026",
    re.IGNORECASE,
)


def has_answer_attached(text: str) -> bool:
    """Say whether a user turn goes on to answer itself.

    Conservative: a text that works with a given answer (checks, grades, explains it), that shows a
    form to fill in, or that asks on after the answer, is a plain instruction.
    """
    prose = _FENCED.sub("", text).strip()
    found = _has_inline_answer(prose) if "\n" not in prose else _has_answer_line(prose)
    # Last, as it looks for many words everywhere, and few texts come so far.
    return found and not _ABOUT_ANSWERS.search(prose)


def _has_answer_line(prose: str) -> bool:
    lines = [line for line in prose.splitlines() if line.strip()]
    if _EMPTY_LABEL.fullmatch(lines[-1]):
        return False
    for index, line in enumerate(lines[1:], start=1):
        rest = _answer_in(line, lines[index - 1], prose, is_last=index == len(lines) - 1)
        if rest is not None and _is_answer(rest, lines[index + 1 :]):
            return not _is_quoted(line, lines[:index])
    return False


def _answer_in(line: str, previous: str, prose: str, *, is_last: bool) -> str | None:
    """Return what follows an answer's label at the start of `line`, or `None` without one."""
    is_asked = _ends_with_question(previous)
    if match := _ANSWER_LINE.match(line):
        # In data (`answer: 4`) a label is lower case.
        return None if match["label"][0].islower() else match["rest"]
    labelled = is_asked or _QUESTION_LINE.match(previous)
    if labelled and not _OPTION_B.search(prose) and (match := _SHORT_ANSWER_LINE.match(line)):
        return match["rest"]
    if (is_asked or is_last) and (match := _ANSWER_IS_LINE.match(line)):
        return match["rest"]
    if is_asked and (match := _STEP_LINE.match(line)):
        return match["rest"] or "1"
    return None


def _is_answer(rest: str, following: list[str]) -> bool:
    """Say whether what follows a label answers, rather than shows a gap or asks on."""
    answer = "\n".join([rest, *following]).strip()
    if not answer or _WANTED_FORM.match(answer):
        return False
    # A run-on model writes the next question under a label; a user just asks.
    if any(_USER_LINE.match(line) for line in following):
        return True
    asks_on = bool(following) and bool(_REQUEST_LINE.match(following[-1]))
    return not asks_on and not _ends_with_question(answer)


def _is_quoted(line: str, before: list[str]) -> bool:
    """Say whether a label stands in a dialogue or a question-answer pair that the user quotes."""
    if "assistant" in line.casefold() or "chatgpt" in line.casefold():
        return any(_USER_LINE.match(earlier) for earlier in before)
    return any(_QUESTION_LINE.match(earlier) for earlier in before[1:])


def _has_inline_answer(line: str) -> bool:
    # Either is in every label that is looked for, and a whole search takes a hundred times as long.
    if "nswer" not in line and "Solution" not in line:
        return False
    match = _INLINE_ANSWER.search(line) or _INLINE_ANSWER_IS.search(line)
    if not match or match["before"].casefold() in _LABEL_IS_QUOTED:
        return False
    return _is_answer(match["rest"], [])


def _ends_with_question(text: str) -> bool:
    return text.rstrip(" *_\"'\u201d)").endswith(("?", "\uff1f"))
