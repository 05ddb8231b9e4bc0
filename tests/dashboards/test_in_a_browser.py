"""The dashboard in a real Chromium, as a person uses it: pages, a change, a pin, a window, an export, a link opened again."""

from __future__ import annotations

from collections.abc import Iterator
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


def whole(page: Any) -> str:
    """The page's text once nothing is computed any more and it stays the same for a second."""
    page.wait_for_selector("h1", timeout=WAIT_MS)
    before, same = "", 0
    for _ in range(WAIT_MS // 250):
        page.wait_for_timeout(250)
        busy = page.locator("[data-testid=stProgress], [data-testid=stSpinner]").count()
        now = str(page.evaluate("() => document.body.innerText"))
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
