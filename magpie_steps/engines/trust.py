"""Whose code runs when a model is read?

A model's folder may bring Python code, named by its configuration, and weights in Python's pickle
format, which can run code too. Neither is touched unless `trust_remote_code` says so.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OF_SENTENCE_TRANSFORMERS = "sentence_transformers."
"""How the classes begin that are the library's own in a `modules.json`."""

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

_logger = logging.getLogger(__name__)


def check_code(folder: Path, model: str, trust_remote_code: bool) -> None:
    """Check that no code of a model's own would run which nobody has said to trust.

    Code that its configuration names and that is not in the folder does not run either way: the
    libraries then take their own, or refuse the model.

    Args:
        folder: The model's folder.
        model: Its name, for errors.
        trust_remote_code: Whether its code may run.

    Raises:
        ValueError: If there is such code.
    """
    if trust_remote_code:
        _logger.warning(
            f"trust_remote_code is on: code that comes with {model!r} runs with your rights"
        )
    elif named := sorted(set(_own_code(folder))):
        raise ValueError(
            f"the model {model!r} brings Python code of its own ({', '.join(named)}); read it, and"
            " if you trust it set trust_remote_code=True (--trust-remote-code), or take its names"
            " out of the model's JSON files if it is not needed"
        )


def check_weights(folder: Path, model: str, trust_remote_code: bool) -> None:
    """Check that a model's weights are safetensors, which hold numbers alone.

    Args:
        folder: The model's folder.
        model: Its name, for errors.
        trust_remote_code: Whether what comes with it is trusted, so that pickles will do.

    Raises:
        ValueError: If weights are only there as a pickle.
    """
    if trust_remote_code:
        return
    for place in (folder, *_module_folders(folder)):
        pickles = sorted(path.name for path in place.glob("*") if path.suffix in PICKLED)
        if pickles and not any(place.glob("*.safetensors")):
            raise ValueError(
                f"the weights of the model {model!r} are a pickle ({pickles[0]}), which can run"
                " code when it is read; take a revision with model.safetensors, save it again with"
                " save_pretrained(folder), or if you trust it set trust_remote_code=True"
                " (--trust-remote-code)"
            )


def _own_code(folder: Path) -> Iterator[str]:
    """Yield the classes that a model's files take from code in its folder."""
    for path in (*folder.glob("*config.json"), *folder.glob("*/*config.json")):
        content = _content(path)
        classes = content.get("auto_map") if isinstance(content, Mapping) else None
        for name in _texts(classes):
            module = name.partition(".")[0]
            if any((place / f"{module}.py").is_file() for place in (path.parent, folder)):
                yield name
    kinds = (kind for kind, _ in _modules(folder))
    yield from (kind for kind in kinds if not kind.startswith(OF_SENTENCE_TRANSFORMERS))


def _module_folders(folder: Path) -> list[Path]:
    """Return the folders of a sentence-transformers model's parts."""
    return [folder / path for _, path in _modules(folder)]


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the class and the folder of each part of a sentence-transformers model."""
    content = _content(folder / "modules.json")
    for module in content if isinstance(content, list) else ():
        if isinstance(module, Mapping):
            yield str(module.get("type", "")), str(module.get("path", ""))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in lists and mappings, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # told by what reads the file in earnest
