"""How is a transformers model read from its folder?

Whatever can be wrong with a model's files is told in one sentence, as a `DistilabelUserError`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distilabel.errors import DistilabelUserError

from magpie_steps.engines.preflight import CONFIG_FILE

DEFAULT_LENGTH = 2048  # for models whose configuration names no limit
LONGEST_LINE = 300  # characters of an error of the library, some of which quote whole files

TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "tekken.json",
    "chat_template.jinja",
    CONFIG_FILE,
)
MODEL_FILES = (CONFIG_FILE, "generation_config.json", "model.safetensors")


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
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
        tokenizer.encode("Hi")  # some settings are only looked at here
        _check_template(tokenizer.chat_template)
    except Exception as exc:  # each parser of the library has errors of its own
        raise DistilabelUserError(
            f"the tokenizer of {model!r} cannot be loaded, {_blame(folder, TOKENIZER_FILES)}:"
            f" {_line(exc)}"
        ) from exc
    return tokenizer


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
    from transformers.utils import logging

    # In a forked process torch makes its pool of threads anew when it is first asked for, and the
    # loader would ask from several threads at once: then torch may find no pool.
    torch.set_num_threads(torch.get_num_threads())
    generation_config_of(folder)  # transformers would go on without one that is broken
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        loaded, found = auto.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            use_safetensors=None if trust_remote_code else True,
            output_loading_info=True,
        )
    except Exception as exc:  # each part of the library has errors of its own
        raise DistilabelUserError(
            f"the model {model!r} cannot be loaded, {_blame(folder, MODEL_FILES)}: {_line(exc)}"
        ) from exc
    finally:
        if bar:
            logging.enable_progress_bar()
    if missing := sorted(found.get("missing_keys", ())):
        raise DistilabelUserError(
            f"{model!r} is not a complete {kind}: its weights lack"
            f" {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
            f" (architectures: {loaded.config.architectures}); give weights and a"
            f" {CONFIG_FILE} that were saved as one model"
        )
    return loaded.eval()


def _line(error: Exception) -> str:
    """What an error of the library says, in one line that a person reads to its end."""
    said = " ".join(str(error).split())
    return f"{said[:LONGEST_LINE]} ..." if len(said) > LONGEST_LINE else said or repr(error)


def _check_template(given: object) -> None:
    """Check that a tokenizer has a chat template, several by name, or none."""
    named = given if isinstance(given, dict) else {"default": given or ""}
    if not all(isinstance(each, str) for item in named.items() for each in item):
        raise ValueError(f"chat_template is {given!r}, which is no text")


def _blame(folder: Path, names: Sequence[str]) -> str:
    """Where to look for a fault: in the first file that is no JSON object, else in all there."""
    there = [name for name in names if (folder / name).exists()]
    broken = [name for name in there if name.endswith(".json") and not _is_object(folder / name)]
    return f"{broken[0]} holds no JSON object" if broken else f"see {', '.join(there)}"


def _is_object(path: Path) -> bool:
    try:
        _object_in(path)
    except ValueError:
        return False
    return True


def choose_device(device: str) -> str:
    """The device itself, or for "auto" the first GPU when there is one, else the CPU."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def position_limit(config: Any) -> int:
    """Up to this length positions are known and do not depend on the longest row of a batch."""
    limit = getattr(config, "max_position_embeddings", None) or DEFAULT_LENGTH
    if limit < 0:
        raise DistilabelUserError(
            f"config.json says that max_position_embeddings is {limit}; give a positive number"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        # Beyond it the frequencies follow the longest row of the batch.
        original = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        limit = min(limit, original or limit)
    return int(limit)


def config_of(folder: Path, file: str = CONFIG_FILE) -> dict[str, Any]:
    """A folder's configuration as a dict, empty if it has none.

    Raises:
        DistilabelUserError: The file holds something else.
    """
    if not (folder / file).is_file():
        return {}
    try:
        return _object_in(folder / file)
    except ValueError as exc:
        raise DistilabelUserError(
            f"{folder / file} holds no JSON object ({_line(exc)}); take it from the model's"
            " repository again"
        ) from exc


def generation_config_of(folder: Path) -> dict[str, Any]:
    """A folder's generation config as a dict, empty if it has none.

    Raises:
        DistilabelUserError: The file holds something else, or end tokens that are no tokens.
    """
    file = "generation_config.json"
    found = config_of(folder, file)
    ids = found.get("eos_token_id") or []
    for each in ids if isinstance(ids, list) else [ids]:
        if not isinstance(each, int) or isinstance(each, bool) or each < 0:
            raise DistilabelUserError(
                f"{folder / file} has the eos_token_id {ids!r}; give a token's id or a list of them"
            )
    return found


def _object_in(path: Path) -> dict[str, Any]:
    """What a file of JSON holds.

    Raises:
        ValueError: It is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc
    if not isinstance(found, dict):
        raise ValueError(f"it begins with {str(found)[:20]!r}")
    return found
