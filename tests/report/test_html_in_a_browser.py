"""The HTML report in a real browser: no text of a scenario runs, asks anybody, or shows as anything but itself."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from simulator import load_scenario
from simulator.report.formats import FORMATS, ReportItem
from simulator.results.document import to_json
from simulator.results.run_result import from_json
from tests.chromium import Watched, chromium, watched_page
from tests.report.made import small_item
from tests.report.payloads import PAYLOADS, poisoned
from tests.report.test_console import RESULT

pytestmark = pytest.mark.browser

PRINTED_WIDTH = 703
"""Pixels of an A4 page inside its margins."""
DRAWN = "() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
HOVERS = """() => {
  const texts = [], foreign = '.hoverlayer a, .hoverlayer image, .hoverlayer foreignObject';
  document.querySelectorAll('.js-plotly-plot').forEach((node) => {
    node.data.forEach((trace, curve) => {
      const count = Math.min(2, (trace.x || []).length);
      for (let point = 0; point < count; point += 1) {
        try { Plotly.Fx.hover(node, [{curveNumber: curve, pointNumber: point}]); }
        catch (error) { texts.push(String(error)); }
        node.querySelectorAll(foreign).forEach(() => texts.push('element'));
      }
    });
  });
  return texts;
}"""


def written(tmp_path: Path, items: list[ReportItem]) -> str:
    path = tmp_path / "report.html"
    path.write_bytes(FORMATS["html"].render(items))
    return path.as_uri()


def is_harmless(watched: Watched, url: str) -> str:
    """Opens the page, points at every picture, opens what is folded; returns the page's text. Asserts that nothing ran."""
    page: Any = watched.page
    page.add_init_script("window.alert = () => { window.ran = true; };")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    page.wait_for_function(DRAWN)
    page.evaluate("() => document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert page.evaluate(HOVERS) == []
    assert page.evaluate("() => window.ran") is None
    assert [asked for asked in requests if not asked.startswith(("data:", "blob:"))] == [url]
    assert watched.foreign == []
    assert watched.dialogs == []
    assert watched.errors == []
    assert page.url == url
    assert page.evaluate("() => document.scripts.length") == page.evaluate(
        "() => 2 + document.querySelectorAll('script[type=\"application/json\"]').length"
    )
    assert (
        page.evaluate("() => document.querySelectorAll('main a, img, iframe, object, embed, form, base').length") == 0
    )
    assert page.evaluate("() => document.querySelectorAll('.js-plotly-plot a').length") == 0
    return str(page.evaluate("() => document.body.textContent"))


def test_texts_of_a_result_file_are_shown_and_nothing_else(tmp_path: Path) -> None:
    shown = ""
    with chromium() as browser:
        for turn in range(0, len(PAYLOADS), 8):
            texts = cycle([*PAYLOADS[turn:], *PAYLOADS[:turn]])
            result = from_json(json.dumps(poisoned(json.loads(to_json(RESULT)), texts)))
            with watched_page(browser) as watched:
                shown += is_harmless(watched, written(tmp_path, [ReportItem(result, None, PAYLOADS[turn])]))
    assert [payload for payload in PAYLOADS if payload not in shown] == []


@pytest.mark.parametrize("turn", [0, 1])
def test_texts_of_a_scenario_are_shown_and_nothing_else(turn: int, tmp_path: Path) -> None:
    """Names of a scenario, its model and its phases, simulated, with the timeline, beside each other."""
    names = [payload for payload in PAYLOADS if payload.isprintable()][turn::2]
    item = small_item()
    many = []
    for name, model, phase in zip(names[::3], names[1::3], names[2::3], strict=False):
        scenario = load_scenario(item.result.scenario, [], reads_files=False)
        named = load_scenario(
            {**scenario.canonical(), "name": name, "model": {**scenario.canonical()["model"], "name": model}}
            | {"phases": [{"name": phase, "tokens": 1e12}]}
        )
        phases = tuple(each.model_copy(update={"name": phase}) for each in item.result.phases)
        many.append(ReportItem(item.result.model_copy(update={"scenario": named.canonical(), "phases": phases})))
    with chromium() as browser, watched_page(browser) as watched:
        text = is_harmless(watched, written(tmp_path, [many[0], ReportItem(item.result, item.timeline), *many[1:7]]))
    for each in many[:7]:
        assert str(each.result.scenario["name"]) in text
        assert each.result.phases[0].name in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_a_file_without_complaint(scheme: str, tmp_path: Path) -> None:
    with chromium() as browser, watched_page(browser, color_scheme=scheme) as watched:
        text = is_harmless(watched, written(tmp_path, [small_item()]))
        page = watched.page
        background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        width = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        drawn = page.evaluate("() => document.querySelectorAll('[data-chart]').length")
        whole = page.evaluate("() => document.querySelectorAll('.js-plotly-plot').length")
    assert "In short" in text
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert width[0] <= width[1]
    assert drawn == whole >= 6


def test_it_prints_on_white_with_every_picture_inside_the_page(tmp_path: Path) -> None:
    with chromium() as browser, watched_page(browser, color_scheme="dark") as watched:
        page = watched.page
        page.goto(written(tmp_path, [small_item()]))
        page.wait_for_function("() => document.querySelectorAll('.main-svg').length > 0")
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
        page.emulate_media(media="print")
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        widths = page.evaluate("() => [...document.querySelectorAll('.main-svg')].map((node) => node.clientWidth)")
        page.set_viewport_size({"width": PRINTED_WIDTH, "height": 1000})
        needed = page.evaluate("() => document.documentElement.scrollWidth")
        closed = page.evaluate("() => document.querySelectorAll('details[data-printed]:not([open])').length")
        page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
        opened = page.evaluate("() => document.querySelectorAll('details[open]').length")
    assert max(widths) <= PRINTED_WIDTH
    assert needed <= PRINTED_WIDTH, "a browser would shrink all of the print to this"
    assert closed == 0
    assert opened == 0


def test_the_axe_finds_nothing_serious(tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        with chromium() as browser, watched_page(browser, color_scheme=scheme, bypass_csp=True) as watched:
            watched.page.goto(written(tmp_path, [small_item()]))
            watched.page.wait_for_function("() => document.querySelectorAll('.main-svg').length > 0")
            found = Axe().run(watched.page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
