"""Pushes in a process of their own, as `huggingface_hub` reads its settings when it is imported.

As a script: ``push REQUEST`` brings a folder to the Hub and ``load REPO OUT`` reads every
configuration back.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[1]

HOSTILE = "---\nlicense: x\n---\n<script>alert(1)</script> | a ``` b \u202e </details> \u2028 é"
"""What a model may write."""

SECRET = "hf_SECRET"
"""What every token begins with, and nothing else has."""

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class Done:
    """A finished push.

    Attributes:
        code: 0, 2 for a wrong request, 3 for a Hub that does not take it.
        out: What it said, with its result as JSON in the last line.
        err: The error.
    """

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out.splitlines()[-1])


def environment(url: str, home: Path, token: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
    }
    given = {"HF_TOKEN": token} if token else {}
    return {**kept, **own, **given, **more}


def started(folder: Path, repo_id: str, env: Mapping[str, str], **options: Any) -> Any:
    """Start a push; `options` are those of `push`, or settings by "module:NAME"."""
    request = json.dumps({"folder": str(folder), "repo_id": repo_id, "options": options})
    return subprocess.Popen(
        [sys.executable, __file__, "push", request],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(env),
    )


def pushed(folder: Path, repo_id: str, env: Mapping[str, str], **options: Any) -> Done:
    """Push, and look for the token in all that is said and written."""
    return finished(started(folder, repo_id, env, **options), folder, env)


def finished(process: Any, folder: Path, env: Mapping[str, str]) -> Done:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    home = Path(env["HF_HOME"])
    written = [path for place in (folder, home) for path in place.rglob("*") if path.is_file()]
    for path in written:
        assert path == home / "token" or SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in out + err
    return Done(process.returncode, out, err)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what is to be on the Hub."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def loaded(repo_id: str, folder: Path, env: Mapping[str, str], *configs: str) -> dict[str, str]:
    """Return each configuration's rows as `load_dataset` gives them, see `rows_of`."""
    folder.mkdir()
    subprocess.run(
        [sys.executable, __file__, "load", repo_id, str(folder), *configs],
        check=True,
        env=dict(env),
        timeout=240,
    )
    return {name: rows_of(folder / name) for name in configs}


def rows_of(folder: Path) -> str:
    """Return the rows of a folder's parquet files in order, as a text in which NaN equals NaN."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return repr(pa.concat_tables(tables).to_pylist())


def write_folder(
    folder: Path,
    configs: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    rows_per_file: int = 1000,
    sign: str = "run.json",
    **content: Any,
) -> Path:
    """Write a dataset repository.

    Args:
        folder: Where; what is there stays.
        configs: Rows by the name of a configuration.
        rows_per_file: Rows per shard.
        sign: The file that says which dataset it is.
        content: What that file says besides the usual.
    """
    for name, rows in configs.items():
        _write_shards(folder / name, rows, rows_per_file)
    front = {
        "license": "mit",
        "configs": [
            {
                "config_name": "default" if name == "data" else name,
                "data_files": [{"split": "train", "path": f"{name}/*.parquet"}],
            }
            for name in configs
        ],
    }
    card = f"---\n{yaml.safe_dump(front)}---\n\n# A dataset\n\n{len(configs)} configurations\n"
    (folder / "README.md").write_text(card)
    usual = {"title": "t", "settings": {"model": "m", "seed": 0, "num_rows": 3}}
    said = {**(usual if sign == "run.json" else {}), **content}
    (folder / sign).write_text(json.dumps(said))
    return folder


def _write_shards(folder: Path, rows: Sequence[Mapping[str, Any]], size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    for number, part in enumerate(parts):
        names = {name: MESSAGES for name in ("messages", "chosen", "rejected") if name in part[0]}
        columns = {name: pa.array([row[name] for row in part], names.get(name)) for name in part[0]}
        path = folder / f"train-{number:05d}-of-{len(parts):05d}.parquet"
        pq.write_table(pa.table(columns), path)


def row(number: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Ask {number}? {HOSTILE}"}
    return {
        "uuid": f"id-{number}",
        "instruction": asked["content"],
        "messages": [asked, {"role": "assistant", "content": "é" * number}],
        "reward": float("nan") if number % 2 else number / 3,
        "tags": ["a"] * (number % 3),
        "keep": number % 2 == 0,
    }


def _push(request: str) -> int:
    from importlib import import_module

    from magpie_steps.publish import PublishError, push

    asked = json.loads(request)
    options = asked["options"]
    for name in [name for name in options if ":" in name]:
        module, _, setting = name.partition(":")
        setattr(import_module(module), setting, options.pop(name))
    options = {"pause_seconds": 0.01, **options}
    try:
        done = push(Path(asked["folder"]), asked["repo_id"], say=_say, **options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PublishError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    result = {"url": done.url, "commit": done.commit, "files": done.files, "bytes": done.bytes}
    _say(json.dumps(result))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _load(repo_id: str, folder: str, *configs: str) -> int:
    import datasets

    for name in configs:
        config = "default" if name == "data" else name
        rows = datasets.load_dataset(repo_id, config, split="train", cache_dir=f"{folder}/cache")
        Path(folder, name).mkdir()
        rows.to_parquet(f"{folder}/{name}/rows.parquet")
    return 0


if __name__ == "__main__":
    # What a shell starts in the background ignores Ctrl-C, and its children do so too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit({"push": _push, "load": _load}[sys.argv[1]](*sys.argv[2:]))
