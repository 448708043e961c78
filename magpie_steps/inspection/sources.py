"""Where does a chat template come from, and what is it rendered with?"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from magpie_steps.markup import visible
from magpie_steps.templates import PreQueryTemplate

SUFFIXES = (".jinja", ".jinja2", ".j2")
"""How the name of a file with a chat template ends."""

SPECIAL_TOKENS = tuple(
    f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
)
"""What a tokenizer calls its special tokens, and a template too."""

_MAX_BYTES = 10_000_000
"""Size of a file that may be a chat template; real ones have less than 100 kB."""


@dataclass(frozen=True, slots=True)
class Source:
    """A chat template and what it is rendered with.

    Attributes:
        name: The model, folder or file, as it was asked for.
        chat_template: The Jinja text, or the name of one of the tokenizer's templates; `None` for
            the tokenizer's own.
        tokenizer: The model's tokenizer, `None` for a template alone.
        special_tokens: What a template alone may name.
        generation_config: The model's, as a dict.
        stand_ins: The special tokens that are not known and for which their names stand.
        now: The time that the template may print, the same however often it is derived.
    """

    name: str
    chat_template: str | None = None
    tokenizer: Any = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()
    now: datetime = field(default_factory=datetime.now)

    @property
    def named_templates(self) -> tuple[str, ...]:
        """The names of the tokenizer's templates; empty if it has none or a single one."""
        own = getattr(self.tokenizer, "chat_template", None)
        return tuple(sorted(own)) if isinstance(own, Mapping) else ()

    def derive(self, kwargs: Mapping[str, Any]) -> PreQueryTemplate:
        """Derive the template.

        Args:
            kwargs: Options of the template.

        Raises:
            ChatTemplateError: It cannot serve.
        """
        if self.tokenizer is None:
            return PreQueryTemplate.from_template(
                self.chat_template or "",
                self.special_tokens,
                chat_template_kwargs=kwargs,
                clock=self._clock,
            )
        return PreQueryTemplate.from_tokenizer(
            self.tokenizer,
            chat_template=self.chat_template,
            chat_template_kwargs=kwargs,
            clock=self._clock,
            generation_config=self.generation_config,
        )

    def _clock(self) -> datetime:
        return self.now


def read_source(
    model: str,
    *,
    chat_template: str | None = None,
    special_tokens: Mapping[str, str] | None = None,
    trust_remote_code: bool = False,
) -> Source:
    """Find a chat template; no weights are read or fetched.

    Args:
        model: A file with a template, a folder with a tokenizer, an embedded model's name, or a hub
            id.
        chat_template: A file with another template, or the name of one of the tokenizer's.
        special_tokens: Special tokens by name, such as `{"bos_token": "<s>"}`: those that a
            template alone is rendered with, or that a tokenizer does not say.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Raises:
        ValueError: There is nothing to read, or it cannot be read.
    """
    path = Path(model).expanduser()
    if path.suffix in SUFFIXES and not path.is_dir():
        if chat_template is not None:
            raise ValueError(
                f"{model!r} is a chat template itself; leave out the other one, {chat_template!r}"
            )
        return template_alone(model, _text_of(path), special_tokens or {})
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"{model!r} is neither a folder nor a chat template; give a folder with a tokenizer, a"
            f" hub id, or a template in a file that ends with {', '.join(SUFFIXES)}"
        )
    folder = _folder(model, trust_remote_code)
    tokenizer = _tokenizer(folder, model, trust_remote_code)
    _set_special_tokens(tokenizer, special_tokens or {})
    return Source(
        name=model,
        chat_template=None if chat_template is None else _chosen(tokenizer, chat_template),
        tokenizer=tokenizer,
        generation_config=_generation_config(folder),
    )


def template_alone(name: str, text: str, special_tokens: Mapping[str, str]) -> Source:
    """Return a template without a tokenizer.

    Args:
        name: What it is called.
        text: The Jinja text.
        special_tokens: The special tokens that are known. For the others that the text names, their
            names stand, as `<bos_token>`: undefined they would vanish from the prompt or break it.
    """
    named = [token for token in SPECIAL_TOKENS if re.search(rf"\b{token}\b", text)]
    missing = [token for token in named if token not in special_tokens]
    return Source(
        name=name,
        chat_template=text,
        special_tokens={**special_tokens, **{token: f"<{token}>" for token in missing}},
        stand_ins=tuple(missing),
    )


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; give the path of a chat template")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(
            f"{str(path)!r} is no chat template, since it has {path.stat().st_size:,} bytes; give a"
            " file with Jinja text"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} is no chat template, since it is not UTF-8 text ({error.reason} at byte"
            f" {error.start}); give a file with Jinja text"
        ) from error


def _folder(model: str, trust_remote_code: bool) -> Path:
    from magpie_steps.engines.model_files import TOKENIZER_FILES, find_tokenizer, folder_of

    folder = folder_of(model)
    if folder is None:
        return find_tokenizer(model, None, trust_remote_code=trust_remote_code)
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return folder
    templates = sorted(str(path) for suffix in SUFFIXES for path in folder.glob(f"*{suffix}"))
    other = f", or its template alone: {templates[0]}" if templates else ""
    raise ValueError(
        f"the folder {model!r} has no tokenizer; give one with {' or '.join(TOKENIZER_FILES[:3])}"
        f"{other}"
    )


def _tokenizer(folder: Path, model: str, trust_remote_code: bool) -> Any:
    from transformers.utils import logging

    from magpie_steps.engines.pretrained import load_tokenizer

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # what it says about bad files, the error says too
    try:
        return load_tokenizer(folder, model, trust_remote_code)
    except Exception as error:  # bad files make the libraries raise anything
        raise ValueError(_unreadable(error, folder, model, trust_remote_code)) from error
    finally:
        logging.set_verbosity(verbosity)


def _unreadable(error: Exception, folder: Path, model: str, trust_remote_code: bool) -> str:
    told = isinstance(error, ValueError)
    reason = str(error) if told else f"the tokenizer of {model!r} cannot be read: {error!r}"
    if not trust_remote_code and any(folder.glob("*.py")):
        remedy = "if you trust the Python code that comes with it, --trust-remote-code runs it"
    else:
        remedy = "the folder must hold what tokenizer.save_pretrained(folder) writes"
    return f"{visible(reason)}; {remedy}"


def _generation_config(folder: Path) -> dict[str, Any]:
    from magpie_steps.engines.pretrained import generation_config_of

    found = generation_config_of(folder)
    ids = found.get("eos_token_id")
    if not all(type(each) is int for each in (ids if isinstance(ids, list) else [ids or 0])):
        raise ValueError(
            f"eos_token_id in {str(folder / 'generation_config.json')!r} is {ids!r}; it must be a"
            " token id or a list of them"
        )
    return found


def _set_special_tokens(tokenizer: Any, given: Mapping[str, str]) -> None:
    vocabulary = tokenizer.get_vocab() if given else {}
    for name, text in given.items():
        if name not in SPECIAL_TOKENS:
            raise ValueError(
                f"a tokenizer has no special token {name!r}; it has {', '.join(SPECIAL_TOKENS)}"
            )
        if text not in vocabulary:
            raise ValueError(
                f"{name} cannot be {text!r}, which is no token of this tokenizer; look for it in"
                " tokenizer.json"
            )
        setattr(tokenizer, name, text)


def _chosen(tokenizer: Any, chat_template: str) -> str:
    """Return a template's text from a file, or the name of one of the tokenizer's."""
    own = tokenizer.chat_template
    names = sorted(own) if isinstance(own, Mapping) else []
    if chat_template in names:
        return chat_template
    path = Path(chat_template).expanduser()
    if path.is_file():
        return _text_of(path)
    raise ValueError(
        f"{chat_template!r} is neither a file nor one of the tokenizer's named chat templates; it"
        f" has {', '.join(map(repr, names)) or 'none'}"
    )
