"""Where are a dataset's parquet files?"""

import re
from collections.abc import Iterable
from pathlib import Path

FETCHED = ("*.parquet", "README.md")
"""The files of a dataset on the Hub that are read: its rows, and the licence on its card."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def located(dataset: str) -> Path:
    """Return where a dataset is on this machine; one of the Hub is fetched first.

    Args:
        dataset: A parquet file, a folder, or a dataset's id on the Hub.

    Raises:
        FileNotFoundError: If there is no such dataset, or it cannot be fetched.
    """
    path = Path(dataset)
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(dataset):
        raise FileNotFoundError(
            f"there is no {dataset}; give a parquet file, a folder of them, or a dataset's id on"
            " the Hub such as Magpie-Align/Magpie-Pro-1M"
        )
    from huggingface_hub import snapshot_download  # slow, and only for the Hub

    try:
        return Path(snapshot_download(dataset, repo_type="dataset", allow_patterns=FETCHED))
    except OSError as error:
        raise FileNotFoundError(
            f"there is no file or folder {dataset} here, and from the Hub it cannot be fetched:"
            f" {error}"
        ) from None


def beside(dataset: str, name: str) -> Path:
    """Return where what is made of a dataset goes: beside it, or here if it is on the Hub.

    Args:
        dataset: The dataset.
        name: What is added to its name.
    """
    path = Path(dataset)
    if not path.exists():
        return Path(f"{path.name}-{name}")
    place = path.resolve()
    return place.with_name(f"{place.stem if place.is_file() else place.name}-{name}")


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

    A folder's are those in its folder ``data``, as in a dataset repository; without any there, its
    own; without any of its own, those in all folders below.

    Raises:
        FileNotFoundError: If there are none.
    """
    if path.is_file():
        return [path]
    for pattern in ("data/*.parquet", "*.parquet", "**/*.parquet"):
        found = [each for each in sorted(path.glob(pattern)) if not _hidden(each, path)]
        if found:
            return found
    raise FileNotFoundError(f"{path} has no parquet files; give a folder that has some")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
