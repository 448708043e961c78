"""The documents say what is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import magpie_steps
from magpie_steps import readme, reasons
from magpie_steps.effort import Effort
from magpie_steps.recipes import RECIPES, recipe_from_dict, recipe_named
from magpie_steps.summary import counted, summarise, table, timed

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
JUDGING = (ROOT / "docs" / "judging.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def part(name):
    return re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", README, re.DOTALL)[1]


def code_blocks(language, document=README):
    """Return a document's code blocks in a language; fences come in pairs."""
    fences = re.split(r"^```(.*)\n", document, flags=re.MULTILINE)[1:]
    pairs = zip(fences[0::4], fences[1::4], strict=False)
    return [text for found, text in pairs if found == language]


def test_generated_tables_are_fresh():
    assert readme.filled(README, readme.parts()) == README


def test_a_stale_table_is_noticed(tmp_path):
    stale = tmp_path / "README.md"
    stale.write_text(README.replace("`uuid`", "`uid`"), encoding="utf-8")
    command = [sys.executable, "-m", "magpie_steps.readme", "--file", str(stale)]
    checked = subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True, check=False)
    assert checked.returncode == 1
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert stale.read_text(encoding="utf-8") == README


def test_missing_markers_are_an_error():
    with pytest.raises(ValueError, match="lacks <!-- columns:begin"):
        readme.filled("nothing", {"columns": "x"})


def test_every_public_name_has_a_row():
    rows = part("components")
    assert all(f"| `{name}` |" in rows for name in magpie_steps.__all__)


OF_OTHERS = {
    *("--working-dir", "--array", "--dependency", "--wrap", "--filename", "--follow"),
    *("--tasks", "--reference"),
}
"""Flags of `ray job submit`, sbatch, kubectl, lm_eval and alpaca_eval, as far as the first "_"."""


def test_shown_commands_exist():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", README, re.MULTILINE))
    assert {"demo", "test"} <= shown <= targets
    scripts = set(re.findall(r"python ((?:pipelines|benchmarks)/\S+\.py)", README))
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)
    flags = set(re.findall(r"(--[a-z][a-z-]+)", all_documents()))
    known = said(str(ROOT / "pipelines" / "magpie_pro.py"), "--help")
    for script in sorted(set(re.findall(r"python (benchmarks/\S+\.py) --", all_documents()))):
        known += said(str(ROOT / script), "--help")
    for command in shown_commands():
        known += said("-m", "magpie_steps.cli", *command.split(), "--help")
    assert flags
    assert [flag for flag in flags - OF_OTHERS if flag not in known] == []


def all_documents():
    return "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def shown_commands():
    shown = re.findall(r"magpie-steps (review [a-z]+|[a-z]+)(?= [A-Zd-]| magpie)", all_documents())
    return sorted(set(shown))


def said(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_links_between_documents_lead_somewhere():
    for path in DOCUMENTS:
        links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
        assert [link for link in links if not (path.parent / link).exists()] == [], path


def test_shown_output_is_what_the_pipeline_prints():
    """Figures differ between machines, so names and their order are compared."""
    shown = [line for line in part("demo").splitlines() if re.match(r"[a-zA-Z ]", line)]
    names = [re.split(r"\s{2,}", line.rstrip())[0] for line in shown if "load_dataset" not in line]
    kept = {"uuid": "a", "keep": True, "drop_reason": "", "min_similar_uuid": "a"}
    repeat = {**kept, "uuid": "b", "keep": False, "drop_reason": "recipe_distance"}
    summary = summarise([kept, repeat])
    effort = Effort(seconds=1.0, cpu_seconds=1.0, prompt_tokens=1)
    printed = table([*counted(summary), *timed(summary, effort)]).splitlines()
    always = [re.split(r"\s{2,}", line)[0] for line in printed]
    assert [name for name in names if name] == [name for name in always if name]
    words = re.findall(r"^  (\w+)", "\n".join(shown), re.MULTILINE)
    rules = [reasons.recipe_reason(rule.name) for rule in recipe_named("pro").rules]
    assert all(word in (*reasons.DROP_REASONS, *rules) for word in words)
    assert "datasets.load_dataset('data/magpie-pro') opens them" in part("demo")
    figures = dict(re.findall(r"^([a-z ]+?)\s{2,}(\S+)", part("demo"), re.MULTILINE))
    assert int(figures["rows kept"]) + int(figures["rows removed"]) == 200


def test_shown_recipes_exist():
    shown = re.findall(r"--recipe ([a-z0-9-]+)(?!\S)", README + JUDGING)
    assert shown
    assert set(shown) <= set(RECIPES)


def test_the_shown_recipe_is_one():
    (text,) = code_blocks("yaml", JUDGING)
    recipe = recipe_from_dict(yaml.safe_load(text))
    assert recipe.longest == 50_000
    assert [rule.name for rule in recipe.rules] == ["quality", "reward", "repeated"]


def test_the_example_runs(tmp_path):
    (code,) = code_blocks("python")
    assert len(code.splitlines()) <= 15
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'role': 'assistant'" in done.stdout


def test_files_in_the_map_exist():
    blocks = code_blocks("", CONTRIBUTING)
    (block,) = [text for text in blocks if text.startswith("magpie_steps/\n")]
    for line in block.splitlines()[1:]:
        name = line.split()[0]
        folder = ROOT / "magpie_steps" if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name


def test_readme_fits():
    """The generated tables grow with the package; what is written by hand should not."""
    tables = sum(len(part(name).splitlines()) for name in (*readme.parts(), "miniature"))
    assert len(README.splitlines()) - tables <= 186


def test_versions_agree():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{magpie_steps.__version__}"' in pyproject
