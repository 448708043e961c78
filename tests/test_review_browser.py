"""Reviews as people see them, in Chromium; MAGPIE_SCREENSHOTS names a folder for pictures."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from argilla_server import PASSWORD, running_server
from review_rows import PLANNING, chat, review_row, several_turns, write_dataset

from magpie_steps.review.pull import pull
from magpie_steps.review.push import push

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")
]

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("argilla", reason="needs Argilla: pip install 'magpie-steps[argilla]'")
pytestmark = [
    pytest.mark.argilla,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def server():
    with running_server() as found:
        yield found


@pytest.fixture
def page(server):
    """A page that notes where it asks for anything, and what its scripts open."""
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        opened = browser.new_page(viewport={"width": 1400, "height": 950})
        opened.set_default_timeout(20_000)
        opened.asked, opened.dialogs = [], []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.on("dialog", lambda dialog: (opened.dialogs.append(dialog), dialog.dismiss()))
        # Argilla's own fonts; everything else off the server would be a leak.
        opened.route("**://fonts.googleapis.com/**", lambda route: route.abort())
        yield opened
        browser.close()


def sign_in(page, url, name):
    page.goto(f"{url}/sign-in")
    page.fill("input[type=text]", name)
    page.fill("input[type=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda there: "sign-in" not in there)


def bubbles(page):
    """Wait for a record and return the texts of its conversation."""
    page.wait_for_selector(".chat__bubble")
    page.wait_for_timeout(600)
    return page.locator(".chat__bubble .markdown-render").all_inner_texts()


def keep_picture(page, name):
    if folder := os.environ.get("MAGPIE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def choose(page, question, label):
    """Click a label of a question."""
    block = page.locator(f"[aria-label='{question}']").locator("xpath=..")
    block.get_by_text(label, exact=True).first.click()


def test_hostile_text_is_shown_as_text(server, page, tmp_path):
    nasty = {
        1: "<script>window.hit = 1; alert(1)</script><b>bold</b>",
        2: "![pic](http://example.com/a.png) <img src='http://example.com/b.png' onerror=alert(1)>",
        3: "\u202eright to left\u202c and \u05e9\u05dc\u05d5\u05dd",
        4: "# No heading\n\n</div></details></table>\n\n- no list\n\n    $x^2$ `code`",
        5: "50 KB: " + "abc <i>&amp; " * 4000,
    }
    rows = [
        review_row(
            n,
            instruction=text,
            response=text,
            base_response=f"base {text}",
            intent=text,
            messages=chat(text, text, system=text),
        )
        for n, text in nasty.items()
    ]
    workspace = server.workspace()
    pushed = push(write_dataset(tmp_path, rows), "hostile", 9, workspace=workspace, **server.access)
    sign_in(page, server.url, server.annotator(workspace).name)
    page.goto(pushed.url)
    seen = {}
    for place in range(len(nasty)):
        if place:
            page.locator("[aria-label^='Next']").first.click()
        text = "".join(bubbles(page))
        page.locator("summary").click()
        n = next(n for n in nasty if _visible(nasty[n])[:6] == text[:6])
        seen[n] = text
        answers_shown = page.locator(".text_field_component").all_text_contents()
        assert _squeezed(_visible(nasty[n])) in _squeezed(answers_shown[0])
        assert _squeezed(f"base {_visible(nasty[n])}") in _squeezed(answers_shown[0])
        assert _squeezed(_visible(nasty[n])) in _squeezed(answers_shown[1])
        keep_picture(page, f"hostile-{n}")
    assert {n: _squeezed(text) for n, text in seen.items()} == {
        n: _squeezed(_visible(text)) for n, text in nasty.items()
    }
    assert page.dialogs == []
    assert page.evaluate("window.hit") is None
    assert page.locator(".chat__bubble h1, .chat__bubble img, .chat__bubble script").count() == 0
    foreign = [url for url in page.asked if not url.startswith((server.url, "data:", "blob:"))]
    assert [url for url in foreign if "fonts.googleapis.com" not in url] == []


def _visible(text):
    return text.replace("\u202e", "\\u202e").replace("\u202c", "\\u202c")


def _squeezed(text):
    return "".join(text.split())


def test_three_records_are_annotated_and_come_back(server, page, tmp_path):
    rows = {row["instruction"]: row for row in (several_turns(1), review_row(2), review_row(3))}
    folder = write_dataset(tmp_path, rows.values())
    workspace = server.workspace()
    access = {**server.access, "workspace": workspace}
    push(folder, "three", 3, **access)
    person = server.annotator(workspace)
    sign_in(page, server.url, person.name)
    page.get_by_text("three", exact=True).first.click()
    expected = {}
    for _ in rows:
        texts = bubbles(page)
        row = rows[texts[0]]
        if row["turns"] == 2:
            assert texts == [message["content"] for message in row["messages"][1:]]
            page.locator("summary").click()
            assert PLANNING in page.locator(".text_field_component").last.inner_text()
            keep_picture(page, "review-conversation")
        else:
            assert texts == [row["instruction"]]
            shown = page.locator(".text_field_component").first.inner_text()
            assert row["response"] in shown
            assert row["base_response"] in shown
            keep_picture(page, "review-pair")
        keep = "keep"
        if row["row"] == 3:
            choose(page, "Keep this row?", "drop")
            choose(page, "How hard is it to answer?", "very easy")
            keep = "drop"
        expected[row["uuid"]] = keep, "very easy" if keep == "drop" else row["difficulty"]
        with page.expect_response(lambda answer: "/responses" in answer.url):
            page.get_by_role("button", name="Submit").click()
        page.wait_for_timeout(800)
    page.goto(page.url.split("?")[0])
    review = pull(folder, "three", **access).review
    assert (review["rows"], review["verdicts"], review["annotators"]) == (3, 3, 1)
    found = {row["uuid"]: row for row in pq.read_table(folder / "reviewed").to_pylist()}
    assert {u: (r["human_keep"], r["human_difficulty"]) for u, r in found.items()} == expected
    for uuid, row in found.items():
        assert row["human_input_quality"] == row["input_quality"]
        assert row["human_task_category"] == row["task_category"]
        assert row["machine_keep"] is True
        assert row["keep"] == (expected[uuid][0] == "keep")
    pairs = pq.read_table(folder / "reviewed_preference").to_pylist()
    assert {pair["uuid"] for pair in pairs} == {r["uuid"] for r in rows.values() if r["turns"] == 1}
    for pair in pairs:
        row = next(r for r in rows.values() if r["uuid"] == pair["uuid"])
        better = "response" if row["reward_difference"] > 0 else "base_response"
        assert pair["chosen"] == [{"role": "assistant", "content": row[better]}]
