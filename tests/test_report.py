import json
import os
import re
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from reported_rows import HOSTILE, Outline, pair_row, row, write_rows, write_table

from magpie_steps.markup import plain
from magpie_steps.report import beside, costs, default_folder, figure_names, report, tell_card
from magpie_steps.report.contamination import Contamination
from magpie_steps.report.counting import statistics_of
from magpie_steps.report.paper import FIGURE_11, LLAMA_GUARD_2, TABLE_4, TABLE_6
from magpie_steps.report.sections import Findings, glance, sections
from magpie_steps.report.tables import number_text

RUN = {
    "model": "tiny-instruct",
    "counts": {"generated": 200, "kept": 160},
    "completions": {"generated": 300, "replayed": 100, "all_runs": 400},
    "seconds": 60.0,
    "rows_per_second": 3.3333,
    "effort": {
        "completions": 300,
        "prompt_tokens": 5000,
        "cached_share": 0.25,
        "completion_tokens": 8000,
        "tokens_per_second": 133.3,
        "busy_share": 0.93,
        "cpu_seconds_per_1000_kept_rows": 30.3,
        "gpu_seconds_per_1000_kept_rows": 7200.0,
    },
}


def run_folder(folder, rows, record=None):
    """Write a run's output folder, as far as a report reads it."""
    write_rows(folder / "data", rows)
    if record is not None:
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("a") / "trees", [row(n) for n in range(200)], RUN)


@pytest.fixture(scope="module")
def made(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "deep" / "report"
    return output, report(str(dataset), output, coverage=False).statistics


def test_a_report_is_a_page_and_its_figures(made):
    output, found = made
    assert sorted(path.name for path in output.iterdir()) == ["figures", "report.html"]
    named = figure_names(found)
    assert {path.name for path in (output / "figures").iterdir()} == {
        os.path.basename(name) for name, _ in named
    }
    assert all((output / name).read_bytes().startswith(b"\x89PNG") for name, _ in named)
    assert len(named) == 13  # all but turns and the map
    assert all(caption for _, caption in named)


def test_the_first_screen_tells_what_matters(made):
    kept = [row(n) for n in range(200) if row(n)["keep"]]
    tokens = sum(each["response_tokens"] for each in kept) / len(kept)
    assert glance(made[1]) == [
        ("rows", "200"),
        ("rows kept", "160 (80.0%)"),
        ("tokens in an instruction, mean", "7.0"),
        ("tokens in a response, mean", f"{tokens:.1f}"),
        ("languages", "EN 67%, DE 33%"),
        ("safe", "87.5%"),
    ]


def test_the_page_has_everything_and_loads_nothing(made):
    page = (made[0] / "report.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.headings[0] == "h1 trees" or "trees" in outline.text
    for title in ("What was removed", "Lengths", "Contamination", "Beside the paper", "Rows"):
        assert any(title in heading for heading in outline.headings), title
    for name, caption in figure_names(made[1]):
        assert caption in outline.text, name
    assert "script" not in outline.tags
    assert not re.findall(r'(?:src|href)="(?!#|data:,)[^"#]', page)
    assert "http://www.w3.org" in page
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)
    assert "default-src 'none'" in page


def test_tags_of_the_page_match(made):
    open_tags, empty = [], {"meta", "link", "path", "rect", "use"}
    for tag in Outline((made[0] / "report.html").read_text(encoding="utf-8")).tags:
        if tag.startswith("/") and tag[1:] not in empty:
            assert open_tags.pop() == tag[1:]
        elif not tag.startswith("/") and tag not in empty:
            open_tags.append(tag)
    assert open_tags == []


def test_a_second_report_replaces_the_first(tmp_path, dataset):
    output = tmp_path / "report"
    (output / "figures").mkdir(parents=True)
    (output / "figures" / "mine.png").write_text("mine")
    report(str(dataset), output, coverage=False)
    first = (output / "report.html").read_bytes()
    table = pa.table({"instruction": ["a"], "response": ["b"]})
    write_table(tmp_path / "small", table)
    report(str(tmp_path / "small"), output, coverage=False)
    assert sorted(path.name for path in (output / "figures").iterdir()) == [
        "instruction-lengths.png",
        "mine.png",
        "response-lengths.png",
    ]
    report(str(dataset), output, coverage=False)
    assert (output / "report.html").read_bytes() == first


def test_a_report_goes_into_a_runs_folder_or_one_of_its_own(dataset, tmp_path):
    assert default_folder(str(dataset)) == dataset
    assert str(default_folder("owner/Some-Set")) == "report-Some-Set"
    [path] = write_table(tmp_path / "x", pa.table({"a": [1]}))
    assert str(default_folder(str(path))) == f"report-{path.stem}"
    assert str(default_folder(str(tmp_path / "x"))) == "report-x"


@pytest.mark.parametrize("what", ["page", "figures", "output"])
def test_what_cannot_be_written_is_an_error_that_names_it(tmp_path, dataset, what):
    output = tmp_path / "out"
    if what == "output":
        output.write_text("a file")
    else:
        place = output / ("report.html" if what == "page" else "figures")
        place.parent.mkdir(parents=True)
        place.mkdir() if what == "page" else place.write_text("a file")
    with pytest.raises(OSError, match=re.escape(str(output))):
        report(str(dataset), output, coverage=False)
    assert not list(tmp_path.rglob("*.tmp"))


def test_datasets_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no nothing"):
        report("nothing", tmp_path, coverage=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no parquet files"):
        report(str(tmp_path / "empty"), tmp_path / "out", coverage=False)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_small_datasets_have_a_page_too(tmp_path, rows):
    folder = run_folder(tmp_path / "few", [row(n) for n in range(rows)])
    found = report(str(folder), tmp_path / "out", coverage=False).statistics
    assert found.rows == rows
    assert "few" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_dataset_with_every_row_removed_says_so(tmp_path):
    rows = [row(n, keep=False, drop_reason="no_instruction", instruction="") for n in range(10)]
    folder = run_folder(tmp_path / "none", rows)
    found = report(str(folder), tmp_path / "out", coverage=False).statistics
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert (found.final.rows, found.examples) == (0, ())
    assert "10 of 10 rows are not kept." in text
    assert "0 (0.0%)" in text


def test_hostile_rows_do_not_change_the_page(tmp_path):
    """The same tags outside the figures, and every text is there as text."""
    pages = []
    for name, texts in (("harmless", [f"text {n}" for n in range(len(HOSTILE))]), ("h", HOSTILE)):
        rows = [
            row(
                n,
                instruction=texts[n % len(texts)],
                response=texts[(n + 1) % len(texts)],
                drop_reason="" if n % 5 != 4 else f"recipe_{texts[n % len(texts)][:50]}",
                tag_failures=[{"tag": texts[n % 9], "reason": texts[(n + 2) % 9], "raw": "r"}],
                unsafe_categories=[texts[n % 9][:50]] if n % 10 == 0 else [],
            )
            for n in range(90)
        ]
        record = {**RUN, "model": f"{texts[0]}\ud800"}
        report(
            str(run_folder(tmp_path / name, rows, record)), tmp_path / f"{name}-out", coverage=False
        )
        pages.append((tmp_path / f"{name}-out" / "report.html").read_text(encoding="utf-8"))
    harmless, hostile = (Outline(page) for page in pages)
    without_names = [[h for h in each.headings if h[1] != "1"] for each in (harmless, hostile)]
    assert without_names[0] == without_names[1]
    for tag in ("h1", "h2", "section", "figure", "details", "main", "svg", "script", "img"):
        assert harmless.tags.count(tag) == hostile.tags.count(tag), tag
    assert "script" not in hostile.tags
    assert HOSTILE[0] in hostile.text
    assert "49" not in re.findall(r"\d+", hostile.text.partition("{{ 7 * 7 }}")[2][:20])
    assert "\u202e" not in pages[1]
    assert "\\u202e" in pages[1]
    assert "\x00" not in pages[1]


def test_a_name_of_a_dataset_is_text_too(tmp_path):
    folder = run_folder(tmp_path / "<b>set<b>", [row(0)])
    report(str(folder), tmp_path / "out", coverage=False)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;set" in page


def test_the_runs_costs_are_told(made):
    text = Outline((made[0] / "report.html").read_text(encoding="utf-8")).text
    assert "written by tiny-instruct" in text
    cost = costs.cost_of(RUN)
    assert dict(cost.lines) == {
        "completions": "300",
        "completions taken from an earlier run": "100",
        "tokens generated": "8,000",
        "tokens generated per 1,000 kept rows": "50,000",
        "prompt tokens": "5,000",
        "prompt tokens that were cached": "25%",
        "time": "1 min 00 s",
        "time per 1,000 kept rows": "6 min 15 s",
        "CPU time per 1,000 kept rows": "30 s",
        "GPU time per 1,000 kept rows": "2 h 00 min",
        "rows per second": "3.3",
        "tokens per second": "133.3",
        "engines busy": "93%",
    }
    assert cost.gpu_hours_per_thousand == 2.0
    assert all(name in text and value in text for name, value in cost.lines)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"model": 3, "counts": [], "effort": "much", "seconds": "long", "completions": None},
        {"counts": {"kept": 0}, "effort": {"completion_tokens": float("nan")}, "seconds": True},
    ],
)
def test_what_a_record_does_not_say_is_left_out(record):
    assert costs.cost_of(record) == costs.Cost()


@pytest.mark.parametrize("text", ["", "{", "[]", "\ufeff", "3"])
def test_a_broken_record_is_said_and_the_report_made(tmp_path, text):
    write_table(tmp_path / "x" / "data", pa.table({"instruction": ["a"], "response": ["b"]}))
    (tmp_path / "x" / "run.json").write_text(text, encoding="utf-8")
    said = []
    report(str(tmp_path / "x"), tmp_path / "out", coverage=False, say=said.append)
    assert any("run.json" in line and "no costs" in line for line in said)
    assert (tmp_path / "out" / "report.html").exists()


def test_the_record_is_found_from_the_folder_the_files_or_one_of_them(dataset, tmp_path):
    [path] = (dataset / "data").glob("*.parquet")
    assert costs.record_of(path) == (dataset / "run.json").resolve()
    [lonely] = write_table(tmp_path / "a" / "b", pa.table({"x": [1]}))
    assert costs.record_of(lonely) is None


def test_the_papers_numbers_agree_with_each_other():
    """Table 4 prints totals too: those of the texts are 1.28B, 366M, 477M, 333M, 482M and 424M."""
    totals = [each.conversations * each.turns * each.tokens for each in TABLE_4[:6]]
    assert totals[0] == pytest.approx(1.28e9, rel=0.01)
    assert totals[2] == pytest.approx(477e6, rel=0.01)
    assert totals[1] == pytest.approx(366e6, rel=0.01)
    assert totals[3] == pytest.approx(333e6, rel=0.01)
    assert totals[4] == pytest.approx(482e6, rel=0.01)
    assert totals[5] == pytest.approx(424e6, rel=0.01)
    for each in TABLE_6:
        assert len(each.hazards) == len(LLAMA_GUARD_2)
        assert each.safe + sum(each.hazards) == pytest.approx(100, abs=0.1)
    by_temperature = [
        [each for each in FIGURE_11 if each.temperature == t] for t in (1.0, 1.1, 1.2)
    ]
    for name, sign in (("quality", -1), ("difficulty", 1), ("distance", 1)):
        means = [sum(getattr(e, name) for e in group) / len(group) for group in by_temperature]
        assert sorted(means, key=lambda mean: sign * mean) == means, name


def test_the_dataset_stands_beside_the_paper(made):
    tables = {table.title: table for table in beside.tables(made[1], costs.cost_of(RUN))}
    assert list(tables) == ["Size and length", "Safety", "Sampling settings", "GPU time"]
    sizes = tables["Size and length"].lines
    assert sizes[0][:3] == ("this dataset", "160", "1.00")
    assert sizes[1] == ("Magpie-Air (Llama-3-8B)", "3,000,000", "1", "426.4 ± 217.4", "1,279.2M")
    safety = {line[0]: line[1:] for line in tables["Safety"].lines}
    assert safety["safe"] == ("87.500", "99.128", "99.347")
    assert safety["hate"] == ("12.500", "0.001", "0.001")
    assert safety["weapons"] if "weapons" in safety else safety["indiscriminate weapons"]
    settings = tables["Sampling settings"].lines
    assert [line[:3] for line in settings] == [("1", "1", "100"), ("1.1", "1", "100")]
    assert settings[0][5].endswith("/ 0.328")
    assert tables["GPU time"].lines == (
        ("this dataset", "2.000"),
        ("Magpie-Air", "0.069"),
        ("Magpie-Pro", "0.614"),
    )
    for table in tables.values():
        assert all(len(line) == len(table.header) for line in table.lines)
        assert "2406.08464" in table.note


def test_nothing_stands_beside_the_paper_where_nothing_applies(tmp_path):
    table = pa.table({"instruction": [""], "response": [""]})
    found = statistics_of("x", write_table(tmp_path, table))
    assert list(beside.tables(found, costs.Cost())) == []


def test_missing_labels_are_listed_with_their_reasons(tmp_path):
    failure = {"tag": "difficulty", "reason": "unknown_label", "raw": ""}
    rows = [row(n, difficulty="", tag_failures=[failure]) for n in range(3)]
    rows += [row(3, tag_failures=[], difficulty="Easy")]
    found = statistics_of("x", write_rows(tmp_path, rows))
    nothing = Contamination(4, 0, (), ())
    section = next(
        each for each in sections(Findings(found, nothing)) if each.title.startswith("Labels")
    )
    assert section.tables[0].lines == [("difficulty", "3", "1")]
    assert section.tables[1].lines == [("difficulty: unknown_label", "3")]


def test_evaluation_sets_and_personal_data_are_on_the_page(tmp_path):
    question = "Name the three largest trees of the northern forests and say why they grow so tall"
    rows = [row(0, instruction=question, response="Write to ann.lee@trees-mail.org now.")]
    rows += [row(n) for n in range(1, 6)]
    folder = run_folder(tmp_path / "x", rows)
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": question}), encoding="utf-8")
    report(
        str(folder), tmp_path / "out", decontaminate=[str(tmp_path / "eval.jsonl")], coverage=False
    )
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "eval (evaluation)" in text
    assert "100%" in text
    assert "email" in text
    assert "ann.lee@trees-mail.org" not in text.partition("Personal data")[2].partition("Beside")[0]


def test_samples_are_said_to_be_samples(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("magpie_steps.report.counting.NUMBERS_SAMPLE", 50)
    report(str(dataset), tmp_path / "out", coverage=False)
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "of a random sample of 50 rows" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.256, "0.26"),
        (13.58, "13.6"),
        (1991.35, "1,991"),
        (-2.5, "-2.50"),
        (7.0, "7"),
        (3e12, "3e+12"),
    ],
)
def test_numbers_have_few_digits(value, text):
    assert number_text(value) == text


def test_the_report_at_the_end_of_a_job_is_quick(dataset, tmp_path):
    """In a new interpreter; the least of two, since other work may share the machine."""
    code = (
        "import sys, time; start = time.perf_counter();"
        " from pathlib import Path; from magpie_steps.report import report;"
        f" report({str(dataset)!r}, Path({str(tmp_path / 'out')!r}), coverage=False);"
        " print(time.perf_counter() - start);"
        " assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 5


@pytest.mark.slow
def test_the_map_shows_a_sample_of_each_dataset(dataset, tmp_path):
    write_table(tmp_path / "other", pa.table({"prompt": [f"Sum {n} and 2." for n in range(30)]}))
    twin = run_folder(tmp_path / "trees", [row(n) for n in range(10)])
    others = [str(tmp_path / "other"), str(twin)]
    found = report(str(dataset), tmp_path / "out", compare=others).statistics
    sizes = [(cloud.name, len(cloud.xs)) for cloud in found.clouds]
    assert [size for _, size in sizes] == [160, 30, 10]
    assert len({name for name, _ in sizes}) == 3
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "a random sample" in text
    assert (tmp_path / "out" / "figures" / "coverage.png").exists()


def test_published_schemas_have_a_report(tmp_path):
    table = pa.table(
        {
            "uuid": ["1", "2"],
            "instruction": ["Explain rain.", "Write a poem."],
            "response": ["Water falls.", "Rain, rain."],
            "task_category": ["Math", None],
            "llama_guard_2": ["safe", "unsafe\nS2"],
            "min_neighbor_distance": [0.5, 0.6],
            "repeat_count": [0, 0],
            "language": ["EN", "EN"],
        }
    )
    pq.write_table(table, tmp_path / "set.parquet")
    found = report(str(tmp_path / "set.parquet"), tmp_path / "out", coverage=False).statistics
    assert (found.name, found.schema, found.kept) == ("set", "Magpie-Align", None)
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "does not record tokens" in text
    assert "rows kept" not in text


def test_a_report_of_pairs_tells_what_is_counted(tmp_path):
    folder = run_folder(tmp_path / "pairs", [pair_row(2 * n) for n in range(30)], RUN)
    found = report(str(folder), tmp_path / "out", coverage=False)
    assert ("sampled responses", "4 a row") in glance(found.statistics)
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "4 a row where rows are kept" in text
    assert "of all 120 responses, one by one" in text
    assert "Length of sampled responses, 4 a row: mean" in text
    assert "over 120 responses" in text
    assert "Rewards of sampled responses, 4 a row: mean" in text
    assert "over 110 responses, 10 without a value" in text
    assert "Scores of the chosen response and of the rejected response." in text
    assert "response, the first of 4" in text
    drawn = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"sampled-lengths", "sampled-rewards", "pair-scores", "score-margin"} <= drawn
    assert "response-lengths" not in drawn


def test_a_sample_of_responses_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.setattr("magpie_steps.report.counting.NUMBERS_SAMPLE", 20)
    folder = run_folder(tmp_path / "pairs", [pair_row(2 * n) for n in range(30)])
    report(str(folder), tmp_path / "out", coverage=False)
    text = Outline((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "over 120 responses; drawn is a random sample of 20 responses" in text


# The card of a run's own folder


CARD = """\
---
license: mit
---

# Trees

## Counts

Mine.

## What the rows are like

![old](figures/old.png)

## Contamination and memorisation

The dataset was compared with no evaluation set and no public training set.

## Human review

People looked.

## What it took

Time.
"""


def told(folder, dataset=None, *, card=CARD, **options):
    """Report into a run's folder; return its card afterwards."""
    (folder / "README.md").write_text(card, encoding="utf-8")
    found = report(str(dataset or folder), folder, coverage=False, **options)
    return (folder / "README.md").read_text(encoding="utf-8"), found


def headings(card):
    return [line for line in card.splitlines() if line.startswith("## ")]


def short_row(number, **changes):
    """Return a row of few columns, which make few figures."""
    names = ("uuid", "instruction", "response", "keep", "drop_reason")
    return {name: row(number)[name] for name in names} | changes


@pytest.fixture
def own(tmp_path):
    rows = [short_row(n) for n in range(9)]
    rows[0]["instruction"] = "Name the tallest trees of the north and say why they grow so tall"
    return run_folder(tmp_path / "run", rows, RUN)


def exam(folder, text):
    path = folder / "exam.jsonl"
    path.write_text(json.dumps({"prompt": text}), encoding="utf-8")
    return [str(path)]


def test_the_card_of_a_runs_own_folder_says_what_the_report_says(own, tmp_path):
    asked = "Name the tallest trees of the north and say why they grow so tall"
    card, found = told(own, decontaminate=exam(tmp_path, asked))
    assert "compared with no evaluation set" not in card
    assert "| exam (evaluation) | 1 | 1 | 1 | 1 |" in card
    assert f"| exam | 100% | `{asked}` | `{asked}` |" in card
    for file, caption in figure_names(found.statistics):
        assert f"![{plain(caption)}]({file})" in card
    assert "old.png" not in card
    assert headings(card) == headings(CARD)
    assert card.startswith("---\nlicense: mit\n---\n\n# Trees\n\n## Counts\n\nMine.\n")
    assert card.endswith("People looked.\n\n## What it took\n\nTime.\n")
    assert told(own, card=card, decontaminate=exam(tmp_path, asked))[0] == card
    back, _ = told(own, own / "data", card=card)
    assert "compared with no evaluation set" in back
    assert not list(own.rglob("*.tmp"))


def test_a_card_without_these_sections_gets_them_in_their_place(own):
    card, _ = told(own, card="# Trees\n\n## Counts\n\nMine.\n\n## What it took\n\nTime.\n")
    assert headings(card) == [each for each in headings(CARD) if each != "## Human review"]


def test_hostile_rows_do_not_change_the_card(tmp_path):
    asked = "</details> | `a` | <script>alert(1)</script> www.evil.com ann@acme.com \\(x\\) $$y$$"
    texts = {"harmless": "Name the tallest trees of the north and say why", "hostile": asked}
    shapes = {}
    for name, text in texts.items():
        folder = run_folder(tmp_path / name, [short_row(0, instruction=text), short_row(1)], RUN)
        card, _ = told(folder, decontaminate=exam(tmp_path, text))
        [table] = [part for part in card.split("\n\n") if part.startswith("| set | share")]
        shapes[name] = len(table.splitlines())
        html = (
            MarkdownIt("commonmark", {"html": True})
            .enable("table")
            .render(card.split("---\n", 2)[2])
        )
        assert html.count("<td>exam</td>") == 1
        assert not re.search("<script|</details|<a ", html)
        assert "ann@acme.com" not in card
    assert shapes["harmless"] == shapes["hostile"] == 3


def test_only_the_runs_own_rows_are_told_on_its_card(own, dataset, tmp_path):
    assert told(own, dataset)[0] == CARD
    lonely = run_folder(tmp_path / "no-run", [short_row(0)])
    assert told(lonely)[0] == CARD
    (own / "README.md").unlink()
    report(str(own), own, coverage=False)
    assert not (own / "README.md").exists()


def test_a_card_that_is_not_utf8_is_told(own):
    found = Findings(
        statistics_of("x", [next(own.rglob("*.parquet"))]), Contamination(9, 0, (), ())
    )
    (own / "README.md").write_bytes(b"# Tr\xe9es\n")
    with pytest.raises(ValueError, match=r"README\.md cannot be read as UTF-8.*save it in UTF-8"):
        tell_card(own, found)
    assert (own / "README.md").read_bytes() == b"# Tr\xe9es\n"


def test_the_card_that_a_job_writes_is_what_a_report_says(own):
    """A report with the same settings leaves it as it is, whichever of both was there before."""
    from magpie_steps.card.record import RunRecord
    from magpie_steps.effort import Effort
    from magpie_steps.repository import write_repository
    from magpie_steps.summary import summarise

    rows = [row(n) for n in range(20)]
    record = RunRecord("Trees", "m", {"seed": 0}, "<user>", Effort(1.0))
    write_repository(own, rows, summarise(rows), record)
    card = (own / "README.md").read_text(encoding="utf-8")
    report(str(own), own, coverage=False)
    assert (own / "README.md").read_text(encoding="utf-8") == card
