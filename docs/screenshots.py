"""python docs/screenshots.py [FOLDER]: the pictures of the README, and one of every page of the dashboard, made anew.

Starts the dashboard on a free port, opens it in the system's Chromium (1280 px wide), waits until the answer is there, and does
the same with an HTML report. Default folder: docs/images, which gets the README's two; another folder gets all of them, light and
dark. Needs `pip install -e '.[dev]'` and the system's Chromium.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

SCENARIO = "deepseek-v3"
IMAGES = Path(__file__).parent / "images"
STARTS_IN_S = 60.0
SETTLES_IN_MS = 180_000


def main(arguments: list[str]) -> int:
    """Writes the pictures; 2 where there is no Chromium."""
    chromium = next((found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found), None)
    if chromium is None:
        print("no Chromium on this system: install the package chromium", file=sys.stderr)
        return 2
    folder = Path(arguments[0]) if arguments else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with _dashboard() as address:
            if arguments:
                _every_page(browser, address, folder)
            else:
                _page(browser, f"{address}/?preset={SCENARIO}", folder / "dashboard.png")
        _report(browser, folder / "report.png")
        browser.close()
    return 0


@contextmanager
def _dashboard() -> Iterator[str]:
    """The address of a running dashboard."""
    host = socket.gethostbyname("localhost".lower())
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "simulator.cli.app", "dashboard", "--port", str(port), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
    address = f"http://{host}:{port}"
    try:
        _wait_for(f"{address}/_stcore/health", server)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)
