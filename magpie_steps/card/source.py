"""What does a card take from the card of the dataset that its rows are from?"""

from pathlib import Path
from typing import Any

import yaml

from magpie_steps.markup import one_line

FROM_SOURCE = ("license", "license_name", "license_link", "language")
"""The fields of the front matter that hold for a part of the rows as well."""


def source_fields(place: Path) -> dict[str, Any]:
    """Return the fields of the card in a dataset's folder that are taken over, {} without a card.

    Raises:
        ValueError: If its front matter is no YAML.
    """
    from huggingface_hub.repocard import metadata_load  # slow

    path = place / "README.md"
    if not path.is_file():
        return {}
    try:
        found = metadata_load(path) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"the front matter of {path} is not valid YAML, so the licence there cannot be read:"
            f" {one_line(str(error))}; correct it or move the file away"
        ) from None
    return {name: found[name] for name in FROM_SOURCE if name in found}
