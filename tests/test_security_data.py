"""Data is data: no row, file, name or link of anybody's makes us run, write or send something."""

import ast
import json
import os
import pickle
import shlex
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pushing import row, write_folder

from magpie_steps.cli import main
from magpie_steps.engines.journal import Journal
from magpie_steps.neighbours.store import ARRAYS, RESULTS, VectorStore
from magpie_steps.prompt_sets import prompts_of
from magpie_steps.publish.account import check_id
from magpie_steps.publish.plan import read_dataset
from magpie_steps.recipe_files import recipe_given
from magpie_steps.resume import claim
from magpie_steps.shards import ShardWriter, write_bytes, write_text
from magpie_steps.sources import located, parquet_files

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    *sorted(ROOT.glob("magpie_steps/**/*.py")),
    *sorted(ROOT.glob("pipelines/*.py")),
    *sorted(ROOT.glob("benchmarks/*.py")),
]

PICKLES = {
    *(f"supervision/{name}.py" for name in ("messages", "processes", "preflight")),
    *(f"cluster/{name}.py" for name in ("caretaker", "journals", "servers", "step_main")),
    "cluster/whereabouts.py",
}
"""The files that pickle: what a run's own processes say to each other. On a cluster they first
prove to each other that they know the run's key."""


@pytest.fixture
def loot(tmp_path: Path) -> Path:
    """The file that hostile data writes if it is run."""
    return tmp_path / "loot"


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, loot: Path) -> None:
        self.loot = loot

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.loot,)


# What is not in the code at all


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile"),
    *("torch.load", "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all"),
    *("pd.read_pickle", "pandas.read_pickle", "joblib.load", "tempfile.mktemp"),
    *("tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "ssl._create_unverified_context"),
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_turns_data_into_code(path: Path):
    for name, call in calls(path):
        assert name not in FORBIDDEN, f"{path}:{call.lineno}"
        arguments = {each.arg: ast.unparse(each.value) for each in call.keywords}
        assert arguments.get("shell", "False") == "False", f"{path}:{call.lineno}"
        if name == "np.load":
            assert arguments.get("allow_pickle") == "False", f"{path}:{call.lineno}"
        assert arguments.get("allow_pickle", "False") == "False", f"{path}:{call.lineno}"
    unsafe = imports(path) & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    ours = f"{path.parent.name}/{path.name}" in PICKLES
    assert unsafe <= ({"pickle"} if ours else set())


# Files that say what they should not


def test_a_pickle_among_the_embeddings_results_is_not_read(tmp_path: Path, loot: Path):
    store = VectorStore(tmp_path / "store", "model", 3)
    store.open([])
    bombs = np.array([Bomb(loot)], dtype=object)
    with (tmp_path / "store" / RESULTS).open("wb") as file:
        np.savez(file, **dict.fromkeys([*ARRAYS, "about"], bombs))
    assert store.results([], 0.1) is None
    assert not loot.exists()


def test_a_pickle_in_the_journal_is_only_bytes(tmp_path: Path, loot: Path):
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    bomb = pickle.dumps(Bomb(loot), protocol=0)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO runs (run, run_id, started) VALUES (1, 'x', 0)")
        database.execute(
            "INSERT INTO completions VALUES (?, 1, ?, ?, 'stop', ?, 1, 1)",
            (b"key", bomb.decode(), bomb[: len(bomb) // 4 * 4], json.dumps(None)),
        )
    database.close()
    journal = Journal(path)
    assert journal.lookup(b"key")[0] == bomb.decode()
    journal.close()
    assert not loot.exists()


def hostile_parquet(path: Path, loot: Path) -> Path:
    """A file whose schema says that its type has to be unpickled, as old Arrow did."""
    field = pa.field(
        "instruction",
        pa.string(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(Bomb(loot)),
        },
    )
    rows = [f"Say {n}?" for n in range(3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table([pa.array(rows)], pa.schema([field])), path)
    return path


def test_a_parquet_file_cannot_bring_a_pickle(tmp_path: Path, loot: Path):
    path = hostile_parquet(tmp_path / "in" / "train.parquet", loot)
    assert list(prompts_of(str(path))) == ["Say 0?", "Say 1?", "Say 2?"]
    for command in (
        ["report", str(path), "--output-dir", str(tmp_path / "report")],
        ["filter", str(path), "--recipe", "pro", "--output-dir", str(tmp_path / "filtered")],
    ):
        main(command)
    assert not loot.exists()


TAGS = [
    "!!python/object/apply:os.system ['touch LOOT']",
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['LOOT']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/new:os.system ['touch LOOT']",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_makes_no_objects(
    tag: str, tmp_path: Path, loot: Path, capsys: pytest.CaptureFixture[str]
):
    text = tag.replace("LOOT", str(loot))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: x\nrules: {text}\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml"):
        recipe_given(str(recipe))
    folder = write_folder(tmp_path / "data", {"data": [row(n) for n in range(3)]})
    (folder / "README.md").write_text(f"---\nlicense: {text}\nconfigs: {text}\n---\n\n# x\n")
    assert main(["report", str(folder), "--output-dir", str(tmp_path / "report")]) == 2
    assert "is not valid YAML" in capsys.readouterr().err
    assert not loot.exists()


def repeating(first: str) -> str:
    """YAML of nine lists of nine times the list before: ten lines that are a billion values."""
    lines = [f"a: &a [{first}]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("files", ["*i", "{path: *i}", "&x [*x, data/*.parquet]"])
def test_a_card_that_repeats_itself_without_end_is_read_in_time(files: str, tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"data": [row(n) for n in range(3)]})
    configs = f"configs: [{{config_name: default, data_files: {files}}}]"
    front = f"{repeating('data/*.parquet')}\nlicense: *i\ntags: *i\n{configs}"
    (folder / "README.md").write_text(f"---\n{front}\n---\n")
    assert parquet_files(folder) == [folder / "data" / "train-00000-of-00001.parquet"]
    main(["report", str(folder), "--output-dir", str(tmp_path / "report")])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", ["rules: *i", "rules: [*i]", "name: *i", "i: *i", "columns: *i"])
def test_a_recipe_that_repeats_itself_without_end_is_refused_in_time(place: str, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{repeating('x')}\n{place}\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml") as raised:
        recipe_given(str(recipe))
    assert len(str(raised.value)) < 10_000


# Names


HOSTILE_NAMES = ["$(touch LOOT)", "`touch LOOT`", "; touch LOOT;", "| touch LOOT", "&& touch LOOT"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_reaches_a_shell(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / name.replace("LOOT", "loot"), {"data": [row(1), row(2)]})
    main(["report", folder.name, "--output-dir", "report"])
    assert not (tmp_path / "loot").exists()


@pytest.mark.slow
def test_a_run_with_hostile_names_runs_none_of_them(tmp_path: Path):
    out = "x; touch loot; $(touch loot)"
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "pipelines" / "magpie_pro.py"), "--dry-run"),
            *("--num-rows", "20", "--output-dir", out),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("loot"))
    card = (tmp_path / out / "README.md").read_text()
    command = next(line for line in card.splitlines() if "pipelines/magpie_pro.py" in line)
    assert shlex.split(command)  # whoever copies it runs one command


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../x",
            "a/../b",
            "a/b/c",
            "..",
            "a/..",
            "/etc/passwd",
            "a/b\nc",
            "a/b\x00",
            "a/b\x1b[31m",
        ),
        *(
            "a/\u202eb",
            "a b",
            "",
            "a/",
            "/b",
            "-a/b",
            "a/b.git",
            "a--b/c",
            "x" * 97,
            "a/" + "x" * 97,
        ),
    ],
)
def test_no_odd_name_is_a_repository(name: str):
    with pytest.raises(ValueError, match="is no repository id"):
        check_id(name)


@pytest.mark.parametrize(
    "name", ["../x/y", "a/../../etc", "a/b\nc", "a/b\x1b[31m", "a/\u202eb", "https://x/y", "a/b;c"]
)
def test_no_odd_name_is_looked_for_on_the_hub(name: str):
    with pytest.raises(FileNotFoundError, match="give a parquet file"):
        located(name)


def test_a_card_names_no_files_outside_its_folder(tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"data": [row(1)]})
    for pattern in ("../other/*.parquet", "/etc/*.parquet", "https://host/x.parquet", "a/../../b"):
        front = {"configs": [{"config_name": "default", "data_files": pattern}]}
        (folder / "README.md").write_text(f"---\n{json.dumps(front)}\n---\n")
        with pytest.raises(ValueError, match="not in that folder"):
            parquet_files(folder)


# Links


def test_a_link_out_of_the_folder_is_not_sent(tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"data": [row(1)]})
    (tmp_path / "id_rsa").write_text("a private key")
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(ValueError, match="is a link to a file outside the folder"):
        read_dataset(folder)


def test_a_link_within_the_folder_and_one_to_the_folder_are_fine(tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"data": [row(1)]})
    (folder / "again.json").symlink_to(folder / "run.json")
    (tmp_path / "link").symlink_to(folder)
    assert "again.json" in read_dataset(tmp_path / "link").files


def test_a_folder_that_is_a_link_is_not_followed_when_sending(tmp_path: Path):
    folder = write_folder(tmp_path / "data", {"data": [row(1)]})
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("a private key")
    (folder / "figures").symlink_to(tmp_path / "private")
    assert "figures/key" not in read_dataset(folder).files


@pytest.mark.parametrize(
    "write", [lambda p: write_text(p, "new"), lambda p: write_bytes(p, b"new")]
)
def test_a_file_that_is_a_link_is_replaced_not_followed(write: Any, tmp_path: Path):
    target = tmp_path / "bashrc"
    target.write_text("old")
    (tmp_path / "README.md").symlink_to(target)
    write(tmp_path / "README.md")
    assert target.read_text() == "old"
    assert not (tmp_path / "README.md").is_symlink()


def test_a_link_in_the_scratch_folders_place_is_not_written_through(tmp_path: Path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "0").write_text("mine")
    (tmp_path / ".data.tmp").symlink_to(private)
    with (
        pytest.raises(OSError, match="File exists"),
        ShardWriter(tmp_path / "data", {"a": "string"}),
    ):
        pass
    assert (private / "0").read_text() == "mine"


# Permissions


@pytest.mark.parametrize(("umask", "allowed"), [(0o077, 0o700), (0o027, 0o750), (0o022, 0o755)])
def test_what_is_written_is_as_private_as_the_user_asked_for(
    umask: int, allowed: int, tmp_path: Path
):
    before = os.umask(umask)
    try:
        folder = tmp_path / "out"
        claim(folder, {"seed": 1})
        Journal(folder / "journal.sqlite").close()
        write_text(folder / "README.md", "x")
        with ShardWriter(folder / "data", {"a": "string"}) as writer:
            writer.write({"a": "x"})
    finally:
        os.umask(before)
    written = [folder, *folder.rglob("*")]
    assert len(written) > 5
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) & ~allowed == 0, path


def test_nothing_changes_who_may_read_a_file():
    words = ("chmod", "umask", "chown")
    for path in SOURCES:
        assert not [name for name, _ in calls(path) if name.rpartition(".")[2] in words], path


def test_a_report_shows_hostile_rows_as_text(tmp_path: Path, loot: Path):
    """What a model may write ends up in a card, as text."""
    rows = [row(n) for n in range(6)]
    folder = write_folder(tmp_path / "data", {"data": rows})
    main(["report", str(folder), "--output-dir", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert not loot.exists()
