"""Which prompts does a dataset hold, whatever form it has?"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from magpie_steps.sources import located, parquet_files, title_of

COLUMNS = (
    *("instruction", "prompt", "question", "problem", "query"),
    *("conversations", "conversation", "messages", "turns", "input", "text"),
)
"""Where prompts are looked for, without regard to case: a row's prompt is in the first of these
that holds one, as a text or as the first user message of a conversation."""

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt")
"""The files that are read; a .txt has one prompt a line, a .json is a list or JSON lines."""

_USERS = ("user", "human")
_BATCH_ROWS = 1000
_FIELD_CHARACTERS = 2**24
"""How long a field of a .csv may be; Python's own limit of 2**17 is less than a long prompt."""

Row = Mapping[str, Any]


def named(datasets: Iterable[str]) -> dict[str, str]:
    """Return datasets by a name each: its own, with its folder's before it if two are alike."""
    given = list(dict.fromkeys(datasets))
    found: dict[str, str] = {}
    for each in given:
        names = _names(each)
        others = [name for other in given if other != each for name in _names(other)]
        found[next((name for name in names if name not in others), each)] = each
    return found


def _names(dataset: str) -> list[str]:
    """Return what a dataset may be called, the shortest first."""
    path = Path(dataset)
    if not path.exists():
        return [dataset]
    name = title_of(dataset)
    return [name, f"{path.resolve().parent.name}/{name}"]


def prompts_of(dataset: str) -> Iterator[str]:
    """Yield the prompt of each row of a dataset, "" for a row without one.

    Args:
        dataset: A file with one of `SUFFIXES`, a folder of such files, or an id on the Hub.

    Raises:
        FileNotFoundError: If there is no such dataset, or a folder has no such files.
        ValueError: If a file cannot be read, or no row has a prompt.
    """
    found, columns = False, dict[str, None]()
    for path in files_of(dataset):
        for row in _rows(path):
            prompt = prompt_of(row)
            found = found or bool(prompt)
            columns |= {} if found else dict.fromkeys(map(str, row))
            yield prompt
    if not found:
        raise ValueError(
            f"{dataset} has no prompts; its columns are {', '.join(columns) or 'none'}; rename the"
            f" one with the prompts to one of {', '.join(COLUMNS)}"
        )


def files_of(dataset: str) -> list[Path]:
    """Return a dataset's files: the parquet files if a folder has some, else all that can be read.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If it is a file of another kind.
    """
    path = located(dataset)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} cannot be read; give a file that ends in {_or(SUFFIXES)}")
        return [path]
    try:
        return parquet_files(path)
    except FileNotFoundError:
        files = [each for each in sorted(path.iterdir()) if each.suffix.lower() in SUFFIXES]
    if not files:
        raise FileNotFoundError(f"{path} has no files that end in {_or(SUFFIXES)}; give another")
    return files


def prompt_of(row: Row) -> str:
    """Return a row's prompt, "" if it has none."""
    lower = {str(name).casefold(): value for name, value in row.items()}
    texts = (_text(lower.get(name)) for name in COLUMNS)
    return next((text for text in texts if text.strip()), "")


def _text(value: Any) -> str:
    """Return a text, or the first user message of a conversation, "" for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        return ""
    if value and isinstance(value[0], str):
        return value[0]  # the user's turns alone, as in MT-Bench
    messages = [message for message in value if isinstance(message, Mapping)]
    first = next((m for m in messages if m.get("role", m.get("from", "user")) in _USERS), {})
    return _content(first.get("content", first.get("value")))


def _content(value: Any) -> str:
    """Return a message's text, also of parts as in OpenAI's messages; pictures have none."""
    if not isinstance(value, list | tuple):
        return value if isinstance(value, str) else ""
    texts = (part.get("text") for part in value if isinstance(part, Mapping))
    return "\n".join(text for text in texts if isinstance(text, str))


def _rows(path: Path) -> Iterator[Row]:
    """Yield a file's rows."""
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _parquet_rows(path)
    return _text_rows(path, kind)


def _text_rows(path: Path, kind: str) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="" if kind in (".csv", ".tsv") else None) as f:
            if kind == ".txt":
                yield from ({"text": line} for line in f if line.strip())
            elif kind in (".csv", ".tsv"):
                csv.field_size_limit(_FIELD_CHARACTERS)
                yield from csv.DictReader(f, delimiter="," if kind == ".csv" else "\t")
            elif kind == ".json" and f.read(1).strip() in ("", "["):
                f.seek(0)
                yield from map(_as_row, json.load(f))
            else:
                f.seek(0)
                yield from (_as_row(json.loads(line)) for line in f if line.strip())
    except (ValueError, csv.Error, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as {kind[1:]}: {error}; give a file in UTF-8 that ends in"
            f" {_or(SUFFIXES)}"
        ) from None


def _as_row(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {"text": value}


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
            wanted = [name for name in present if name.casefold() in COLUMNS]
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted or present[:1]):
                # All columns' names are told if none of them holds prompts.
                yield from batch.to_pylist() if wanted else [dict.fromkeys(present)] * len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}; give another") from None


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
