"""Which model is this, and how is it prompted, without loading its weights?"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magpie_steps.engines.model_files import content_hash, find_tokenizer, folder_of

if TYPE_CHECKING:
    from magpie_steps.templates import PreQueryTemplate


def revision_of(model: str) -> str:
    """Return which version of a model is on this machine.

    Returns:
        Of a model of the hub its commit; of a folder the hash of what its files hold; "" if it is
        not here.

    Args:
        model: A folder, an embedded model's name, or a hub id.
    """
    folder = folder_of(model)
    if folder is not None:
        return f"files {content_hash(folder)}"
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return ""
    return f"commit {Path(found).parent.name}" if isinstance(found, str) else ""


def package_revision(package: str) -> str:
    """Return the version of a package that brings a model."""
    return f"{package} {version(package)}"


def template_of(model: str, trust_remote_code: bool = False, **options: Any) -> "PreQueryTemplate":
    """Return a model's pre-query template; only its tokenizer is read.

    Args:
        model: A folder, an embedded model's name, or a hub id.
        trust_remote_code: Whether code that comes with its tokenizer may run.
        options: What else `PreQueryTemplate.from_tokenizer` takes, such as `chat_template`.

    Raises:
        DistilabelUserError: It has no tokenizer or it cannot be fetched.
        ChatTemplateError: Its chat template cannot serve.
    """
    from magpie_steps.engines.pretrained import load_tokenizer
    from magpie_steps.templates import PreQueryTemplate

    folder = find_tokenizer(model, None, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(folder, model, trust_remote_code)
    return PreQueryTemplate.from_tokenizer(tokenizer, **options)
