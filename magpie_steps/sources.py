"""Where are a dataset's parquet files?"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from magpie_steps.card.source import read_card
from magpie_steps.certificates import with_remedy
from magpie_steps.redaction import redacted

FETCHED = ("*.parquet", "README.md")
"""The files of a dataset on the Hub that are read: its rows, and the licence on its card."""

USUAL = ("data/*.parquet", "*.parquet", "filtered/*.parquet", "**/*.parquet")
"""Where files are if no card says it: the first place that has some counts."""

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def located(dataset: str) -> Path:
    """Return where a dataset is on this machine; one of the Hub is fetched first.

    Args:
        dataset: A parquet file, a folder, or a dataset's id on the Hub.

    Raises:
        FileNotFoundError: If there is no such dataset, or it cannot be fetched.
        ValueError: If the Hub's address may not be asked.
    """
    path = Path(dataset)
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(dataset):
        raise FileNotFoundError(
            f"there is no {dataset}; give a parquet file, a folder of them, or a dataset's id on"
            " the Hub such as Magpie-Align/Magpie-Pro-1M"
        )
    from huggingface_hub import (
        constants,
        get_token,
        snapshot_download,
    )  # slow, and only for the Hub
    from huggingface_hub.errors import HFValidationError

    from magpie_steps.publish.client import check_address

    check_address(constants.ENDPOINT)
    try:
        return Path(snapshot_download(dataset, repo_type="dataset", allow_patterns=FETCHED))
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no file or folder {dataset} here, and from the Hub it cannot be fetched:"
            f" {with_remedy(redacted(str(error), get_token() or ''))}"
        ) from None


def beside(dataset: str, name: str) -> Path:
    """Return where what is made of a dataset goes: beside it, or here if it is on the Hub.

    Args:
        dataset: The dataset.
        name: What is added to its name.
    """
    path = Path(dataset)
    whole = f"{title_of(dataset)}-{name}"
    return path.resolve().with_name(whole) if path.exists() else Path(whole)


def title_of(dataset: str) -> str:
    """Return what a dataset is called: as its folder, its file less the ending, or on the Hub."""
    path = Path(dataset)
    place = path.resolve() if path.exists() else path
    return place.stem if place.is_file() else place.name


def shown(dataset: str) -> str:
    """Return a dataset's name without its place on this machine."""
    path = Path(dataset)
    return path.resolve().name if path.exists() else dataset


def check_outside(paths: Iterable[Path], folder: Path) -> None:
    """Check that files that are read are not in the folder that is written.

    Raises:
        ValueError: If one is.
    """
    inside = [path for path in paths if path.resolve().is_relative_to(folder.resolve())]
    if inside:
        raise ValueError(f"{inside[0]} is in {folder}, the output folder; choose another folder")


def parquet_files(path: Path) -> list[Path]:
    """Return a dataset's parquet files in order.

    A folder's are those of the default configuration in the front matter of its card: the one that
    is marked so or has that name, or the only one. Without any, they are in the first of `USUAL`.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If the card cannot be read, or names files that are not in the folder.
    """
    if path.is_file():
        return [path]
    for patterns in (_default_patterns(path), *((usual,) for usual in USUAL)):
        if found := _matching(path, patterns):
            return found
    raise FileNotFoundError(f"{path} has no parquet files; give a folder that has some")


def _default_patterns(folder: Path) -> list[str]:
    """Return the files of the card's default configuration, [] if it names none."""
    patterns = list(_patterns(_default_config(read_card(folder).fields.get("configs"))))
    for pattern in patterns:
        place = PurePosixPath(pattern)
        # A card from the Hub is anyone's, and what it names is read.
        if "://" in pattern or place.is_absolute() or ".." in place.parts:
            raise ValueError(
                f"the front matter of {folder / 'README.md'} names {pattern!r}, which is not in"
                " that folder; correct it or give the parquet files"
            )
    return patterns


def _default_config(configs: Any) -> Mapping[str, Any]:
    """Return the configuration that opens without a name, {} if the card does not say it."""
    known = [each for each in configs if isinstance(each, Mapping)] if _is_list(configs) else []
    marked = [each for each in known if each.get("default") is True]
    named = [each for each in known if each.get("config_name") == "default"]
    return next(iter([*marked, *named, *(known if len(known) == 1 else ())]), {})


def _patterns(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the patterns of a configuration's files, as paths below the dataset's folder."""
    inside = config.get("data_dir")
    inside = inside if isinstance(inside, str) else ""
    for pattern in _named(config.get("data_files", "**" if inside else None), set()):
        yield f"{inside.rstrip('/')}/{pattern}" if inside else pattern


def _named(files: Any, seen: set[int]) -> Iterator[str]:
    """Yield patterns: one, several, or by split.

    A few lines of YAML can repeat a list a billion times; each is gone through once.
    """
    if isinstance(files, str):
        yield files
    elif id(files) not in seen:
        seen.add(id(files))
        parts = [files.get("path")] if isinstance(files, Mapping) else files
        for each in parts if _is_list(parts) else ():
            yield from _named(each, seen)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the parquet files that match one of the patterns, in the patterns' order."""
    root = folder.resolve()
    found = (path for pattern in patterns for path in _glob(folder, pattern))
    return [
        path
        for path in dict.fromkeys(found)
        if path.suffix == ".parquet"
        and path.is_file()
        and not _hidden(path, folder)
        and path.parent.resolve().is_relative_to(root)
    ]


def _glob(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern in which ``**`` may also stand for files or within a name."""
    parts = [p if p == "**" else p.replace("**", "*") for p in PurePosixPath(pattern).parts]
    if parts[-1:] == ["**"]:
        parts.append("*")
    return sorted(folder.glob("/".join(parts))) if parts else []


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
