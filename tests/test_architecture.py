"""The house rules that no type checker sees."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import magpie_steps

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "magpie_steps"
MODULES = sorted(PACKAGE.rglob("*.py"))

PURE = {
    "base_prompts",
    "boundary",
    "capacity",
    "certificates",
    "column_types",
    "columns",
    "conversation",
    "decoding",
    "derivation",
    "distinct",
    "effort",
    "follow_ups",
    "label_columns",
    "labels",
    "licenses",
    "markup",
    "overlap",
    "personal_data",
    "preference",
    "probes",
    "prompts",
    "reasoning",
    "reasons",
    "recipes",
    "redaction",
    "rendering",
    "row_schemas",
    "rule_tags",
    "rules",
    "run_shard",
    "safety",
    "sandbox",
    "sanitize",
    "scaffold",
    "seeds",
    "selection",
    "stops",
    "summary",
    "system_prompt",
    "tag_answers",
    "tagging",
    "templates",
}
"""Modules that import the standard library, jinja2 and each other only."""

LAYERS = {
    **dict.fromkeys(PURE, 0),
    "dataflow": 1,
    "engines": 2,
    "embedded": 2,
    "neighbours": 2,
    "steps": 3,
    "supervision": 3,
    "cluster": 3,
    "compat": 3,
    "embeddings": 3,
    "export_schemas": 3,
    "prompt_sets": 3,
    "shards": 3,
    "exports": 3,
    "inspection": 3,
    "merging": 3,
    "filtering": 3,
    "card": 3,
    "publish": 3,
    "repository": 3,
    "review": 3,
    "report": 3,
    "sources": 3,
    "provenance": 3,
    "recipe_files": 3,
    "resume": 3,
    "stored_rows": 3,
    "running": 4,
    "job": 5,
    "cli": 5,
    "readme": 5,
}
"""How high a module stands; it imports from its own height or from below."""

SHARES_A_HEIGHT_BUT_NO_IMPORTS = [
    *[(name, "steps") for name in ("publish", "repository", "card", "report", "review")],
    *[("steps", name) for name in ("publish", "repository", "card", "report", "review")],
    ("engines", "steps"),
]

MAX_LINES = 500
"""A module that is longer answers more than one question."""


def top(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Return the names of the modules that a file imports when it runs."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module)
            if node.module == "magpie_steps":
                found += [f"magpie_steps.{alias.name}" for alias in node.names]
    return found


def ours(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imported(path) if name.startswith("magpie_steps.")}
    return names - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return
    name = top(path)
    assert name in LAYERS, f"give {name} a height in LAYERS"
    too_high = {other for other in ours(path) if LAYERS.get(other, 99) > LAYERS[name]}
    assert not too_high, f"{name} imports {sorted(too_high)}, which stand higher"
    for here, there in SHARES_A_HEIGHT_BUT_NO_IMPORTS:
        assert not (name == here and there in ours(path)), f"{here} imports {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_imports_pipelines_and_pure_modules_stay_pure(path):
    heads = {name.split(".")[0] for name in imported(path)}
    assert not heads & {"pipelines", "benchmarks", "tests"}
    if top(path) in PURE:
        allowed = {"jinja2", "magpie_steps", *sys.stdlib_module_names}
        assert heads <= allowed, f"{top(path)} imports {sorted(heads - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_annotations_are_real(path):
    """A step's input is found by its annotation, which the future import makes a text."""
    assert "__future__" not in imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_answer_one_question(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(('"""', 'r"""')), "a module's docstring says which question it answers"
    assert len(text.splitlines()) <= MAX_LINES


def test_pipelines_fit_on_two_screens():
    for path in (ROOT / "pipelines").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path.name


def test_public_names_are_sorted_few_and_there():
    names = magpie_steps.__all__
    assert sorted(names) == sorted(set(names)) == sorted(magpie_steps._HOMES)
    assert names == sorted(names)
    assert len(names) <= 30
    assert all(getattr(magpie_steps, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        magpie_steps.Nothing  # noqa: B018


def test_importing_the_package_is_quick_and_light():
    """Measured in a new interpreter; the least of three, since other work may share the machine."""
    code = (
        "import time; start = time.perf_counter(); import magpie_steps, sys;"
        " seconds = time.perf_counter() - start;"
        " heavy = {'distilabel', 'torch', 'transformers', 'datasets'} & set(sys.modules);"
        " print(seconds, *heavy)"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        taken, *heavy = done.stdout.split()
        assert heavy == []
        seconds.append(float(taken))
    assert min(seconds) < 0.2
