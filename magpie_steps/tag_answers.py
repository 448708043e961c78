r"""Which label does a model's answer give, however untidy it is?

Models that are asked for JSON write much that only looks like it: line breaks and quotes inside a
text, LaTeX, a comma too many, half an object. An answer is read as JSON if it is JSON, and else key
by key, since the keys of a form are known. A label counts if it is beyond doubt; every other answer
has a reason (`magpie_steps.reasons.TAG_REASONS`), and nothing here raises.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import zip_longest
from typing import Any

from magpie_steps.tagging import Form

_STRICT = json.JSONDecoder(strict=False)  # a raw line break in a text is harmless
_CLOSERS = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": "\u201d",
    "\u201e": "\u201c",
    "\u2018": "\u2019",
}
"""The marks that end what begins with a mark."""

_QUOTES = "".join({*_CLOSERS, *_CLOSERS.values()})

# Commands that JSON takes for an escape and what follows: "\frac" for a form feed and "rac".
_LATEX = re.compile(
    r"(?<!\\)\\(?=(?:bar|begin|beta|big|binom|bmod|bot|boxed|bullet|fbox|flat|forall|frac"
    r"|nabla|natural|ne|nearrow|neg|neq|nexists|ni|nmid|not|notin|nu"
    r"|rangle|rceil|rfloor|rho|right|rightarrow|rm|root"
    r"|tan|tanh|tau|tbinom|text|textbf|textit|tfrac|theta|tilde|times|to|top|triangle)(?![a-zA-Z]))"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "/": "/", "\\": "\\"}
_REMARK = re.compile(r"[(\[:;.,\n]|\s[-\u2013\u2014]+\s")
"""What stands between a label and a remark on it."""

_FILLERS = frozenset({"difficulty", "quality", "level", "rating", "category", "tag", "task"})
_SYNONYMS = {
    "other": "others",
    "coding": "coding and debugging",
    "debugging": "coding and debugging",
    "code": "coding and debugging",
    "mathematics": "math",
    "maths": "math",
    "roleplay": "role playing",
    "roleplaying": "role playing",
    "role play": "role playing",
}


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """What an answer says.

    Attributes:
        values: Its values by the form's keys; {} without a label.
        reason: Why there is no label, "" if there is one.
    """

    values: Mapping[str, Any]
    reason: str = ""


def read_answer(text: str, form: Form, *, truncated: bool = False) -> TagAnswer:
    """Read a model's answer.

    Args:
        text: The answer.
        form: What it should fill in.
        truncated: Whether the model ran out of tokens.

    Returns:
        The values. Texts that are missing are "", labels in a list that do not exist are left out.
    """
    answer = text.rpartition("</think>")[2].partition("<think>")[0]
    if not answer.strip():
        return TagAnswer({}, "truncated" if truncated else "empty")
    readings = _objects(answer, form)
    if not any(form.label in found for found in readings):
        readings = list(_scanned(answer, form))
    if not readings:
        return _without_keys(answer, form, truncated)
    verdicts = [_verdict(reading.get(form.label, ""), form) for reading in readings]
    labels = list(dict.fromkeys(label for label, _ in verdicts if label))
    if len(labels) > 1:
        return TagAnswer({}, "several_labels")
    if not labels:
        reason = verdicts[-1][1]
        cut = reason == "missing_key" and (truncated or _is_open(answer))
        return TagAnswer({}, "truncated" if cut else reason)
    # What several readings say is taken together; the first one with a label goes first.
    told = sorted(zip(verdicts, readings, strict=True), key=lambda each: each[0][0] is None)
    whole = {key: value for _, reading in reversed(told) for key, value in reading.items() if value}
    return TagAnswer(_filled(whole, labels[0], form))


def _objects(text: str, form: Form) -> list[dict[str, Any]]:
    """Return the JSON objects in a text, one after the other, with the form's own keys.

    None counts if a brace outside of them begins no object: it may open the one that is meant, and
    they be part of what that says.
    """
    mended = _LATEX.sub(r"\\\\", text)
    objects = []
    place = mended.find("{")
    while place >= 0:
        try:
            found, end = _STRICT.raw_decode(mended, place)
        except (ValueError, RecursionError):
            return []
        objects.append({_key(name, form): value for name, value in found.items()})
        place = mended.find("{", end)
    return objects


def _scanned(text: str, form: Form) -> Iterator[dict[str, Any]]:
    """Yield what stands behind the form's keys, as far as they are there; a key again is another.

    What follows a key goes on to the next key, so quotes and line breaks inside it do no harm.
    """
    keys = list(_key_pattern((*form.columns, *form.aliases)).finditer(text))
    # A word before a colon is no key where keys are quoted: it belongs to a text.
    keys = [key for key in keys if key["quoted"]] or keys
    reading: dict[str, Any] = {}
    for match, following in zip_longest(keys, keys[1:]):
        key = _key(match["quoted"] or match["bare"], form)
        rest = text[match.end() : following.start() if following else len(text)]
        if key in reading:
            yield reading
            reading = {}
        value = _listed(rest) if key in form.many else _text(rest, last=following is None)
        if value is not None:
            reading[key] = value
    if keys:
        yield reading


@cache
def _key_pattern(keys: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds one of the keys, quoted or at the beginning of an entry."""
    names = "|".join(sorted(keys, key=len, reverse=True)).replace("_", r"[_\s-]?")
    quote = rf"[{_QUOTES}]"
    return re.compile(
        rf"\\?{quote}\s*(?P<quoted>{names})\s*\\?{quote}\s*[:=]"
        rf"|(?:^|[{{,;])[\s*_#>-]*(?P<bare>{names})[\s*_]*[:=][*_]*",
        re.IGNORECASE | re.MULTILINE,
    )


def _without_keys(answer: str, form: Form, truncated: bool) -> TagAnswer:
    """Read an answer that names no key: a label alone, or nothing of use."""
    label, reason = _label(_bare(answer), form.labels)
    if label and not truncated:
        return TagAnswer(_filled({}, label, form))
    if truncated or ("{" in answer and _is_open(answer)):
        return TagAnswer({}, "truncated")
    if reason == "several_labels":
        return TagAnswer({}, reason)
    return TagAnswer({}, "missing_key" if "{" in answer else "no_object")


def _verdict(value: Any, form: Form) -> tuple[StrEnum | None, str]:
    """Return the label that a value gives, or None and why it gives none."""
    if isinstance(value, list):
        labels = {_verdict(item, form)[0] for item in value} - {None}
        if len(labels) > 1:
            return None, "several_labels"
        value = value[0] if value else ""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, "missing_key"
    return _label(value, form.labels) if isinstance(value, str) else (None, "unknown_label")


def _label(text: str, labels: type[StrEnum]) -> tuple[StrEnum | None, str]:
    """Return the label that a text is, or begins with before a remark.

    A text that names one label somewhere else is not taken: "not hard" is not "hard".
    """
    known = {_plain(label): label for label in labels}
    known |= {word: known[label] for word, label in _SYNONYMS.items() if label in known}
    plain = _plain(re.sub(r"^\W*\d+(?:\s*/\s*\d+)?\s*[-:.)=]+", "", text))
    if plain in known:
        return known[plain], ""
    named = _named(plain, known)
    if len(named) > 1:
        return None, "several_labels"
    head = _plain(_REMARK.split(_bare(text), maxsplit=1)[0])
    return (known[head], "") if head in known else (None, "unknown_label")


def _named(plain: str, known: Mapping[str, StrEnum]) -> set[StrEnum]:
    """Return the labels that a text names; in "very easy" is no "easy"."""
    found, rest = set(), plain
    for name in sorted(known, key=len, reverse=True):
        rest, count = re.subn(rf"\b{re.escape(name)}\b", "|", rest)
        if count:
            found.add(known[name])
    return found


def _plain(text: str) -> str:
    """Return a label's words: no case, marks, hyphens or underscores; "and" for "&"."""
    words = re.sub(r"[\W_]+", " ", text.casefold().replace("&", " and ")).split()
    return " ".join(word for word in words if word not in _FILLERS) or " ".join(words)


def _filled(reading: Mapping[str, Any], label: StrEnum, form: Form) -> dict[str, Any]:
    """Return a form's values, each of its own type."""
    values: dict[str, Any] = {key: _as_text(reading.get(key)) for key in form.texts}
    values[form.label] = str(label)
    for key in form.many:
        values[key] = _others(reading.get(key), label, form.labels)
    return {key: values[key] for key in form.columns}


def _others(value: Any, first: StrEnum, labels: type[StrEnum]) -> list[str]:
    """Return the other labels of a list, each once, without those that do not exist."""
    items = re.split(r"[,;\n]", value) if isinstance(value, str) else value
    if not isinstance(items, list):
        return []
    found = [_label(item, labels)[0] for item in items if isinstance(item, str)]
    return [str(label) for label in dict.fromkeys(found) if label and label is not first]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed(rest: str) -> list[str]:
    """Return the items of a list that may lack its end."""
    inside = rest.partition("[")[2].partition("]")[0] if "[" in rest else rest
    return [_bare(item) for item in re.split(r"[,;\n]", inside) if _bare(item)]


def _text(rest: str, *, last: bool) -> str | None:
    """Return the text behind a key, None if it breaks off.

    Args:
        rest: What stands between the key and the next one.
        last: Whether there is no next one, so that the text must say itself where it ends.
    """
    body = rest.strip().removeprefix("\\")
    if not body:
        return None
    if body[0] not in _CLOSERS:
        return _unescaped(_bare(body if last else re.sub(r"[,;]\s*$", "", body)))
    quote, closing = body[0], _CLOSERS[body[0]]
    inner = body[1:]
    end = _end_of(inner, closing, last=last)
    if end < 0 and last:
        return None
    inner = inner[:end] if end >= 0 else re.sub(rf"[,;\s]*[{re.escape(quote)}]?$", "", inner)
    return _unescaped(inner.removesuffix("\\").strip())


def _end_of(inner: str, closing: str, *, last: bool) -> int:
    """Return where a quoted text ends, -1 if nowhere.

    The last closing mark that only marks follow; a text may hold such marks itself.
    """
    tail = r"\s*[,;}\])`\\.]*\s*" if not last else r"\s*(?:[,;}\])`\\.]|\s)*"
    found = re.search(rf"{re.escape(closing)}{tail}$", inner)
    if found:
        return found.start()
    # Behind an answer a model may go on talking.
    ended = re.search(rf"(?<!\\){re.escape(closing)}\s*[}}\n]", inner) if last else None
    return ended.start() if ended else -1


def _unescaped(text: str) -> str:
    """Return a text with its escapes taken back, LaTeX left alone."""
    kept = _LATEX.sub(r"\\\\", text)
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), kept, flags=re.DOTALL).strip()


def _bare(text: str) -> str:
    """Return a text without the marks around it."""
    return text.strip().strip(_QUOTES + "{}[]<>()*_.,; \n\t")


def _is_open(text: str) -> bool:
    """Return whether an object begins and does not end."""
    return text.count("{") > text.count("}")


def _key(name: Any, form: Form) -> str:
    """Return the form's own word for a key."""
    word = re.sub(r"[\s-]+", "_", str(name).strip().casefold())
    joined = {key.replace("_", ""): key for key in (*form.columns, *form.aliases)}
    own = joined.get(word.replace("_", ""), word)
    return form.aliases.get(own, own)
