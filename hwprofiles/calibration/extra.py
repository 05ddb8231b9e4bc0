"""The extra that brings torch: whoever needs it asks here first, and gets a message that names it."""

from __future__ import annotations

from importlib.util import find_spec

from hwprofiles.calibration.errors import INSTALL, MissingExtra


def require_torch() -> None:
    """Raises MissingExtra where torch is not installed."""
    try:
        found = find_spec("torch")
    except ValueError:  # a module that stands for nothing
        found = None
    if found is None:
        raise MissingExtra(f"torch is not installed; {INSTALL}")
