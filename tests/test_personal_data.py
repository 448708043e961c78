"""Personal data in texts: found by form, shown masked, told from what stands for nobody."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magpie_steps.personal_data import KINDS, Found, _luhn, find, mask, masked

FOUND = {
    "email": [
        "jane.doe@acme-corp.co.uk",
        "j_doe+news@mail.acme.io",
        "JANE@ACME.COM",
        "write to <jane@acme.com>, please",
        "mailto:jane@acme.com.",
        "jane@acme.com\u202e",
    ],
    "phone": [
        "+44 20 7123 4567",
        "+4915112345679",
        "+49 (0)30 901820",
        "0049 30 901820",
        "+1-415-867-5309",
        "(415) 867-5309",
        "415-867-5309",
        "415.867.5309",
        "1-800-273-8255",
        "020 7123 4567",
        "030 901820",
        "030/1234 5678",
        "01 44 71 22 33",
        "Call 0171 2345678.",
    ],
    "ip_address": [
        "88.198.24.108",
        "at 88.198.24.108:8080",
        "2607:f8b0:4005:805::200e",
        "8.8.8.8.",
    ],
    "credit_card": [
        "4532015112830366",
        "4532 0151 1283 0366",
        "4532-0151-1283-0366",
        "card: 3714 496353 98001.",
        "5425 2334 3010 9903",
    ],
    "iban": [
        "DE75 5121 0800 1245 1261 99",
        "GB33BUKB20201555555555",
        "ES79 2100 0813 6101 2345 6789 THANK YOU",
        "NO93 8601 1117 947",
        "MT31MALT01100000000000000000123",
    ],
    "us_ssn": ["512-34-7890", "SSN: 001-01-0001."],
    "url_with_password": [
        "https://bob:hunter22@db.acme.io/x",
        "postgres://admin:s3cr3t@88.198.24.108:5432/app",
        "redis://:s3cr3t@cache.acme.io",
    ],
    "secret_key": [
        "sk-proj-9aKd83jfLq02mZx7Wq5tYb",
        "sk-abcdefghijklmnopqrstuvwxyz123456",
        "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",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "AKIA2E0A8F3B244C9986",
        "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOHcbrzqgy",
        "AIzaSyA1bC2dE3fG4hI5jK6lM7nO8pQ9rS0tU1v",
        "TOKEN='ghp_16C7e42F292c6912E7710c838347Ae178B4a'",
    ],
    "private_key": [
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    ],
}

NOTHING = [
    # dates, times, versions, sections
    *(
        "2024-01-15",
        "01-02-2024",
        "01/02/2024 10:30",
        "02-12-2024 14",
        "12:30:45",
        "1990-2000 2010",
    ),
    *("version 1.2.3.4", "Version: 1.2.3.4", "v1.2.3.4", "Python 3.11.4", "10.0.19041.1288"),
    *("see section 1.2.3.4", "numpy@1.26.0", "2024-01-15T10:30:00+02:00"),
    # numbers with other meanings
    *("ISBN 978-0-306-40615-7", "0-306-40615-2", "9780306406157", "1234567890123456"),
    *("d41d8cd98f00b204e9800998ecf8427e", "550e8400-e29b-41d4-a716-446655440000"),
    *("4532015112830367", "1,000,000,000", "3.14159265358979", "12345-6789", "1 234 567 890"),
    *("0101 0011 1010", "00 11 22 33", "x = 415 - 555 - 2671", "987-654-3210 - 5", "1234567890"),
    *("-----BEGIN PUBLIC KEY-----", "GB33BUKB20201555555556", "DE00 0000 0000 0000 0000 00"),
    *("000-12-3456", "666-12-3456", "912-34-5678", "123-00-4567", "123-45-0000", "1-123-45-6789"),
    # code
    *("std::vector<a::b>", "A@B.T", "@dataclass", "git@github.com:x/y.git", "https://a.io/@x:y"),
    # set aside for documentation, private, or for nobody
    *("user@example.com", "user@mail.example.org", "a@b.example", "root@localhost", "x@y.test"),
    *("you@yourdomain.com", "127.0.0.1", "192.168.1.10", "10.0.0.1", "172.16.3.4", "0.0.0.0"),
    *("192.0.2.17", "198.51.100.4", "203.0.113.9", "2001:db8::1", "fe80::1", "::1"),
    *("555-0123", "(212) 555-0147", "555-123-4567", "+1 212-555-0199", "+44 7700 900123"),
    *("4242 4242 4242 4242", "4111111111111111", "378282246310005", "0000 0000 0000 0000"),
    *(
        "078-05-1120",
        "http://user:pass@example.com",
        "ftp://u:p@localhost/",
        "https://localhost:80",
    ),
    *("https://username:password@host.io/x", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "AKIAIOSFODNN7EXAMPLE"),
    *("sk-your-secret-key-goes-here-1", "hf_" + "a" * 34),
    *("", " ", "\n", "\ud800", "no numbers at all"),
]

HOSTILE = {
    "letters": "a" * 50_000,
    "at": "a@" * 25_000,
    "dots": "x@" + "a." * 25_000,
    "dots and at": "a.a@a." * 8000,
    "digits": "9" * 50_000,
    "digit space": "1 " * 25_000,
    "zeros": "01 " * 17_000,
    "plus": "+1" * 25_000,
    "plus and spaces": "+1 " + "1 " * 25_000,
    "brackets": "+1(" * 17_000,
    "quads": "1." * 25_000,
    "colons": "1:" * 25_000,
    "hex": "a:b" * 17_000,
    "urls": "http://a:" * 6000,
    "scheme": "http" * 12_000 + "://",
    "ibans": "DE12 AB" * 7000,
    "keys": "-----BEGIN " * 5000,
    "key words": "BEGIN A A A A PRIVATE KEY " * 2000,
    "secrets": "sk-" * 17_000,
    "spaces": " " * 50_000,
    "many": "a@b.de 415-867-5309 " * 2500,
}


@pytest.mark.parametrize(("kind", "text"), [(k, t) for k, texts in FOUND.items() for t in texts])
def test_what_looks_like_personal_data_is_found(kind, text):
    assert [each.kind for each in find(text)] == [kind]
    assert [each.kind for each in find(f"Well, {text}\nand so on.")] == [kind]


@pytest.mark.parametrize("text", NOTHING)
def test_what_stands_for_nobody_is_not(text):
    assert find(text) == []


def test_every_kind_is_tried():
    assert set(FOUND) == set(KINDS)


def test_all_of_a_text_is_found_kind_by_kind():
    text = "\n".join(each[0] for each in FOUND.values())
    assert [each.kind for each in find(text)] == list(KINDS)
    assert [each.kind for each in find("a1@b.de, a2@b.de; a3@b.de")] == ["email"] * 3


def test_what_is_part_of_another_kind_is_not_found_twice():
    assert [each.kind for each in find("https://bob:hunter22@acme.io")] == ["url_with_password"]
    assert [each.kind for each in find("DE75 5121 0800 1245 1261 99")] == ["iban"]


@pytest.mark.parametrize("text", [text for texts in FOUND.values() for text in texts])
def test_nothing_is_shown_whole(text):
    for each in find(text):
        assert len(each.masked) <= 5
        assert each.masked not in text


def test_masks_show_the_ends():
    assert find("jane.doe@acme.com") == [Found("email", "ja…om")]
    assert masked("512-34-7890") == "5…0"


@given(st.text(alphabet="0123456789", min_size=1, max_size=18))
def test_the_check_digit_is_luhns(digits):
    """As ISO/IEC 7812 tells it, digit by digit from the right."""
    total = 0
    for place, digit in enumerate(reversed(digits + "0")):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    right = str(-total % 10)
    assert [last for last in "0123456789" if _luhn(digits + last)] == [right]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_takes_long(name):
    """Twice the text takes about twice the time: 50,000 characters a fraction of a second."""
    start = time.process_time()
    find(HOSTILE[name])
    assert time.process_time() - start < 1.0  # measured 0.02 at most


@given(st.text())
def test_any_text_can_be_searched(text):
    assert all(each.kind in KINDS for each in find(text))


def test_a_text_is_masked_where_something_is_found_and_nowhere_else():
    text = "Write to jane.doe@acme-corp.co.uk or user@example.com, not to version 1.2.3."
    assert mask(text) == text.replace(
        "jane.doe@acme-corp.co.uk", masked("jane.doe@acme-corp.co.uk")
    )
    assert mask("") == ""
