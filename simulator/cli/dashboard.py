"""`moesim dashboard`: serve the what-if pages to a browser on this machine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from hwprofiles.problems import show
from simulator.errors import InputError, Problem

LAST_PORT: Final = 65_535


def serve_dashboard(port: int, opens_browser: bool) -> None:
    """Serve until an interrupt. Raises InputError: no such port, a port in use, or Streamlit is not installed."""
    if not 0 <= port <= LAST_PORT:
        text = f"is no port ({show(port)}); allowed 1 to {LAST_PORT}, or 0 for any that is free"
        raise InputError([Problem("", "--port", text)])
    if find_spec("streamlit") is None:
        text = "Streamlit is not installed; install moesim with its dependencies, or `pip install streamlit`"
        raise InputError([Problem("", "dashboard", text)])
    from dashboards.server import serve

    serve(port, opens_browser)
