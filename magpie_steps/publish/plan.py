"""What has to change in a repository on the Hub so that it holds what a folder holds?"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CARD = "README.md"

SIGNS: Mapping[str, tuple[str, str]] = {
    "run.json": ("title", "settings"),
    "filter.json": ("dataset", "recipe"),
    "export.json": ("dataset", "schema"),
}
"""The file that every output has, with what of its content tells one dataset from another."""

_GROWING = "num_rows"
"""The setting that may differ between two states of one dataset."""

_OURS = re.compile(
    r"[^/]+/train-\d{5,}-of-\d{5,}\.parquet|figures/[^/]+\.png|report\.html|pipeline\.yaml|review\.json"
)
"""Files that an earlier push may have brought; others were put there by hand."""

_KEPT = frozenset({".gitattributes"})
"""What the Hub itself puts into every repository."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset repository on disk.

    Attributes:
        folder: Where it is.
        files: What is to be on the Hub: size in bytes by path below the folder.
        sign: The file of `SIGNS` that it has.
        identity: What tells it from other datasets, see `identity`.
    """

    folder: Path
    files: Mapping[str, int]
    sign: str
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that the Hub has.

    Attributes:
        size: Bytes.
        blob: The content's id in git.
        sha256: The content's SHA-256 if it is stored apart from git (LFS, Xet), else "".
    """

    size: int
    blob: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one commit or several bring.

    Attributes:
        added: Files to send: new ones and those with another content.
        deleted: Files to delete.
    """

    added: Sequence[str] = ()
    deleted: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.added) + len(self.deleted)


def read_dataset(folder: Path) -> Dataset:
    """Return what a folder would bring to the Hub: all its files but hidden ones.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is not the output of a run, a filter or an export.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the output folder of a run")
    sign = next((name for name in SIGNS if (folder / name).is_file()), "")
    if not sign or not (folder / CARD).is_file():
        missing = CARD if sign else f"none of {', '.join(SIGNS)}"
        raise ValueError(
            f"{folder} is no dataset repository: it has {'no ' if sign else ''}{missing}; give the"
            " output folder of a run, a filter or an export"
        )
    try:
        own = identity(sign, (folder / sign).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{folder / sign} cannot be used: {error}; run again what wrote it"
        ) from None
    return Dataset(folder, dict(_sizes(folder)), sign, own)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; write it again") from None


def identity(sign: str, text: str) -> dict[str, str]:
    """Return what tells one dataset from another, each value as JSON.

    The number of rows is no part of it: more rows of the same settings extend a dataset.

    Args:
        sign: The file of `SIGNS` that says it.
        text: The file's content.

    Raises:
        ValueError: If the content says no such thing.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    names = SIGNS[sign]
    if not isinstance(content, dict) or not all(name in content for name in names):
        raise ValueError(f"it lacks {' or '.join(names)}")
    return dict(_flat({name: content[name] for name in names}))


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if name == "settings" and isinstance(value, dict):
            yield from _flat({key: each for key, each in value.items() if key != _GROWING})
        else:
            yield name, json.dumps(value, sort_keys=True)


def check_replaceable(
    dataset: Dataset, repo_id: str, stored: Collection[str], there: Mapping[str, str]
) -> None:
    """Check that a repository is empty or has an earlier state of the dataset.

    Args:
        dataset: What is to be there.
        repo_id: The repository.
        stored: The paths of its files.
        there: What its file of the same sign says, empty if it has none of ours.

    Raises:
        ValueError: If it holds something else.
    """
    found = sorted(set(stored) - _KEPT)
    if not found or there == dataset.identity:
        return
    raise ValueError(
        f"{repo_id} holds something else: {_difference(dataset, found, there)}; give another id,"
        " or --replace (replace=True) to delete everything there"
    )


def _difference(dataset: Dataset, found: Sequence[str], there: Mapping[str, str]) -> str:
    here = dataset.identity
    if not there:
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return f"{found[0]!r}{others}, and no {dataset.sign} of this dataset"
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    told = [f"{name} is {_cut(there, name)} there, {_cut(here, name)} here" for name in names[:3]]
    return f"by its {dataset.sign}, {', '.join(told)}"


def _cut(values: Mapping[str, str], name: str) -> str:
    value = values.get(name, "not set")
    return value if len(value) <= 60 else f"{value[:57]}..."


def changes(dataset: Dataset, stored: Mapping[str, Stored], replace: bool) -> Changes:
    """Return what has to be sent and deleted.

    Args:
        dataset: What is to be there.
        stored: What is there, by path.
        replace: Whether files that no push brought are deleted too.
    """
    gone = stored.keys() - dataset.files.keys() - _KEPT
    return Changes(
        added=[path for path in dataset.files if not _is_stored(dataset, path, stored.get(path))],
        deleted=sorted(path for path in gone if replace or _OURS.fullmatch(path)),
    )


def commits(wanted: Changes, longest: int) -> list[Changes]:
    """Divide changes into commits, one if they are few enough.

    With more, the dataset's sign comes first, so that what is there is known as the dataset's when
    the push is cut short, and the card last, together with what is deleted.

    Args:
        wanted: The changes.
        longest: How many changes a commit may have.
    """
    if len(wanted) <= longest:
        return [wanted] if wanted else []
    files = sorted((path for path in wanted.added if path != CARD), key=_sign_first)
    parts = [Changes(files[at : at + longest]) for at in range(0, len(files), longest)]
    last = Changes([path for path in wanted.added if path == CARD], wanted.deleted)
    return [*parts, *([last] if last else [])]


def _sign_first(path: str) -> tuple[bool, str]:
    return path not in SIGNS, path


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(map(_is_private, name.split("/"))):
            if not name.isprintable():
                raise ValueError(f"the file name {name!r} cannot be sent; rename the file")
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    f"{path} is a link to a file outside the folder, which is not sent; put the"
                    " file itself there or remove the link"
                )
            yield name, path.stat().st_size


def _is_private(part: str) -> bool:
    return part.startswith(".") or part.endswith(".work")


def _is_stored(dataset: Dataset, path: str, there: Stored | None) -> bool:
    """Return whether the Hub has a file already; one of another size is not read."""
    if there is None or there.size != dataset.files[path]:
        return False
    if there.sha256:
        return _digest("sha256", dataset.folder / path, b"") == there.sha256
    head = b"blob %d\0" % there.size  # what git puts before a content to tell its id
    return _digest("sha1", dataset.folder / path, head) == there.blob


def _digest(kind: str, path: Path, head: bytes) -> str:
    digest = hashlib.new(kind, head, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()
