"""Every notebook runs from top to bottom, as it is in the repository."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

LONGEST_CELL = 20
"""A longer cell holds logic, which belongs into the package."""


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def pictures(notebook, kind):
    return [output for output in outputs_of(notebook) if kind in output.get("data", {})]


def texts(notebook):
    outputs = outputs_of(notebook)
    streams = [output.get("text", "") for output in outputs]
    shown = [output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join([*streams, *shown])


def run(path, folder, monkeypatch):
    """Run a notebook in a folder that looks like the repository; return it with its outputs."""
    (folder / "notebooks").mkdir()
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder / "notebooks")}}
    client = NotebookClient(notebook, timeout=280, kernel_name="python3", resources=where)
    client.execute()
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= LONGEST_CELL for cell in code)
    assert not any("def " in cell.source for cell in code)


@pytest.mark.slow
def test_the_quickstart_shows_rows(tmp_path, monkeypatch):
    found = texts(run(ROOT / "notebooks" / "01_quickstart.ipynb", tmp_path, monkeypatch))
    assert "a user's turn ends with" in found
    assert "rows generated" in found
    assert "task_category" in found


@pytest.mark.slow
def test_exploring_ends_with_a_recipe_of_ones_own(tmp_path, monkeypatch):
    notebook = run(ROOT / "notebooks" / "02_explore.ipynb", tmp_path, monkeypatch)
    found = texts(notebook)
    assert "'kept':" in found
    assert "pro-card" in found
    assert "datasets.load_dataset('data/explore-mine') opens what is kept" in found.replace(
        str(tmp_path / "notebooks") + "/", ""
    )
    assert len(pictures(notebook, "image/png")) == 5


@pytest.mark.slow
def test_the_paper_in_miniature_is_shown_with_both_figures(tmp_path, monkeypatch):
    notebook = run(ROOT / "notebooks" / "04_paper_in_miniature.ipynb", tmp_path, monkeypatch)
    found = texts(notebook)
    assert "python benchmarks/paper_in_miniature.py" in found
    assert "filtered-4x" in found
    assert "filtered above raw" in found
    assert len(pictures(notebook, "image/svg+xml")) == 2
    assert not any(output.get("name") == "stderr" for output in outputs_of(notebook))
