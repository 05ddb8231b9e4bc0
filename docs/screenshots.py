"""python docs/screenshots.py [FOLDER]: the README's pictures made anew, or one of every page of the dashboard.

Starts the dashboard on a free port, opens it in the system's Chromium, waits until the answer is whole, and does the same with
an HTML report. Without FOLDER the README's two go to docs/images; with it every page goes there, 1280 and 1920 px wide, light
and dark. Needs `pip install -e '.[dev]'` and the package chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import sync_playwright

SCENARIO: Final = "deepseek-v3"
IMAGES: Final = Path(__file__).parent / "images"
WAIT_MS: Final = 120_000
QUIET_MS: Final = 1_500
"""How long a page's text must not change before it counts as whole."""
HEIGHT: Final = {"dashboard": 1000, "report": 1000, "page": 2600}
MOESIM: Final = (sys.executable, "-m", "simulator.cli.app")


def main(arguments: list[str]) -> int:
    """Writes the pictures; 2 where there is no Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        print("no Chromium on this system: install the package chromium", file=sys.stderr)
        return 2
    folder = Path(arguments[0]) if arguments else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, dashboard() as address:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        if arguments:
            every_page(browser, address, folder)
        else:
            picture(browser, f"{address}/?preset={SCENARIO}", folder / "dashboard.png", 1280, HEIGHT["dashboard"])
            with tempfile.TemporaryDirectory() as place:
                html = Path(place) / "report.html"
                subprocess.run([*MOESIM, "report", SCENARIO, "-o", str(html)], check=True)  # noqa: S603
                picture(browser, html.as_uri(), folder / "report.png", 1280, HEIGHT["report"])
        browser.close()
    return 0


@contextmanager
def dashboard() -> Iterator[str]:
    """The address of a running dashboard, as its command prints it."""
    command = [*MOESIM, "dashboard", "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert server.stdout is not None
        yield next(word for word in server.stdout.readline().split() if word.startswith("http"))
    finally:
        server.terminate()
        server.wait(timeout=30)


def every_page(browser: Any, address: str, folder: Path) -> None:
    """All pages in both widths and both themes."""
    from dashboards.views import PAGES

    for page in PAGES:
        path = "" if page is PAGES[0] else page.slug
        for width in (1280, 1920):
            for scheme in ("light", "dark"):
                name = f"{page.slug}-{width}-{scheme}.png"
                picture(browser, f"{address}/{path}?preset={SCENARIO}", folder / name, width, HEIGHT["page"], scheme)
                print(folder / name)


def picture(browser: Any, url: str, file: Path, width: int, height: int, scheme: str = "light") -> None:
    """One page once its text no longer changes and nothing on it is still computed."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(url)
    wait_until_whole(page)
    page.screenshot(path=str(file))
    page.close()


def wait_until_whole(page: Any) -> None:
    """Until no progress bar is there and the text has been the same for a while."""
    page.wait_for_function("document.body.innerText.length > 200", timeout=WAIT_MS)
    before, same_ms, step_ms = "", 0, 500
    for _ in range(WAIT_MS // step_ms):
        page.wait_for_timeout(step_ms)
        busy = page.locator("[data-testid=stProgress], [data-testid=stSpinner]").count()
        now = page.evaluate("document.body.innerText")
        same_ms = same_ms + step_ms if now == before and not busy else 0
        before = now
        if same_ms >= QUIET_MS:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
