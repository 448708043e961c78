"""How is a transformers model read from its folder?

Whatever can be wrong with a model's files is told in one sentence, as a `DistilabelUserError`.
"""

import json
from pathlib import Path
from typing import Any

from distilabel.errors import DistilabelUserError

from magpie_steps.engines.preflight import CONFIG_FILE

DEFAULT_LENGTH = 2048  # for models whose configuration names no limit


def load_tokenizer(folder: Path, model: str, trust_remote_code: bool) -> Any:
    """Read a folder's tokenizer.

    Args:
        folder: The folder with the files.
        model: The model's name for errors.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Raises:
        DistilabelUserError: It cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError) as exc:
        raise DistilabelUserError(f"the tokenizer of {model!r} cannot be loaded: {exc}") from exc


def load_weights(
    auto: Any, folder: Path, *, model: str, kind: str, dtype: str, trust_remote_code: bool
) -> Any:
    """Read a folder's model, ready to be evaluated on the CPU.

    Args:
        auto: The transformers class that makes the model, such as `AutoModelForCausalLM`.
        folder: The folder with the files.
        model: The model's name for errors.
        kind: What `auto` makes, for errors.
        dtype: The weights' type in memory; "auto" is the one that they are stored in.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        DistilabelUserError: It cannot be read, or its weights are those of another kind of model,
            to which transformers would give random parts and only warn.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    # In a forked process torch makes its pool of threads anew when it is first asked for, and the
    # loader would ask from several threads at once: then torch may find no pool.
    torch.set_num_threads(torch.get_num_threads())
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        loaded, found = auto.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as exc:
        raise DistilabelUserError(f"the model {model!r} cannot be loaded: {exc}") from exc
    finally:
        if bar:
            logging.enable_progress_bar()
    if missing := sorted(found.get("missing_keys", ())):
        raise DistilabelUserError(
            f"{model!r} is not a complete {kind}: its weights lack"
            f" {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
            f" (architectures: {loaded.config.architectures}); give a model that was saved as one"
        )
    return loaded.eval()


def choose_device(device: str) -> str:
    """The device itself, or for "auto" the first GPU when there is one, else the CPU."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def position_limit(config: Any) -> int:
    """Up to this length positions are known and do not depend on the longest row of a batch."""
    limit = getattr(config, "max_position_embeddings", None) or DEFAULT_LENGTH
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        # Beyond it the frequencies follow the longest row of the batch.
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        limit = min(limit, original or limit)
    return int(limit)


def config_of(folder: Path, file: str = CONFIG_FILE) -> dict[str, Any]:
    """A folder's configuration as a dict, empty if it has none that can be read."""
    try:
        found = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def generation_config_of(folder: Path) -> dict[str, Any]:
    """A folder's generation config as a dict, empty if it has none that can be read."""
    return config_of(folder, "generation_config.json")
