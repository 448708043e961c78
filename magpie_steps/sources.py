"""Where are a dataset's parquet files?"""

import re
from pathlib import Path

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
        return Path(snapshot_download(dataset, repo_type="dataset", allow_patterns="*.parquet"))
    except OSError as error:
        raise FileNotFoundError(
            f"there is no file or folder {dataset} here, and from the Hub it cannot be fetched:"
            f" {error}"
        ) from None


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
