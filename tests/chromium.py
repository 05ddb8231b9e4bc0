"""A real browser for tests: Chromium of the system, driven by Playwright; what a page asks for and complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
OFFLINE_SCHEMES: Final = ("data", "blob", "about", "file")
WIDE: Final = {"width": 1280, "height": 900}


@dataclass
class Watched:
    """A page and what was seen of it: errors on its console and in its scripts, requests to other hosts, dialogs."""

    page: Any
    host: str = ""
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def _on_request(self, request: Any) -> None:
        url = urlsplit(request.url)
        if url.scheme not in OFFLINE_SCHEMES and url.netloc != self.host:
            self.foreign.append(request.url)

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _on_dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def watch(self) -> None:
        """Begin to listen."""
        self.page.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._on_dialog)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium; the test is skipped, and says so, where the system has none."""
    path = next((found for found in map(shutil.which, NAMES) if found), None)
    if path is None:
        pytest.skip("no Chromium on this system: install the package chromium to run the tests of the browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Any, *, host: str = "", **options: Any) -> Iterator[Watched]:
    """A new page in a context of its own. host: the only one that it may ask ("" for none); options: of the context."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    try:
        watched = Watched(context.new_page(), host)
        watched.watch()
        yield watched
    finally:
        context.close()
