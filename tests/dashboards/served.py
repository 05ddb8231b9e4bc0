"""A real server of the dashboard, started as users start it."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dashboards.settings import LOOPBACK

ROOT = Path(__file__).parents[2]
STARTING_S = 60.0


SAID = "said.txt"
"""File in the server's folder that holds what it says: a pipe that nobody reads would stop it."""


@contextmanager
def server(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """(process, port) of `moesim dashboard --port 0 --no-browser`, started in a folder; ended in any case."""
    command = [sys.executable, "-m", "simulator.cli.app", "dashboard", "--port", "0", "--no-browser"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    with (folder / SAID).open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield process, _port(process, folder / SAID)
        finally:
            process.kill()
            process.wait(timeout=30)


def _port(process: subprocess.Popen[bytes], said: Path) -> int:
    """The port of the address that the server says it serves."""
    end = time.monotonic() + STARTING_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(rf"http://{re.escape(LOOPBACK)}:(\d+)", said.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(said.read_text())


def get(
    port: int, path: str, host: str | None = None, method: str = "GET", body: bytes | None = None
) -> tuple[int, dict[str, str], str]:
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        connection.request(method, path, body=body, headers={"Host": host or f"{LOOPBACK}:{port}"})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
    finally:
        connection.close()
