"""Which recipe does somebody mean who gives a name or a file?"""

from pathlib import Path

import yaml

from magpie_steps.recipes import Recipe, recipe_from_dict, recipe_named


def recipe_given(given: str) -> Recipe:
    """Return the recipe with a name, or the one that a YAML file holds.

    Args:
        given: One of `RECIPES`, or the path of a file that ends in ``.yaml`` or ``.yml``.

    Raises:
        ValueError: There is no such recipe, or the file holds none.
        OSError: The file cannot be read.
    """
    path = Path(given)
    if path.suffix not in (".yaml", ".yml"):
        return recipe_named(given)
    try:
        return recipe_from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from None
