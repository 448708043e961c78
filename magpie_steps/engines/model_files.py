"""Where are a model's files, and what are they?"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from distilabel.errors import DistilabelUserError

from magpie_steps.certificates import with_remedy
from magpie_steps.embedded import EMBEDDER, MODEL_NAMES, embedder_path, model_path
from magpie_steps.engines.preflight import CONFIG_FILE, check_model
from magpie_steps.engines.tracebacks import hide_variables
from magpie_steps.engines.trust import check_code, check_weights
from magpie_steps.redaction import redacted

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
TEXT_PATTERNS = ("*.json", "*.jinja", "*.model", "*.txt")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)

WHOLE_FILE_BYTES = 64 * 2**20
"""Weight files up to this size are hashed whole; of larger ones `SAMPLES` blocks, spread evenly."""

SAMPLES = 64
SAMPLE_BYTES = 64 * 2**10

hide_variables()


def find_model(model: str, revision: str | None, trust_remote_code: bool) -> Path:
    """The folder with a model's files: itself if it is a folder, else fetched from the hub.

    Args:
        model: a folder, an embedded model's name, or a hub id.
        revision: branch, tag or commit on the hub.
        trust_remote_code: let what comes with the model run code: its Python files, and pickled
            weights if it is a folder.

    Raises:
        DistilabelUserError: there is no such folder, something is missing in it, the hub did not
            give it, or it brings code that is not trusted.
    """
    patterns = [*TEXT_PATTERNS, "*.safetensors"]
    folder = find_tokenizer(model, revision, patterns, trust_remote_code=trust_remote_code)
    if not weight_files(folder):
        raise DistilabelUserError(
            f"the model {model!r} has no weights: no file ends with {WEIGHT_SUFFIXES[0]}, and of a"
            " model on the hub no others are fetched; give one that has such files"
        )
    try:
        check_weights(folder, model, trust_remote_code)
    except ValueError as exc:
        raise DistilabelUserError(str(exc)) from exc
    return folder


def find_tokenizer(
    model: str,
    revision: str | None,
    patterns: Sequence[str] = TEXT_PATTERNS,
    *,
    trust_remote_code: bool = False,
) -> Path:
    """The folder with a model's configuration and tokenizer, with or without its weights.

    Args:
        model: a folder, an embedded model's name, or a hub id.
        revision: branch, tag or commit on the hub.
        patterns: which files to fetch from the hub, besides Python code that is trusted.
        trust_remote_code: let Python code that comes with the model run.

    Raises:
        DistilabelUserError: there is no such folder, it has no tokenizer, the hub did not give it,
            or it brings code that is not trusted.
    """
    code = ["*.py"] if trust_remote_code else []
    try:
        check_model(model, chat_template="", trust_remote_code=trust_remote_code)
        folder = folder_of(model)
        if folder is None:
            folder = _fetch(model, revision, [*patterns, *code])
            check_code(folder, model, trust_remote_code)
    except ValueError as exc:
        raise DistilabelUserError(str(exc)) from None
    if not (folder / CONFIG_FILE).is_file():
        raise DistilabelUserError(f"the model {model!r} has no {CONFIG_FILE}")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise DistilabelUserError(
            f"the model {model!r} has no tokenizer; save one beside the weights with"
            " tokenizer.save_pretrained(folder)"
        )
    return folder


def folder_of(model: str) -> Path | None:
    """The folder of a model that needs no fetching: a folder's own or an embedded model's."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model == EMBEDDER:
        return embedder_path()
    return model_path(model) if model in MODEL_NAMES else None


def weight_files(folder: Path) -> list[Path]:
    """The files with a model's weights: safetensors if there are some, else older formats."""
    for suffix in WEIGHT_SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if found:
            return found
    return []


def content_hash(folder: Path) -> str:
    """16 hexadecimal digits for configuration, tokenizer and weights, wherever the folder is."""
    digest = sha256()
    small = {path for pattern in TEXT_PATTERNS for path in folder.glob(pattern)}
    for path in sorted(small) + weight_files(folder):
        if path.is_file():
            digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
            _hash_file(path, digest.update)
    return digest.hexdigest()[:16]


def _hash_file(path: Path, update: Callable[[bytes], None]) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_FILE_BYTES:
            while block := file.read(2**20):
                update(block)
            return
        for sample in range(SAMPLES):
            file.seek(sample * (size - SAMPLE_BYTES) // (SAMPLES - 1))
            update(file.read(SAMPLE_BYTES))


def _fetch(model: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import get_token, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        line = redacted(str(exc), get_token() or "").strip().partition("\n")[0]
        reason = with_remedy("".join(filter(str.isprintable, line)))  # it repeats the name as it is
        raise DistilabelUserError(
            f"{model!r} is no folder here and could not be fetched from the hub ({reason}); check"
            " the name, log in with `hf auth login` if it is gated, or give a folder that holds the"
            " model"
        ) from None  # which repeats what the hub said
