"""The committed result of the paper in miniature: documents, figures and what makes them."""

import copy
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.text import Text

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
RESULT = BENCHMARKS / "results" / "paper_in_miniature.json"
ON_GPU = BENCHMARKS / "results" / "paper_in_miniature_gpu.json"

IMAGES = ("paper-in-miniature.svg", "paper-in-miniature-decoding.svg")


@pytest.fixture(autouse=True)
def _parts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def result() -> Any:
    return json.loads(RESULT.read_text(encoding="utf-8"))


def part(name: str) -> ModuleType:
    return importlib.import_module(f"paper.{name}")


def show(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a repository that lies in a folder."""
    return subprocess.run(
        [sys.executable, "benchmarks/show_paper_in_miniature.py", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what the script reads and writes."""
    ignored = shutil.ignore_patterns("__pycache__", "results")
    shutil.copytree(BENCHMARKS, tmp_path / "benchmarks", ignore=ignored)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir()
    for each in (RESULT, ON_GPU):
        shutil.copy(each, tmp_path / "benchmarks" / "results")
    return tmp_path


def test_the_committed_documents_and_figures_say_what_the_result_says(result: Any) -> None:
    script = importlib.import_module("show_paper_in_miniature")
    wanted = script.everything(result)
    assert [path.name for path, text in wanted.items() if script.is_stale(path, text)] == []
    assert {path.name for path in wanted} == {"README.md", "paper_in_miniature.md", *IMAGES}


def test_the_result_is_of_a_whole_run_that_was_tried_on_questions_nobody_saw(result: Any) -> None:
    figures = result["figures"]
    assert result["command"].startswith("python benchmarks/paper_in_miniature.py")
    assert all(pool["held_out_questions"] == 0 for pool in figures["pools"].values())
    kinds = {name.partition("-")[0] for name in figures["models"]}
    assert kinds == set(part("result").KINDS)
    assert set(figures["claims"]) == set(part("comparing").CLAIMS)
    seeds = {True: result["settings"]["seeds"], False: result["settings"]["side_seeds"]}
    for name, found in figures["models"].items():
        if name not in ("instruct", "base"):
            claimed = name.startswith(("raw", "filtered")) and name.endswith("4x")
            assert len(found["correct"]["runs"]) == seeds[claimed], name


@pytest.mark.slow
def test_a_result_that_changes_makes_everything_stale_that_shows_it(repository: Path) -> None:
    assert show(repository).returncode == 0
    fresh = show(repository, "--check")
    assert (fresh.returncode, fresh.stderr) == (0, "")
    path = repository / "benchmarks" / "results" / "paper_in_miniature.json"
    changed = json.loads(path.read_text(encoding="utf-8"))
    changed["figures"]["models"]["instruct"]["correct"]["mean"] -= 7
    trend = changed["figures"]["trends"]["quality"]
    trend["hotter"] += 1
    path.write_text(json.dumps(changed), encoding="utf-8")
    stale = show(repository, "--check")
    assert stale.returncode == 1
    named = [Path(line.partition(" is stale")[0]).name for line in stale.stderr.splitlines()]
    assert sorted(named) == sorted(["README.md", "paper_in_miniature.md", *IMAGES])


@pytest.mark.parametrize("name", IMAGES)
def test_a_figure_is_always_the_same(name: str, result: Any) -> None:
    drawing = part("drawing")
    first = drawing.drawn(name, result)
    assert first == drawing.drawn(name, copy.deepcopy(result))
    assert "<dc:date>" not in first
    assert f"<title>{drawing.DRAWINGS[name][1]}</title>" in first


def test_the_figure_of_models_names_each_with_its_score(result: Any) -> None:
    drawing, words = part("drawing"), part("result")
    shown = drawing.texts(drawing.drawn(IMAGES[0], result))
    models = result["figures"]["models"]
    for name in words.largest(models):
        assert words.KINDS[words.kind(name)] in shown
        assert words.spread_text(models[name]["correct"]) in shown
    assert all(f"{found['mean']:.1f}" in shown for found in words.grown(models).values())


def test_the_figure_of_decoding_has_all_settings_and_each_verdict(result: Any) -> None:
    drawing = part("drawing")
    shown = drawing.texts(drawing.drawn(IMAGES[1], result))
    assert {"top_p 1", "top_p 0.995", "top_p 0.99"} <= set(shown)
    assert [text for text in shown if text in ("1.0", "1.1", "1.2")] == ["1.0", "1.1", "1.2"] * 6
    verdicts = [trend["verdict"] for trend in result["figures"]["trends"].values()]
    assert [text.rpartition(": ")[2] for text in shown if " ± " in text] == verdicts


@pytest.mark.parametrize("name", IMAGES)
def test_no_text_of_a_figure_is_small_or_outside_of_it(name: str, result: Any) -> None:
    drawing = part("drawing")
    figure = drawing.DRAWINGS[name][0](result)
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    texts = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 9
    for text in texts:
        box = text.get_window_extent()
        assert -1 <= box.x0 < box.x1 <= width + 1, text.get_text()
        assert -1 <= box.y0 < box.y1 <= height + 1, text.get_text()


def test_what_does_not_hold_is_said_and_nothing_else(result: Any) -> None:
    document, changed = part("document"), copy.deepcopy(result)
    figures = changed["figures"]
    for claim in figures["claims"].values():
        claim["holds"] = True
    for trend in figures["trends"].values():
        trend["verdict"] = "as in the paper"
    figures["models"]["filtered-1x"] = {"correct": {"mean": 1, "deviation": 0, "runs": [1]}}
    assert document.not_reproduced(changed) == "Everything in the table came out as claimed."
    figures["claims"]["filtered_above_raw"]["holds"] = False
    figures["trends"]["difficulty"]["verdict"] = "no change here"
    figures["models"]["filtered-1x"]["correct"]["runs"] = [100.0]
    lines = document.not_reproduced(changed).splitlines()
    assert [line[:40] for line in lines] == [
        "- Not so here: Filtered rows teach more ",
        "- Not so here: More filtered rows help: ",
        "- Not so here: The instructions' difficu",
    ]
    assert document.claims_table(changed).count("| **no** |") == 3
    said = document.readme_parts(result)["miniature"].partition("\n")[0]
    names = [each.name for each in part("comparing").comparisons(result) if not each.holds]
    assert all(name in said for name in names)
    assert said.count(",") == max(0, len(names) - 1)


def test_sets_that_were_not_trained_on_are_left_out(result: Any) -> None:
    """As in a result whose smaller sets nobody answered for."""
    changed = copy.deepcopy(result)
    for name in [n for n in changed["figures"]["models"] if n.endswith(("1x", "2x"))]:
        del changed["figures"]["models"][name]
    names = [each.name for each in part("comparing").comparisons(changed)]
    assert len(names) == len(changed["figures"]["claims"]) + 3
    assert "filtered rows" in part("drawing").drawn(IMAGES[0], changed)
    assert part("document").parts(changed)["models"]


def test_models_of_a_gpu_stand_with_their_own_settings() -> None:
    on_gpu = json.loads(ON_GPU.read_text(encoding="utf-8"))
    told = part("document").gpu_text(on_gpu)
    assert f"for {on_gpu['settings']['sft']['epochs']} epochs" in told
    assert len(told.splitlines()) == 4 + len(on_gpu["figures"]["trainings"])
    for name, right in on_gpu["figures"]["correct"].items():
        effort = on_gpu["figures"]["trainings"][name]
        line = f"| {effort['rows']:,} rows | {effort['steps']:,} | {effort['seconds']:.0f} |"
        assert f"{line} {right:.1f} |" in told


def test_a_model_without_a_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"models without a name: \['new-4x'\]; name them"):
        part("result").shown(["raw-4x", "new-4x"])
