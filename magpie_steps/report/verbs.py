"""What do instructions ask to be done to what?

As in the figure of Self-Instruct (arXiv 2212.10560), which the paper draws for its own data: the
root verbs of instructions, with the nouns that are their direct objects. There a parser finds them;
here word classes and rules do, which is faster and needs no model from elsewhere. The rules ask
what is wanted: "can you explain" and "I would like to explain" have the same verb as "explain".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

SENTENCES = 5
"""Of an instruction so many sentences are looked at, until one has a verb."""

WORDS = 20
"""So many words of a sentence are looked at."""

MOST_CHARACTERS = 4000
"""So much of an instruction is looked at."""

WORD_CHARACTERS = 30
"""So much of a word is looked at: the tagger takes long for long ones."""

FOREIGN = 0.3
"""A sentence with a larger share of words that are unknown in English is none."""

_SENTENCE_ENDS = re.compile(r"[.?!:;\n]+(?=\s|$)")
_WORD = re.compile(r"[a-z]+?(?=n't\b)|n't\b|'[a-z]+|[^\W_]+(?:-[^\W_]+)*|,", re.IGNORECASE)
_NO_WORDS = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)

_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"

_ASKING = frozenset("want need like wish try look help hope love plan wonder ask know".split())
"""Verbs that only introduce what is wanted, where another one follows."""

_OPENINGS = frozenset("AV0 ITJ CJC CJS PUN".split())
"""Classes of words before an imperative, such as in "please write"."""

_DETERMINERS = frozenset("AT0 DPS DT0 CRD ORD PNP PNX".split())
_AFTER_VERBS = _DETERMINERS | frozenset("AJ0 NN2 AVQ DTQ CJT".split())
_BEFORE_NOUNS = frozenset("AT0 DPS DT0 CRD ORD AJ0 AJC AJS AV0 VVN VVG UNC".split())
_NOUNS = frozenset("NN0 NN1 NN2 NP0".split())
_INFINITIVES = frozenset("VVI VVB".split())


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb that instructions have.

    Attributes:
        verb: The verb.
        count: Instructions that have it.
        objects: Its most frequent direct objects, each with the number of instructions that have
            it, the most frequent first.
    """

    verb: str
    count: int
    objects: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word and its class in the CLAWS5 tag set."""

    text: str
    kind: str

    @property
    def lemma(self) -> str:
        return _lemma(self.text, self.kind)


def top_verbs(instructions: Iterable[str], verbs: int = 20, objects: int = 4) -> list[Verb]:
    """Return the most frequent verbs of English instructions, the most frequent first.

    Args:
        instructions: The instructions; one without a verb, such as "What is the capital of
            France?", and one in another language count nowhere.
        verbs: The most verbs that are returned; 20 in the figure.
        objects: The most direct objects of each; 4 in the figure.
    """
    counts: Counter[str] = Counter()
    of_verb: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for instruction in instructions:
        verb, noun = verb_and_object(instruction)
        counts.update([verb] if verb else [])
        of_verb[verb].update([noun] if verb and noun else [])
    return [
        Verb(verb, count, tuple(_most(of_verb[verb], objects)))
        for verb, count in _most(counts, verbs)
    ]


def verb_and_object(instruction: str) -> tuple[str, str]:
    """Return the verb of an English instruction and its direct object, "" for none."""
    for sentence in _sentences(instruction):
        words = _tagged(sentence)
        unknown = sum(word.kind == "UNC" for word in words)
        place = _root(words) if unknown <= FOREIGN * len(words) else -1
        if place >= 0:
            return words[place].lemma, _object(words[place + 1 :])
    return "", ""


def _most(counts: Counter[str], number: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:number]


def _sentences(text: str) -> list[list[str]]:
    """Return the words of a text's first sentences, without code and addresses."""
    prose = _NO_WORDS.sub(" ", text[:MOST_CHARACTERS]).replace(_APOSTROPHE, "'")
    parts = (_WORD.findall(part)[:WORDS] for part in _SENTENCE_ENDS.split(prose))
    return [[word[:WORD_CHARACTERS] for word in part] for part in parts if part][:SENTENCES]


def _tagged(sentence: Sequence[str]) -> list[_Word]:
    """Return words with their classes; an imperative that was taken for a noun is a verb."""
    kinds = _tagger().tag_sent(sentence, taglevel=0)
    words = [_Word(text, kind) for text, kind in zip(sentence, kinds, strict=True)]
    first = next((at for at, word in enumerate(words) if word.kind not in _OPENINGS), len(words))
    if first + 1 < len(words) and _is_imperative(words[first], words[first + 1]):
        words[first] = _Word(words[first].text, "VVB")
    return words


def _is_imperative(word: _Word, following: _Word) -> bool:
    """Return whether a word that begins a sentence is a verb, though tagged as something else."""
    if word.kind not in _NOUNS | {"AJ0", "UNC"}:
        return False
    kinds = {kind for kind, _ in _tagger().tag_word(word.text.lower())}
    known = kinds & _INFINITIVES and following.kind in _AFTER_VERBS
    return bool(known) or (word.kind != "AJ0" and following.kind in _DETERMINERS)


def _root(words: Sequence[_Word]) -> int:
    """Return the place of a sentence's verb, -1 if it has none but forms of "be"."""
    start = _main_clause(words)
    for at in range(start, len(words)):
        word = words[at]
        if word.kind.startswith("VB") and not _goes_on(words[at + 1 :]):
            return -1
        if _is_verb(words, at) and not (word.lemma in _ASKING and _asks(words[at + 1 :])):
            return at
    return -1


def _main_clause(words: Sequence[_Word]) -> int:
    """Return where the main clause begins: after the comma if the sentence begins with another."""
    openings = ("CJS", "PRP", "PRF", "VVN", "VVG")
    if words and words[0].kind in openings:
        commas = [at for at, word in enumerate(words) if word.text == ","]
        return commas[0] + 1 if commas else 0
    return 0


def _is_verb(words: Sequence[_Word], at: int) -> bool:
    kind = words[at].kind
    if kind in ("VHB", "VHI", "VHZ", "VHD", "VDI"):
        # "do" and "have" are verbs of their own where no other one follows.
        return not any(word.kind.startswith("VV") for word in words[at + 1 : at + 4])
    return kind.startswith("VV") and kind not in ("VVG", "VVN")


def _goes_on(rest: Sequence[_Word]) -> bool:
    """Return whether "be" only introduces a verb, as in "I am trying to"."""
    return bool(rest) and rest[0].lemma in _ASKING


def _asks(rest: Sequence[_Word]) -> bool:
    """Return whether a verb of asking is followed by what is asked, as in "to explain"."""
    return any(
        word.kind in ("TO0", "VVI") or (word.kind == "VVB" and at)
        for at, word in enumerate(rest[:4])
    )


def _object(rest: Sequence[_Word]) -> str:
    """Return the head of the nouns that follow a verb, "" if something else comes first."""
    at = 0
    while at < len(rest) and rest[at].kind == "PNP":
        at += 1  # "give me"
    while at < len(rest) and rest[at].kind in _BEFORE_NOUNS:
        at += 1
    nouns = []
    while at < len(rest) and rest[at].kind in _NOUNS and rest[at].text[0].isalpha():
        nouns.append(rest[at])
        at += 1
    return nouns[-1].lemma if nouns else ""


@lru_cache(maxsize=100_000)
def _lemma(text: str, kind: str) -> str:
    lemma: str = _tagger().analyze(text.lower(), pos=kind)[0]
    return lemma.lower()


@cache
def _tagger() -> Any:
    """Return the tagger, HanTa's with its English model."""
    import HanTa
    from HanTa.HanoverTagger import HanoverTagger

    # By its whole path, or a file of this name in the current folder would be unpickled instead.
    return HanoverTagger(str(Path(HanTa.__file__).with_name("morphmodel_en.pgz")))
