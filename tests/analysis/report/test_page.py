"""The HTML file itself: escaped, small, and as a real browser shows it."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from html import unescape

import pytest

from fedmpi.analysis.looks import COLOURS
from fedmpi.analysis.report import collect, html
from fedmpi.analysis.report.content import Chart, Headline, Report, Section, Series, Table
from fedmpi.analysis.report.page import MOST_BYTES
from fedmpi.analysis.runs import load

HOSTILE = "<script>alert(1)<&b>\"'${x}"
BROWSER = shutil.which("chromium")
READY_MS = 240_000
"""For a machine that has much else to do; nothing is asserted on it."""


@pytest.fixture(scope="module")
def page_of_eventful(eventful, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_text(html(collect(load([eventful]))))
    return path


@pytest.fixture(scope="module")
def page_of_sweep(small_sweep, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "sweep.html"
    path.write_text(html(collect(load([small_sweep]))))
    return path


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium, Debian's own."""
    if BROWSER is None:
        pytest.skip("the Debian package chromium is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Opens a page; what it logs and requests, besides itself, must be nothing."""
    contexts, noticed = [], []

    def open_page(path, width=1280, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(READY_MS)
        page.on("console", lambda message: noticed.append(message.text))
        page.on("pageerror", lambda error: noticed.append(str(error)))
        page.on("dialog", lambda dialog: noticed.append(dialog.message))
        page.on("request", lambda request: noticed.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", state="attached")
        assert noticed == [path.as_uri()]
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_all_text_is_escaped():
    lines = Series(HOSTILE, 0, [0], [0.5])
    chart = Chart(HOSTILE, "lines", HOSTILE, HOSTILE, (lines,), note=HOSTILE)
    table = Table((HOSTILE, HOSTILE), ((HOSTILE, HOSTILE),), HOSTILE)
    section = Section("one", HOSTILE, (HOSTILE,), (chart,), (table,))
    headline = Headline(HOSTILE, HOSTILE, HOSTILE)
    report = Report(HOSTILE, HOSTILE, (headline,), (section,), (HOSTILE, HOSTILE), (HOSTILE,))
    page = html(report, datetime(2026, 1, 2, tzinfo=UTC))
    assert "alert(1)<" not in page
    assert page.count("<script") == 3  # plotly.js, the data, and the page's own
    assert len(re.findall(re.escape("&lt;script&gt;alert(1)&lt;&amp;b&gt;"), page)) >= 18
    assert HOSTILE in unescape(page)
    assert "on 2026-01-02 00:00 UTC" in page


@pytest.mark.parametrize("name", ["page_of_eventful", "page_of_sweep"])
def test_pages_are_small_and_name_no_other_place(name, request):
    text = request.getfixturevalue(name).read_text()
    assert len(text.encode()) < MOST_BYTES
    rest = re.sub(r'(?s)<script type="text/plain".*?</script>', "", text)
    assert not re.search(r"https?://|src=|@import|url\(", rest)


def test_what_was_not_measured_is_no_number(page_of_eventful):
    rest = re.sub(r"(?s)<(script|style).*?</\1>", "", page_of_eventful.read_text())
    assert "nan" not in re.sub(r"<[^>]*>", " ", rest).lower().split()
    assert "unknown" in rest


def text_of(page, selector):
    return page.locator(selector).first.inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_a_run_in_a_browser(opened, page_of_eventful, width, scheme):
    page = opened(page_of_eventful, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == f"{HOSTILE} - fedmpi"
    assert text_of(page, "h1") == HOSTILE
    sections = page.eval_on_selector_all("section", "all => all.map(one => one.id)")
    assert sections == page.eval_on_selector_all("nav a", "all => all.map(one => one.hash.slice(1))")
    drawn = 'all => all.map(one => one.querySelector(".main-svg") !== null)'
    charts = page.locator("figure[data-chart]:visible").evaluate_all(drawn)
    assert all(charts)
    assert len(charts) > 8
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
    assert not page.locator("#problem").is_visible()


def test_another_round_can_be_chosen(opened, page_of_eventful):
    page = opened(page_of_eventful)
    assert text_of(page, "#round output") == "Round 5: from 45 to 54 s, 4 participants, 1 late, 1 dropped"
    ticks = "#round .plot .ytick"
    assert page.locator(ticks).all_text_contents() == ["0", "1", "2 late", "3 dropped"]
    page.locator('#round input[type="range"]').fill("1")
    assert text_of(page, "#round output").startswith("Round 1: from 9 to 18 s, 4 participants, 1 late")
    assert page.locator(ticks).all_text_contents() == ["0", "1", "2 late", "3"]
    page.get_by_label("next round").click()
    assert text_of(page, "#round output").startswith("Round 2: from 18 to 27 s")
    page.locator("[data-longest]").click()
    assert text_of(page, "#round output").startswith("Round 0:")


def test_a_sweep_in_a_browser(opened, page_of_sweep):
    page = opened(page_of_sweep, 375)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    before = text_of(page, "#round figure:visible output")
    page.locator("#run").select_option("2")
    after = text_of(page, "#round figure:visible output")
    assert before.startswith("Round 11:")
    assert after.startswith("Round 11:")
    assert before != after
    strokes = "#accuracy .plot >> nth=0"
    lines = "all => all.map(one => getComputedStyle(one).stroke)"
    drawn = page.locator(strokes).locator(".js-line").evaluate_all(lines)
    rgb = ["rgb({}, {}, {})".format(*bytes.fromhex(colour[1:])) for colour in COLOURS[:2]]
    assert set(rgb) <= set(drawn)
    page.locator("#accuracy .legend button", has_text="fab").click()
    left = page.locator(strokes).locator(".js-line").evaluate_all(lines)
    assert rgb[0] in left
    assert rgb[1] not in left


def test_an_accuracy_that_stays_has_no_axis_below_zero(opened, made_up, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(html(collect(load([made_up("a", 0.0)]))))
    page = opened(path)
    ticks = page.locator("#accuracy .plot").first.locator(".ytick").all_text_contents()
    assert ticks
    assert all(float(tick.replace("\N{MINUS SIGN}", "-")) >= 0 for tick in ticks)
