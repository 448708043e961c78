"""Which recipe does somebody mean who gives a name or a file?"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from magpie_steps.recipes import Recipe, recipe_from_dict, recipe_named

MOST_BYTES = 2**18
"""How large a recipe's file may be; the largest of those that are published has 1 KB."""

MOST_VALUES = 10_000
"""How many values it may hold. One that anchors repeat counts each time: a few lines of them can
stand for more than a machine can hold."""

SHOWN_CHARACTERS = 400
"""How much of an error's beginning and end is shown: it may quote the whole file."""

FAULTS = (ValueError, yaml.YAMLError, AttributeError, LookupError)
"""What PyYAML raises at a text; the last two at one that is not of its tag, as `!!bool x`."""


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
        return recipe_from_dict(_parsed(_text(path)))
    except ValueError as error:
        raise ValueError(f"{path}: {_cut(str(error))}") from None


def _text(path: Path) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe may never end
        raise ValueError("it is no regular file; give a file with a recipe")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes; give a file with a recipe alone")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 ({error}); save it so") from None


def _parsed(text: str) -> Any:
    """Return what a YAML text holds.

    Raises:
        ValueError: It is no YAML, or holds more than a recipe can.
    """
    with _faults_told():
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    if node is None:
        return None
    _check(node)
    with _faults_told():
        return loader.construct_document(node)


@contextmanager
def _faults_told() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("it is nested too deeply; write it as a name and rules") from None
    except FAULTS as error:
        raise ValueError(f"it cannot be read as YAML: {error or type(error).__name__}") from None


def _check(node: Any) -> None:
    """Check that a text is not too much for a recipe, before it becomes values."""
    waiting, seen = [node], 0
    while waiting:
        node, seen = waiting.pop(), seen + 1
        if seen > MOST_VALUES:
            raise ValueError(
                f"it holds more than {MOST_VALUES:,} values, or one that holds itself; write it as"
                " a name and rules"
            )
        if isinstance(node, yaml.ScalarNode):
            _check_text(node.value)
            continue
        if isinstance(node, yaml.MappingNode):
            _check_keys([key.value for key, _ in node.value])
        waiting += [part for each in node.value for part in _parts(each)]


def _check_keys(keys: list[Any]) -> None:
    found = Counter(key for key in keys if isinstance(key, str))
    if twice := [key for key, times in found.items() if times > 1]:
        raise ValueError(f"it has {twice[0]!r} twice in one place; leave one out")


def _parts(inner: Any) -> Any:
    """Return the key and the value of a mapping's item, a list's item alone."""
    return inner if isinstance(inner, tuple) else (inner,)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} cannot be written as UTF-8; correct it") from None


def _cut(text: str) -> str:
    """Return a text without its middle if it is long."""
    if len(text) <= 2 * SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]} ... {text[-SHOWN_CHARACTERS:]}"
