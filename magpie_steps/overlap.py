"""How much of an evaluation prompt does a text repeat?

The rule is that of Tulu 3 (arXiv 2411.15124, its n-gram matching of prompts). A text overlaps a
prompt by the share of the prompt's words, not of its own, that lie in a run of eight words which
the text has as well. Above one half, the text is contaminated.

Two things are added. A text that is equal to a prompt overlaps it wholly; this alone counts where
one of them has fewer than eight words. Eight words in a row that more than `MOST_PROMPTS` prompts
of a set share are its template ("Answer the following question ..."), so they tell nothing: only
words in other runs count.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

RUN = 8
"""Words in a row that are compared, as in Tulu 3."""

THRESHOLD = 0.5
"""The overlap above which a text is contaminated, as in Tulu 3."""

MOST_PROMPTS = 100
"""Prompts of a set that may share eight words before these count as its template; our choice."""

_MINUS, _TIMES, _OVER = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{DIVISION SIGN}"
_SIGNS = {"-": _MINUS, "*": _TIMES, "/": _OVER}
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)\s*([-*/])\s*(?=\d)")
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese, which put no spaces between words."""

_INVISIBLE = re.compile("[\u20e3\ufe00-\ufe0f]")
"""What makes an emoji of the character before it."""

_POSITION_BITS = 32
_POSITIONS = (1 << _POSITION_BITS) - 1


@dataclass(frozen=True, slots=True)
class Match:
    """A prompt that a text overlaps.

    Attributes:
        name: The prompt's set.
        prompt: The prompt's number in its set, from 0.
        share: The share of the prompt's words that the text repeats, above 0, at most 1.
        equal: Whether the two are equal after normalising.
    """

    name: str
    prompt: int
    share: float
    equal: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """How large a set is.

    Attributes:
        prompts: Its prompts, those without a word left out.
        empty: Its prompts without a word; nothing overlaps them.
    """

    prompts: int
    empty: int


class Index:
    """Prompts in sets, to be looked up by what a text shares with them.

    A word of a prompt takes 16 bytes; the prompts themselves are not kept. The same prompts give
    the same matches on every machine.

    Attributes:
        sizes: How large each set is.

    Args:
        sets: The prompts by their set's name.
    """

    def __init__(self, sets: Mapping[str, Iterable[str]]) -> None:
        self._sets = {name: _Set(prompts) for name, prompts in sets.items()}
        self.sizes = {name: each.size for name, each in self._sets.items()}

    def matches(self, text: str) -> list[Match]:
        """Return each set's prompt that a text overlaps most, the largest share first.

        Sets of which it overlaps no prompt are left out; of equal shares the earlier one counts.
        """
        words = words_of(text)
        whole, runs = _whole(words), frozenset(_runs(words))
        found = [each.match(name, whole, runs) for name, each in self._sets.items()]
        return sorted((match for match in found if match), key=lambda match: -match.share)

    def match(self, text: str) -> Match | None:
        """Return the prompt of all sets that a text overlaps most, None if it overlaps none."""
        return next(iter(self.matches(text)), None)


class _Set:
    """The prompts of one set, as sorted numbers that stand for their runs of words."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._equal: dict[int, int] = {}
        count, empty, entries = 0, 0, list[int]()
        for number, prompt in enumerate(prompts):
            words = words_of(prompt)
            count, empty = count + bool(words), empty + (not words)
            whole = _whole(words)
            if words and self._equal.setdefault(whole, number) == number:
                place = number << _POSITION_BITS
                entries += [run << 64 | place + at for at, run in enumerate(_runs(words))]
        self.size = Size(count, empty)
        entries.sort()
        self._runs = array("Q", (entry >> 64 for entry in entries))
        self._places = array("Q", (entry & (1 << 64) - 1 for entry in entries))
        self._words = self._telling_words()

    def match(self, name: str, whole: int, runs: Iterable[int]) -> Match | None:
        """Return the prompt that a text with these numbers overlaps most."""
        if (equal := self._equal.get(whole)) is not None:
            return Match(name, equal, 1.0, equal=True)
        covered = _covered(place for run in runs for place in self._places_of(run))
        shares = {prompt: count / self._words[prompt] for prompt, count in covered.items()}
        if not shares:
            return None
        best = min(shares, key=lambda prompt: (-shares[prompt], prompt))
        return Match(name, best, shares[best])

    def _places_of(self, run: int) -> Sequence[int]:
        """Return where the set has a run of words, nowhere for one of its template."""
        start = bisect_left(self._runs, run)
        end = start
        while end < len(self._runs) and self._runs[end] == run:
            end += 1
        return self._places[start:end]

    def _telling_words(self) -> dict[int, int]:
        """Drop the runs of the template; return how many words of each prompt are in the others."""
        runs, places = array("Q"), array("Q")
        start = 0
        while start < len(self._runs):
            found = self._places_of(self._runs[start])
            if len({place >> _POSITION_BITS for place in found}) <= MOST_PROMPTS:
                runs.extend(self._runs[start : start + len(found)])
                places.extend(found)
            start += len(found)
        self._runs, self._places = runs, places
        return _covered(places)


def words_of(text: str) -> list[str]:
    """Return a text's words as they are compared.

    Unicode's compatibility form (NFKC), without case, punctuation and invisible characters; a sign
    of arithmetic is a word, since 5 - 3 is not 5 * 3. In scripts without spaces between words each
    letter is one.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    signed = _BETWEEN_NUMBERS.sub(lambda found: f" {_SIGNS[found[1]]} ", plain)
    return signed.translate(_CHARACTERS).split()


class _Characters(dict[int, str]):
    """What each character becomes: itself, a space, a word of its own or nothing."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = _becomes(character)
        return self[code]


def _becomes(character: str) -> str:
    kind = unicodedata.category(character)
    if character in _APOSTROPHES or _INVISIBLE.match(character) or kind == "Cf":
        return ""
    if kind[0] in "LMN" and not _UNSPACED.match(character):
        return character
    return f" {character} " if kind[0] in "LMN" or kind == "Sm" else " "


_CHARACTERS = _Characters()


def _runs(words: list[str]) -> list[int]:
    """Return a number for every eight words in a row."""
    return [_whole(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]


def _whole(words: list[str]) -> int:
    """Return a number of 64 bits that stands for the words, the same on every machine."""
    return int.from_bytes(blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def _covered(places: Iterable[int]) -> dict[int, int]:
    """Return for each prompt how many of its words lie in the runs at these places."""
    counts: dict[int, int] = defaultdict(int)
    before, end = -1, 0
    for place in sorted(places):
        prompt, position = place >> _POSITION_BITS, place & _POSITIONS
        end = end if prompt == before else 0
        counts[prompt] += position + RUN - max(position, end)
        before, end = prompt, position + RUN
    return counts
