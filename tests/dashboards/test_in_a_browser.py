"""The dashboard in a real Chromium, as a person uses it: pages, a change, a pin, a window, an export, a link opened again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.settings import LOOPBACK
from dashboards.views import PAGES
from tests.chromium import Watched, chromium, watched_page
from tests.dashboards.served import server

pytestmark = pytest.mark.browser

PRESET = "mixtral-8x22b"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("served")) as (_, port):
        yield f"{LOOPBACK}:{port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def whole(page: Any, until: str = "") -> str:
    """The page's text once it holds some words, nothing is computed any more and it stays the same for a second."""
    page.wait_for_selector("h1", timeout=WAIT_MS)
    page.wait_for_function("words => document.body.innerText.includes(words)", arg=until, timeout=WAIT_MS)
    before, same = "", 0
    for _ in range(WAIT_MS // 250):
        page.wait_for_timeout(250)
        now = str(page.evaluate("() => document.body.innerText"))
        busy = "refining" in now.lower() or page.locator("[data-testid=stProgress], [data-testid=stSpinner]").count()
        same = same + 1 if now == before and not busy else 0
        before = now
        if same == 4:
            break
    return before


def opened(watched: Watched, address: str, slug: str, link: str = f"preset={PRESET}") -> str:
    path = "" if slug == PAGES[0].slug else slug
    watched.page.goto(f"http://{address}/{path}?{link}")
    return whole(watched.page)


@pytest.mark.parametrize("slug", [page.slug for page in PAGES])
def test_a_page_asks_nobody_else_and_complains_of_nothing(address: str, browser: Any, slug: str) -> None:
    with watched_page(browser, host=address) as watched:
        text = opened(watched, address, slug)
        assert watched.page.locator("[data-testid=stException]").count() == 0, text
        assert watched.foreign == []
        assert watched.errors == []
        assert serious(watched.page) == []


@pytest.mark.parametrize("slug", [page.slug for page in PAGES])
def test_a_dark_page_can_be_read(address: str, browser: Any, slug: str) -> None:
    with watched_page(browser, host=address, color_scheme="dark", viewport={"width": 1920, "height": 1080}) as watched:
        opened(watched, address, slug)
        assert serious(watched.page) == []


def serious(page: Any) -> list[str]:
    """What axe finds serious or critical: rule and the first element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_change_pin_and_reload_the_link(address: str, browser: Any) -> None:
    with watched_page(browser, host=address) as watched:
        page = watched.page
        before = opened(watched, address, "what_if")
        set_number(page, "USD a GPU-hour", "4")
        dearer = whole(page)
        assert "price=4" in page.url
        assert figure_of(dearer, "Cost") != figure_of(before, "Cost")
        assert figure_of(dearer, "Step") == figure_of(before, "Step")
        page.get_by_role("button", name="Pin as baseline").click()
        whole(page)
        set_number(page, "USD a GPU-hour", "2")
        cheaper = whole(page)
        assert "-50" in cheaper.replace("−", "-")
        link = page.url
    with watched_page(browser, host=address) as watched:
        watched.page.goto(link)
        again = whole(watched.page, "Cost")
        assert figure_of(again, "Cost") == figure_of(cheaper, "Cost")
        assert "-50" in again.replace("−", "-")
        assert watched.errors == [] and watched.foreign == []


def test_a_plan_that_cannot_be_is_explained_and_mended_by_one_click(address: str, browser: Any) -> None:
    with watched_page(browser, host=address) as watched:
        page = watched.page
        opened(watched, address, "what_if", f"preset={PRESET}&pp=13")
        offered = page.get_by_role("button", name="pp", exact=False).filter(has_text="14")
        assert offered.count() >= 1, page.evaluate("() => document.body.innerText")
        offered.first.click()
        assert figure_of(whole(page, "Cost"), "Step").endswith("s")
        assert watched.errors == []


def test_a_box_in_the_timeline_becomes_a_window_of_the_link(address: str, browser: Any) -> None:
    with watched_page(browser, host=address) as watched:
        page = watched.page
        opened(watched, address, "timeline")
        plot = page.locator(".js-plotly-plot .nsewdrag").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        assert box is not None
        middle = box["y"] + min(box["height"], 300) / 2
        page.mouse.move(box["x"] + box["width"] * 0.3, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle + 40, steps=8)
        page.mouse.up()
        page.wait_for_url("**from=*", timeout=WAIT_MS)
        text, link = whole(page), page.url
    with watched_page(browser, host=address) as watched:
        watched.page.goto(link)
        assert figure_of(whole(watched.page, "step, this draw"), "step, this draw") == figure_of(
            text, "step, this draw"
        )
        assert watched.page.url == link
        assert watched.errors == []


@pytest.mark.parametrize("kind", ["HTML", "XLSX", "CSV", "Markdown", "JSON"])
def test_each_format_is_handed_out(address: str, browser: Any, tmp_path: Path, kind: str) -> None:
    with watched_page(browser, host=address, accept_downloads=True) as watched:
        opened(watched, address, "report")
        with watched.page.expect_download(timeout=WAIT_MS) as waiting:
            watched.page.get_by_role("button", name=kind, exact=False).first.click()
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        assert re.fullmatch(rf"moesim-{PRESET}[\w.-]*\.(html|xlsx|csv|md|json)", file.name)
        assert file.stat().st_size > 1000
        assert watched.errors == []


def set_number(page: Any, label: str, text: str) -> None:
    """Types a number into a control and leaves it by the keyboard."""
    field = page.locator("input").and_(page.get_by_label(label, exact=True))
    field.fill(text)
    field.press("Enter")
    page.wait_for_timeout(500)


def figure_of(text: str, label: str) -> str:
    """The line below a figure's label."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[lines.index(label) + 1]
