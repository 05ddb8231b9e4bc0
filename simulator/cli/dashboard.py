"""`moesim dashboard`: serve the what-if pages to a browser on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from hwprofiles.problems import show
from hwprofiles.record_file import CatalogError
from hwprofiles.stack_folders import GIVEN, given_folders
from simulator.errors import InputError, Problem

LAST_PORT: Final = 65_535


def serve_dashboard(port: int, opens_browser: bool, stacks: Sequence[str] = ()) -> None:
    """Serve until an interrupt. stacks: folders that pages and their workers know by name.

    Raises InputError: no such port, a port in use, a folder that is no stack, or Streamlit is not installed.
    """
    if not 0 <= port <= LAST_PORT:
        text = f"is no port ({show(port)}); allowed 1 to {LAST_PORT}, or 0 for any that is free"
        raise InputError([Problem("", "--port", text)])
    if find_spec("streamlit") is None:
        text = "Streamlit is not installed; install moesim with its dependencies, or `pip install streamlit`"
        raise InputError([Problem("", "dashboard", text)])
    if stacks:
        os.environ[GIVEN] = os.pathsep.join(str(Path(stack).resolve()) for stack in stacks)
        try:
            given_folders()
        except CatalogError as error:
            raise InputError(error.problems) from None
    from dashboards.server import serve

    serve(port, opens_browser)
