import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from reported_rows import HOSTILE, pair_row, row, write_rows

from magpie_steps.report import figures, theme
from magpie_steps.report.binning import Histogram
from magpie_steps.report.charts import NAMES, charts_of, figure_names
from magpie_steps.report.counting import statistics_of
from magpie_steps.report.coverage import Cloud
from magpie_steps.report.figures import Mark, Part
from magpie_steps.report.verbs import Verb


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    rows = [{**row(n), **pair_row(n), "turns": 1 + n % 3} for n in range(100)]
    statistics = statistics_of("ours", write_rows(tmp_path_factory.mktemp("rows"), rows))
    return replace(
        statistics,
        verbs=(Verb("write", 30, (("story", 20), ("poem", 5))), Verb("explain", 7, ())),
        clouds=(Cloud("ours", [0.0, 1.0], [1.0, 2.0]), Cloud("other", [2.0], [0.5])),
    )


def texts_of(svg):
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("text")]


def axes_of(figure):
    return figure.axes[0]


def test_a_full_dataset_has_every_figure_once_and_in_order(found):
    assert tuple(chart.name for chart in charts_of(found)) == NAMES
    assert figure_names(found) == [
        (f"figures/{chart.name}.png", chart.caption) for chart in charts_of(found)
    ]


def test_every_figure_says_what_it_shows(found):
    for chart in charts_of(found):
        figure = chart.draw()
        axes = axes_of(figure)
        assert figure.get_suptitle(), chart.name
        assert axes.get_xlabel(), chart.name
        assert axes.get_ylabel(), chart.name
        assert chart.caption.endswith(".")
        assert chart.alt.endswith(".")
        assert all(len(line) == len(chart.table.header) for line in chart.table.lines)


def test_a_dataset_with_texts_alone_has_the_figures_of_texts(tmp_path):
    import pyarrow as pa
    from reported_rows import write_table

    table = pa.table({"instruction": ["a b", "c"], "response": ["d", "e f"]})
    found = statistics_of("x", write_table(tmp_path, table))
    names = [chart.name for chart in charts_of(found)]
    assert names == ["instruction-lengths", "response-lengths"]
    assert "estimated" in axes_of(charts_of(found)[0].draw()).get_xlabel()


def test_without_rows_there_is_no_figure(tmp_path):
    assert charts_of(statistics_of("x", write_rows(tmp_path, []))) == []


def test_bars_are_as_long_as_their_counts():
    parts = [Part("kept", [3, 0]), Part("removed", [1, 2])]
    axes = axes_of(figures.bars("T", "rows", "kind", ["a", "b"], parts))
    assert [bar.get_width() for bar in axes.patches] == [3, 0, 1, 2]
    assert [bar.get_x() for bar in axes.patches] == [0, 0, 3, 0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["4", "2"]


def test_histograms_are_drawn_between_their_edges():
    parts = [Part("kept", [1, 5]), Part("removed", [2, 0])]
    axes = axes_of(figures.stacked("T", "tokens", [0, 10, 20], parts, [Mark(12, "median")]))
    assert [(bar.get_x(), bar.get_height()) for bar in axes.patches] == [
        (0, 1),
        (10, 5),
        (0, 2),
        (10, 0),
    ]
    assert [text.get_text() for text in axes.texts] == ["median"]
    assert axes.get_xlim() == (0, 20)


def test_a_mark_outside_is_not_drawn():
    axes = axes_of(figures.stacked("T", "x", [0, 1], [Part("rows", [1])], [Mark(5, "far")]))
    assert not axes.texts


def test_outlines_have_their_own_counts():
    histograms = [("a", Histogram((0, 1, 2), (1, 2))), ("b", Histogram((0, 1, 2), (4, 0)))]
    steps = axes_of(figures.outlines("T", "reward", histograms)).patches
    assert [list(each.get_data().values) for each in steps] == [[1, 2], [4, 0]]


def test_maps_show_every_point():
    axes = axes_of(figures.scatter("T", [("a", [0, 1], [2, 3]), ("b", [], [])]))
    assert [list(line.get_xdata()) for line in axes.lines] == [[], [0, 1]]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_drawn_as_itself(text):
    figure = figures.bars("T", "rows", "kind", [text, "b"], [Part("rows", [1, 2])], [text, "n"])
    svg = theme.svg(figure, "name", text)
    drawn = theme.label(text)
    assert drawn in texts_of(svg) or not drawn
    assert len(drawn) <= theme.LABEL_CHARACTERS
    assert drawn.isprintable()
    assert "<script" not in svg
    assert "onerror" not in re.sub(r">[^<]*<|aria-label=\"[^\"]*\"", "", svg)
    assert theme.png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Math", "Math"),
        ("a\n  b\tc", "a b c"),
        ("x" * 40, f"{'x' * 27}…"),
        ("$x^{2$", "$x^{2$"),
        ("\u202eab", "\\u202eab"),
        ("汉字", "\ufffd\ufffd"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_labels_are_short_and_can_be_seen(text, shown):
    assert theme.label(text) == shown


def test_svgs_of_one_page_share_no_name_and_are_always_the_same(found):
    drawn = [theme.svg(chart.draw(), chart.name, chart.alt) for chart in charts_of(found)]
    ids = [name for svg in drawn for name in re.findall(r'\bid="([^"]*)"', svg)]
    assert len(ids) == len(set(ids)) > 100
    used = {name for svg in drawn for name in re.findall(r'(?:href="#|url\(#)([^")]*)', svg)}
    assert used <= set(ids)
    again = [theme.svg(chart.draw(), chart.name, chart.alt) for chart in charts_of(found)]
    assert drawn == again


def test_svgs_have_no_colour_but_the_pages(found):
    for chart in charts_of(found):
        svg = theme.svg(chart.draw(), chart.name, chart.alt)
        assert not re.findall(r"#[0-9a-f]{6}\b", svg), chart.name
        assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(theme.LIGHT)
        for forbidden in ("<metadata", "<style", "<!DOCTYPE", "<?xml", "<!--", "data:"):
            assert forbidden not in svg


def contrast(one, other):
    def luminance(colour):
        values = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(colours):
    """As WCAG 2 asks for: 4.5 for text, 3 for graphics."""
    paper = colours["paper"]
    assert contrast(colours["ink"], paper) >= 7
    assert contrast(colours["muted"], paper) >= 4.5
    assert contrast(colours["first"], paper) >= 4.5  # the colour of links too
    assert all(contrast(colours[name], paper) >= 3 for name in theme.SERIES)


def test_themes_have_the_same_names_and_no_colour_twice():
    assert theme.LIGHT.keys() == theme.DARK.keys()
    assert len(set(theme.LIGHT.values())) == len(theme.LIGHT)


def test_captions_count_what_is_missing(tmp_path):
    rows = [row(n, difficulty=("easy", "", "Easy!", "hard")[n % 4]) for n in range(8)]
    found = statistics_of("x", write_rows(tmp_path, rows))
    chart = next(each for each in charts_of(found) if each.name == "difficulty")
    assert chart.caption == (
        "Difficulty of instructions: 4 rows have a label; 2 have an unknown label; 2 have none."
    )
    assert ("hard", "2", "50.0%") in chart.table.lines


def test_captions_say_when_a_sample_is_drawn(found):
    sampled = replace(found, sampled=50)
    caption = next(c.caption for c in charts_of(sampled) if c.name == "instruction-lengths")
    assert "a random sample of 50 rows" in caption
    caption = next(c.caption for c in charts_of(found) if c.name == "instruction-lengths")
    assert "sample" not in caption


def test_captions_say_when_outer_bars_hold_more(tmp_path):
    rows = [row(n, response_tokens=10_000 if n == 7 else 10 + n % 5) for n in range(300)]
    found = statistics_of("x", write_rows(tmp_path, rows))
    chart = next(each for each in charts_of(found) if each.name == "response-lengths")
    assert "lies beyond" in chart.caption
    assert chart.table.lines[-1][0].endswith("+")


def test_many_languages_are_drawn_together_and_listed_apart(tmp_path):
    rows = [row(n, language=f"L{n % 20}") for n in range(100)]
    found = statistics_of("x", write_rows(tmp_path, rows))
    chart = next(each for each in charts_of(found) if each.name == "languages")
    labels = [text.get_text() for text in axes_of(chart.draw()).get_yticklabels()]
    assert labels[-1] == "(others)"
    assert len(labels) == 13
    assert len(chart.table.lines) == 20
    widths = [bar.get_width() for bar in axes_of(chart.draw()).patches]
    assert sum(widths) == 100


def test_whole_numbers_are_named_as_such(found):
    lines = next(c.table.lines for c in charts_of(found) if c.name == "repeats")
    assert [line[0] for line in lines] == [
        *("0", "1", "2", "3 to 4", "5 to 9", "10 to 19", "20 to 49", "50 to 99", "100 to 199"),
        "200+",
    ]
    assert lines[0][1] == str(sum(n % 11 != 0 for n in range(100)))
    turns = next(c.table.lines for c in charts_of(found) if c.name == "turns")
    assert turns[0] == ("1", "34")
    assert turns[-1][0] == "10+"
