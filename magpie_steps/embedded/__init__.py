"""The tiny models that ship with the package."""

from importlib.resources import files
from pathlib import Path

MODEL_NAMES = ("tiny-instruct", "tiny-base", "tiny-reward")
"""A chat model, the base model that it was tuned from, a reward model for its answers."""


def model_path(name: str) -> Path:
    """The folder of an embedded model, as transformers loads it.

    Args:
        name: One of `MODEL_NAMES`.

    Raises:
        ValueError: The name is not one of `MODEL_NAMES`.
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"no embedded model is named {name!r}; there are {', '.join(MODEL_NAMES)}")
    return Path(str(files(__package__))) / "models" / name
