"""The version of the installed package."""

from __future__ import annotations

import importlib.metadata
from typing import Final

PACKAGE: Final = "moesim"


def package_version() -> str:
    """Version of the installed package; "0+unknown" in a checkout that is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
