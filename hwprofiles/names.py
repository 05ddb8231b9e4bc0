"""What to write instead of a name that nobody knows. Imports nothing of ours, so that every room may use it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

MAX_LISTED: Final = 400
"""Characters of the list of allowed names; the rest is left out."""
MAX_NAME: Final = 100
"""Characters of the unknown name that are compared."""


def nearest(name: str, known: Iterable[str], *, listed: bool = True) -> str:
    """'; allowed a, b; did you mean b?' for a name that is not among the known ones; listed=False: only the nearest."""
    names = sorted(known)
    shown = ", ".join(names)
    if len(shown) > MAX_LISTED:
        shown = f"{shown[: MAX_LISTED - 1]}…"
    near = difflib.get_close_matches(name[:MAX_NAME], names, n=1)
    text = f"; allowed {shown}" if listed and names else ""
    return f"{text}; did you mean {near[0]}?" if near else text
