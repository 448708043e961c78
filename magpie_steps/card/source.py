"""What does the card in a dataset's folder say?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from magpie_steps.card.revision import section
from magpie_steps.markup import one_line

FAULTS = (ValueError, RecursionError, yaml.YAMLError, AttributeError, LookupError)
"""What PyYAML raises; the last two at a value that is not of its tag, as `!!bool x`."""

LICENCE = "Licence"
"""The title of the section that says what the licence asks for."""


@dataclass(frozen=True, slots=True)
class SourceCard:
    """The card of a dataset that rows are read from.

    Attributes:
        fields: Its front matter, {} without one.
        licence: What it says about the licence, in Markdown; "" for nothing.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""


def read_card(place: Path) -> SourceCard:
    """Return the card in a dataset's folder; one that says nothing if there is none.

    Args:
        place: The folder; a file has no card.

    Raises:
        OSError: If the card cannot be read.
        ValueError: If its text is not UTF-8 or its front matter is no YAML.
    """
    path = place / "README.md"
    if not path.is_file():
        return SourceCard()
    from huggingface_hub.repocard import metadata_load  # slow

    try:
        fields = metadata_load(path) or {}
        return SourceCard(fields, section(path.read_text(encoding="utf-8-sig"), LICENCE))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; correct it or move it away") from None
    except FAULTS as error:
        raise ValueError(
            f"the front matter of {path} is not valid YAML: {one_line(str(error))}; correct it or"
            " move the file away"
        ) from None
