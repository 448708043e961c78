"""In which language is a text?"""

import re
import unicodedata
from dataclasses import dataclass
from math import nan
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

LEAST_LETTERS = 12
"""A shorter text in an alphabet is any language's: "Calculate 80 + 3" looks Romanian."""

LEAST_SIGNS = 2
"""The same for scripts whose signs are words or syllables."""

LEAST_SHARE = 0.6
"""Share of letters among what is no white space; formulas and tables have fewer."""

LEAST_LEAD = 1.5
"""How much surer the likeliest language must be than the second."""

_NO_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`]*`|https?://\S+|\$(?!\d)[^$\n]{1,80}\$(?!\d)|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-zA-Z]+",
    re.DOTALL,
)
"""Code, addresses and formulas."""

_SIGN_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")


@dataclass(frozen=True, slots=True)
class Language:
    """A text's language.

    Attributes:
        code: ISO 639-1 in capitals, "" if the text does not tell.
        score: How sure that is, 0 to 1 over all languages that were looked for; NaN without one.
    """

    code: str = ""
    score: float = nan


class LanguageDetector(BaseModel):
    """Tells the language of texts with the lingua library, offline.

    A text that is too short, mostly numbers, code or formulas, or as likely in two languages, gets
    no language instead of a guess.

    Attributes:
        languages: ISO 639-1 codes of the languages to look for, at least two; [] is all 75 that
            lingua knows. Fewer are surer and quicker.
    """

    model_config = ConfigDict(extra="forbid")

    languages: list[str] = Field(default_factory=list)

    _detector: Any = PrivateAttr(default=None)

    @field_validator("languages")
    @classmethod
    def _check_languages(cls, codes: list[str]) -> list[str]:
        known = known_codes()
        wanted = [code.upper() for code in codes]
        if unknown := [code for code in wanted if code not in known]:
            raise ValueError(f"{unknown} are no languages; there are {', '.join(sorted(known))}")
        if len(set(wanted)) == 1:
            raise ValueError(
                f"with {wanted} alone there is nothing to tell apart; give two or more"
            )
        return wanted

    def load(self) -> None:
        """Make the detector; its models are read when they are first used."""
        from lingua import IsoCode639_1, LanguageDetectorBuilder

        if self.languages:
            codes = [getattr(IsoCode639_1, code) for code in self.languages]
            builder = LanguageDetectorBuilder.from_iso_codes_639_1(*codes)
        else:
            builder = LanguageDetectorBuilder.from_all_languages()
        self._detector = builder.build()

    def unload(self) -> None:
        """Let go of the detector."""
        self._detector = None

    def detect(self, text: str) -> Language:
        """Return a text's language.

        Raises:
            RuntimeError: The detector is not loaded.
        """
        if self._detector is None:
            raise RuntimeError("LanguageDetector is not loaded; call load() first")
        words = words_of(text).encode("utf-8", "replace").decode()  # half a surrogate pair is none
        if not words:
            return Language()
        first, second, *_ = self._detector.compute_language_confidence_values(words)
        if first.value < LEAST_LEAD * second.value:
            return Language()
        # Its last digits depend on the order in which threads finish.
        return Language(first.language.iso_code_639_1.name, round(float(first.value), 4))


def known_codes() -> frozenset[str]:
    """Return the ISO 639-1 codes of all languages that lingua knows, in capitals."""
    from lingua import Language as Known

    return frozenset(language.iso_code_639_1.name for language in Known.all())


def words_of(text: str) -> str:
    """Return a text without code, addresses and formulas, "" if too little of it is language."""
    rest = _NO_LANGUAGE.sub(" ", text)
    letters = [
        sign for sign in rest if sign.isalpha() or unicodedata.category(sign) in ("Mn", "Mc")
    ]
    signs = sum(unicodedata.name(sign, "").startswith(_SIGN_SCRIPTS) for sign in letters)
    written = sum(not sign.isspace() for sign in rest)
    enough = signs >= LEAST_SIGNS or len(letters) >= LEAST_LETTERS
    return rest.strip() if enough and len(letters) >= LEAST_SHARE * written else ""
