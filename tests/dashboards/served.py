"""A real server of the dashboard, started as users start it."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dashboards.settings import LOOPBACK

ROOT = Path(__file__).parents[2]


@contextmanager
def server(folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """(process, port) of `moesim dashboard --port 0 --no-browser`, started in a folder; ended in any case."""
    command = [sys.executable, "-m", "simulator.cli.app", "dashboard", "--port", "0", "--no-browser"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(rf"http://{re.escape(LOOPBACK)}:(\d+)", line)
        assert found, line
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate(timeout=30)


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
