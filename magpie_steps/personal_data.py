"""Which personal data does a text seem to hold?

Found by form: addresses, numbers that pass their own check, keys by their makers' prefixes. What
stands for nobody is left out: names, addresses and numbers that are set aside for documentation
(RFC 2606, 5737 and 3849, 555-01xx, Ofcom's for drama, payment services' test cards), private
networks, and stand-ins such as user@domain.com. A number of ten digits without any sign between
them is no telephone number here: most such numbers are none. An address of four numbers after a
word like "version" is none either.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network
from typing import Literal, get_args

Kind = Literal[
    "private_key",
    "secret_key",
    "url_with_password",
    "email",
    "iban",
    "credit_card",
    "us_ssn",
    "ip_address",
    "phone",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is found, in this order: what has the form of an earlier kind is none of a later one."""

SHOWN = 2
"""Characters that are shown at each end of what was found; one if it has fewer than 12."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that looks like personal data.

    Attributes:
        kind: What it looks like.
        masked: Its first and last characters, those between left out.
    """

    kind: Kind
    masked: str


def find(text: str) -> list[Found]:
    """Return what in a text looks like personal data, kind by kind.

    It takes time in proportion to the text's length, whatever the text.
    """
    found: list[Found] = []
    for finder in _FINDERS:
        if finder.hint.search(text):
            text = finder.take(text, found)
    return found


def mask(text: str) -> str:
    """Return a text in which what looks like personal data is masked."""
    for finder in _FINDERS:
        if finder.hint.search(text):
            text = finder.form.sub(partial(_masked_if_real, finder.is_real), text)
    return text


def _masked_if_real(is_real: Callable[[str], bool], found: re.Match[str]) -> str:
    return masked(found[0]) if is_real(found[0]) else found[0]


def masked(text: str) -> str:
    """Return a text's first and last characters, those between left out."""
    shown = SHOWN if len(text) >= 12 else 1
    return f"{text[:shown]}…{text[-shown:]}"


@dataclass(frozen=True, slots=True)
class _Finder:
    """How one kind is found: a form, and what tells the real ones.

    In its form every repetition has a bound and none starts within another one's run, so that no
    text takes long.

    Attributes:
        kind: The kind.
        hint: What a text of this kind has somewhere; quickly looked for, as most texts have it not.
        form: The form.
        is_real: Whether what has the form is more than that.
    """

    kind: Kind
    hint: re.Pattern[str]
    form: re.Pattern[str]
    is_real: Callable[[str], bool]

    def take(self, text: str, found: list[Found]) -> str:
        """Add what is found in a text; return the text without what has the form."""
        for match in self.form.finditer(text):
            if self.is_real(match[0]):
                found.append(Found(self.kind, masked(match[0])))
        return self.form.sub(" ", text)


_NAMES_OF_NOBODY = re.compile(
    r"(?:^|[@.])(?:example|test|invalid|localhost|local|internal)$"
    r"|(?:^|[@.])example\.(?:com|org|net|edu)$"
    r"|[@.](?:(?:your|my)(?:company|site|website)|(?:your|my)?domain)\.com$"
    r"|^git@",
    re.IGNORECASE,
)
_STAND_IN = re.compile(r"example|your|x{4}|\*{3}|\.{3}|<|placeholder", re.IGNORECASE)
_STAND_IN_PASSWORD = re.compile(
    r"//(?:user(?:name)?|login|admin)?:?(?:pass(?:word|wd)?|pwd)@", re.I
)
_TEST_CARDS = frozenset(
    "4242424242424242 4000056655665556 4111111111111111 4012888888881881 5555555555554444"
    " 5105105105105100 2223003122003222 378282246310005 371449635398431 6011111111111117"
    " 6011000990139424 3530111333300000 3566002020360505 30569309025904 38520000023237".split()
)
_IBAN_LENGTHS = {
    each[:2]: int(each[2:])
    for each in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28"
        " EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26"
        " IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30"
        " NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 SM27 ST25 SV28"
        " TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    ).split()
}
"""How long each country's IBAN is (SWIFT's IBAN registry)."""
_VOID_SSNS = frozenset(("078-05-1120", "219-09-9999"))
_UNICAST = IPv6Network("2000::/3")
_DATE = re.compile(r"\d{1,2}[-/. ]\d{1,2}[-/. ](?:19|20)\d\d|(?:19|20)\d\d[-/. ]\d\d?[-/. ]\d\d?")
_NUMBER_OF_NOBODY = re.compile(
    r"^1?[2-9]\d\d55501\d\d$"  # North American numbers for fiction
    r"|^1?555\d{7}$"  # no area has the number 555
    r"|(?:44|^0)(?:7700900|2079460)\d{3}$"  # Ofcom's numbers for drama
    r"|1234567890|(\d)\1{6}|^[01]+$"
)


def _is_secret(text: str) -> bool:
    return not _STAND_IN.search(text) and len(set(text)) >= 10


def _is_login(text: str) -> bool:
    host = text.rpartition("@")[2].partition(":")[0]
    nobody = _STAND_IN.search(text) or _STAND_IN_PASSWORD.search(text[: -len(host)])
    return not nobody and not _NAMES_OF_NOBODY.search(f"@{host}") and host != "127.0.0.1"


def _is_email(text: str) -> bool:
    return not _NAMES_OF_NOBODY.search(text)


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = _digits(text)
    return digits not in _TEST_CARDS and len(set(digits)) > 2 and _luhn(digits)


def _luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _is_ssn(text: str) -> bool:
    return text not in _VOID_SSNS


def _is_address(text: str) -> bool:
    try:
        if ":" in text:
            address = IPv6Address(text)
            return address in _UNICAST and address.is_global
        return IPv4Address(text).is_global
    except AddressValueError:
        return False


def _is_phone(text: str) -> bool:
    digits = _digits(text)
    most = 15 if text.startswith(("+", "00")) else 12
    named = 9 <= len(digits) <= most and not _DATE.search(text)
    return named and not _NUMBER_OF_NOBODY.search(digits)


def _digits(text: str) -> str:
    return "".join(re.findall("[0-9]", text))


_IBAN = "|".join(
    rf"{country}\d\d(?: ?[A-Z0-9]{{4}}){{{(length - 4) // 4}}} ?[A-Z0-9]{{{length % 4}}}"
    for country, length in _IBAN_LENGTHS.items()
)
_LONG_NUMBER = re.compile(r"\d(?:[ ()./-]{0,3}\d){8}")
_FINDERS = (
    _Finder(
        "private_key",
        re.compile("PRIVATE KEY"),
        re.compile(r"-----BEGIN (?:[A-Z]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
        bool,
    ),
    _Finder(
        "secret_key",
        re.compile(r"[_-][A-Za-z0-9]{8}|xox|AKIA|ASIA|AIza"),
        re.compile(
            r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{20,200}|[rs]k_live_[A-Za-z0-9]{16,200}"
            r"|hf_[A-Za-z0-9]{30,100}|gh[opusr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
            r"|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abeoprs]-[A-Za-z0-9-]{10,200}|AIza[A-Za-z0-9_-]{35}"
            r"|glpat-[A-Za-z0-9_-]{20,100}|npm_[A-Za-z0-9]{36})(?![A-Za-z0-9])"
        ),
        _is_secret,
    ),
    _Finder(
        "url_with_password",
        re.compile("://"),
        re.compile(
            r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@]{0,100}:[^\s/@]{1,200}@"
            r"[A-Za-z0-9.-]{1,253}(?::\d{1,5})?"
        ),
        _is_login,
    ),
    _Finder(
        "email",
        re.compile("@"),
        re.compile(
            r"(?<![\w.+%-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}"
            r"[A-Za-z]{2,24}(?![\w(-])"
        ),
        _is_email,
    ),
    _Finder(
        "iban",
        _LONG_NUMBER,
        re.compile(rf"(?<![A-Za-z0-9])(?=[A-Z]{{2}}\d\d)(?:{_IBAN})(?![A-Za-z0-9])"),
        _is_iban,
    ),
    _Finder(
        "credit_card",
        _LONG_NUMBER,
        re.compile(
            r"(?<![\w.-])(?:(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|35\d\d|6011|64[4-9]\d|65\d\d)"
            r"([ -]?)\d{4}\1\d{4}\1\d{4}|3[47]\d\d([ -]?)\d{6}\2\d{5}"
            r"|3(?:0[0-5]|[68]\d)\d([ -]?)\d{6}\3\d{4})(?![\w-]|\.\d)"
        ),
        _is_card,
    ),
    _Finder(
        "us_ssn",
        _LONG_NUMBER,
        re.compile(
            r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-]|\.\d)", re.ASCII
        ),
        _is_ssn,
    ),
    _Finder(
        "ip_address",
        re.compile(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"),
        re.compile(
            r"(?<![\w.:-])(?<!ersion )(?<!ersion: )(?<!ection )(?<!hapter )(?<!elease )"
            r"(?:(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"
            r"|(?=[0-9a-f]{1,4}:)[0-9a-f:]{6,39}(?![\w:-]))",
            re.ASCII | re.IGNORECASE,
        ),
        _is_address,
    ),
    _Finder(
        "phone",
        _LONG_NUMBER,
        re.compile(
            r"(?<![\w.+/:#$€£-])(?:"
            r"(?:\+|00)[1-9](?:[ .-]?\(?\d{1,4}\)?){2,8}"  # international
            r"|(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}"  # American
            r"|\(?0[1-9]\d{0,3}\)?[ /-]\d{2,8}(?:[ -]\d{2,8}){0,4}"  # national, with a leading 0
            r")(?![\w/:%-]|[.,]\d| ?[-\u2013+*/=\u00d7\u00f7^])"
        ),
        _is_phone,
    ),
)
