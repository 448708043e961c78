"""What a card takes over from the card of the dataset that it was made of."""

import re

import pytest
import yaml

from magpie_steps.card.derived import derived_card
from magpie_steps.card.revision import section
from magpie_steps.card.source import SourceCard, read_card

CARD = """\
---
license: llama3.1
language:
- en
pretty_name: Mine
tags:
- mine
---

# Mine

```text
## Licence

Written by a model.
```

## Licence

Shows "Built with [Llama](https://llama.com)".

- a list

## Citation

None.
"""


def made(source, **changes):
    given = {"rows": 5, "configs": [{"config_name": "x"}], "counts": [("rows read", "5")]}
    return derived_card(
        "A title", ["About.", "", "## More\n\nText."], source, **{**given, **changes}
    )


def read(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return read_card(folder)


def parts(card):
    """Return a card's front matter and what is below it."""
    return re.split(r"^---\n", card, maxsplit=2, flags=re.MULTILINE)[1:]


def front(card):
    return yaml.safe_load(parts(card)[0])


def headings(card):
    return [line for line in parts(card)[1].splitlines() if re.match(r" {0,3}#", line)]


def test_the_licence_and_what_it_asks_for_are_taken_over(tmp_path):
    card = made(read(tmp_path, CARD))
    assert card.endswith(
        '## Licence\n\n> Shows "Built with [Llama](https://llama.com)".\n>\n> - a list\n'
    )
    assert front(card) == {
        "license": "llama3.1",
        "language": ["en"],
        "pretty_name": "A title",
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "magpie", "magpie-steps"],
        "configs": [{"config_name": "x"}],
    }
    assert "Written by a model" not in card
    assert headings(card) == ["# A title", "## More", "## Counts", "## Licence"]
    assert "| rows read | 5 |" in card


def test_a_card_of_a_card_of_a_card_says_the_same(tmp_path):
    once = made(read(tmp_path, CARD))
    twice = made(read(tmp_path, once))
    assert twice == once


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SourceCard({"license": "mit"}), "The licence is that of the source."),
        (SourceCard(), "The source names no licence: look up that of the models that wrote it."),
    ],
)
def test_a_source_that_says_nothing_of_what_its_licence_asks_for(tmp_path, source, said):
    card = made(source)
    assert card.endswith(f"## Licence\n\n{said}\n")
    assert made(read(tmp_path, card)).endswith(f"## Licence\n\n> {said}\n")


def test_a_hostile_source_stays_in_its_quotation(tmp_path):
    said = (
        "# Big\n````text\n   ## Counts\n---\n<details><script>x</script>\u202e\x07\n| a |\nZ\n---"
    )
    card = made(read(tmp_path, f"---\nlicense: mit\n---\n## Licence\n\n{said}\n"))
    quoted = card.split("## Licence\n\n")[1]
    assert all(line.startswith(">") for line in quoted.splitlines())
    assert headings(card) == ["# A title", "## More", "## Counts", "## Licence"]
    assert "\u202e" not in card
    assert "\x07" not in card
    assert front(card)["license"] == "mit"


def test_hostile_titles_and_counts_change_nothing():
    evil = "x\n---\nlicense: mit\n---\n# T | <b> \u202e"
    source = SourceCard({"license": evil, "language": [evil]})
    card = derived_card(evil, ["About."], source, rows=1, configs=[], counts=[(evil, evil)])
    assert headings(card)[1:] == ["## Counts", "## Licence"]
    assert "\n---\n" not in parts(card)[1]
    assert " <b>" not in parts(card)[1]
    assert front(card)["license"] == evil
    assert "\u202e" not in parts(card)[1]


def test_folders_without_a_card_and_files_have_none(tmp_path):
    (tmp_path / "a.parquet").touch()
    assert read_card(tmp_path) == read_card(tmp_path / "a.parquet") == SourceCard()


def test_a_card_from_another_system_is_read(tmp_path):
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf" + CARD.replace("\n", "\r\n").encode())
    found = read_card(tmp_path)
    assert found.fields["license"] == "llama3.1"
    assert found.licence.startswith("Shows")
    assert found.licence.endswith("- a list")


def test_a_section_ends_where_the_next_begins():
    assert section(CARD, "Citation") == "None."
    assert section(CARD, "Nothing") == ""
    assert section("## A\n\n```\n## B\n```\n", "A") == "```\n## B\n```"
    assert section("", "A") == ""
