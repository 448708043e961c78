"""The page in a browser, on a phone and on a desk, in light and in dark."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from reported_rows import HOSTILE, row, write_rows

from magpie_steps.report import sections, theme
from magpie_steps.report.charts import NAMES, charts_of
from magpie_steps.report.contamination import Contamination, Near, PersonalData, SetOverlap
from magpie_steps.report.contamination import Example as Overlap
from magpie_steps.report.costs import Cost
from magpie_steps.report.counting import statistics_of
from magpie_steps.report.coverage import Cloud
from magpie_steps.report.page import render
from magpie_steps.report.verbs import Verb

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
FLAGS += ["--disable-background-networking"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not os.access(CHROMIUM, os.X_OK), reason=f"there is no {CHROMIUM}"),
]

SIZES = """() => [...document.querySelectorAll("svg.figure")].map(svg => {
  const scale = svg.getScreenCTM().a, box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(text => {
    const own = text.getBoundingClientRect();
    return {
      said: text.textContent,
      size: parseFloat(getComputedStyle(text).fontSize) * scale,
      colour: getComputedStyle(text).fill,
      inside: own.left >= box.left - 2 && own.right <= box.right + 2
        && own.top >= box.top - 2 && own.bottom <= box.bottom + 2,
    };
  });
  return {name: svg.getAttribute("aria-label"), width: box.width, height: box.height, texts};
})"""

OUTLINE = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
  .map(each => each.tagName + (each.tagName == "H1" ? "" : " " + each.textContent))"""


def page_of(folder: Path, texts: list[str]) -> Path:
    """Write a page in which texts stand wherever a page has texts from data."""
    rows = [
        row(
            n,
            turns=1 + n % 3,
            responses=[texts[n % len(texts)], texts[(n + 1) % len(texts)]],
            responses_tokens=[1, 2],
            responses_rewards=[0.5, -0.5],
            chosen_score=0.5 + n,
            rejected_score=-0.5,
            score_margin=1.0 + n,
            instruction=texts[n % len(texts)],
            response=texts[(n + 1) % len(texts)],
            language=texts[n % len(texts)][:60],
            drop_reason="" if n % 5 != 4 else texts[n % len(texts)][:60],
            tag_failures=[{"tag": texts[n % len(texts)], "reason": "r", "raw": ""}],
            unsafe_categories=[texts[n % len(texts)][:60]] if n % 10 == 0 else [],
        )
        for n in range(90)
    ]
    overlap = Overlap(1, texts[0], texts[1], 0.75)
    near = Near(1, 2, 3)
    repeated = Contamination(
        90,
        0,
        tuple(
            SetOverlap(text, bool(n), 5, 0, True, 2, 1, 1, near, (overlap,))
            for n, text in enumerate(texts[:2])
        ),
        (PersonalData("email", 1, 2, tuple(texts[:3])),),
    )
    statistics = replace(
        statistics_of(texts[0][:60], write_rows(folder, rows)),
        verbs=tuple(Verb(text[:60], 9, ((text[:60], 3),)) for text in texts[:5]),
        clouds=tuple(Cloud(text[:60], [0.0, 1.0], [1.0, 0.5]) for text in texts[:3]),
    )
    drawn = {chart.name: chart for chart in charts_of(statistics)}
    cost = Cost((("time", texts[3]), ("speed", "2")), 0.5, texts[2])
    figures = {n: theme.svg(chart.draw(), n, chart.alt) for n, chart in drawn.items()}
    path = folder / "report.html"
    findings = sections.Findings(statistics, repeated, cost, drawn)
    path.write_text(render(findings, figures), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    plain = [f"text {n}" for n in range(len(HOSTILE) - 1)] + [""]
    return {
        name: page_of(tmp_path_factory.mktemp(name), list(texts))
        for name, texts in (("harmless", plain), ("hostile", HOSTILE))
    }


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Opened:
    """A page in a browser, and what it did."""

    def __init__(self, browser, path, width=390, scheme="light"):
        self._context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme
        )
        self.page = self._context.new_page()
        self.said, self.requests = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.close()


def channels(colour):
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def contrast(one, other):
    def luminance(colour):
        values = [channel / 255 for channel in channels(colour)]
        red, green, blue = (
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1440])
@pytest.mark.parametrize("name", ["harmless", "hostile"])
def test_a_page_is_readable_and_quiet(browser, pages, name, width, scheme):
    with Opened(browser, pages[name], width, scheme) as opened:
        page = opened.page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(channels(paper)) < 300) == (scheme == "dark")
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert contrast(ink, paper) >= 7
        figures = page.evaluate(SIZES)
        assert len(figures) == len(NAMES)
        for figure in figures:
            assert figure["width"] >= min(280, width - 50), figure["name"]
            assert figure["height"] >= 100
            for text in figure["texts"]:
                least = 9 if width >= 390 else 7
                assert text["size"] >= least or not text["said"].strip(), text
                assert contrast(text["colour"], paper) >= 4.5, text
                assert text["inside"], (figure["name"], text)
        assert opened.said == []
        assert opened.requests == [pages[name].as_uri()]


def test_hostile_texts_change_nothing_but_texts(browser, pages):
    outlines = []
    for path in pages.values():
        with Opened(browser, path) as opened:
            outlines.append(opened.page.evaluate(OUTLINE))
            assert opened.page.evaluate("document.scripts.length") == 0
            assert opened.page.evaluate("document.images.length") == 0
            assert opened.page.title().endswith(": report")
    assert outlines[0] == outlines[1]
    assert len(outlines[0]) > 10


def test_hostile_texts_can_be_read(browser, pages):
    with Opened(browser, pages["hostile"]) as opened:
        rows = opened.page.locator(".row dd").all_text_contents()
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[5], HOSTILE[7]):
        assert any(text in each for each in rows) or len(rows) < 2 * len(HOSTILE), text
    assert not any("\u202e" in each for each in rows)


def test_the_policy_forbids_scripts_that_get_in(browser, pages, tmp_path):
    """The second line of defence: even a script in the page's own markup does not run."""
    page = pages["harmless"].read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(page.replace("</main>", f"{HOSTILE[0]}</main>"), encoding="utf-8")
    with Opened(browser, broken) as opened:
        assert opened.page.title().endswith(": report")
        assert opened.requests == [broken.as_uri()]
        assert any("Content Security Policy" in line for line in opened.said)


def test_the_first_screen_of_a_phone_shows_the_numbers(browser, pages):
    with Opened(browser, pages["harmless"]) as opened:
        box = opened.page.locator(".glance").bounding_box()
    assert box["y"] + box["height"] < 844


def test_figures_are_named_for_those_who_do_not_see_them(browser, pages):
    with Opened(browser, pages["harmless"]) as opened:
        names = opened.page.evaluate(
            "[...document.querySelectorAll('figure svg[role=img]')].map(s => s.ariaLabel)"
        )
        captions = opened.page.locator("figure > figcaption").count()
        tables = opened.page.locator("figure details table").count()
    assert len(names) == len(set(names)) == captions == tables == len(NAMES)
    assert all(name.endswith(".") for name in names)
