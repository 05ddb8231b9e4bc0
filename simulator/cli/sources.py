"""What commands take beside a scenario: the result document of an earlier run, told apart by what is in the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from simulator.scenario.layers import preset_names

LOOKED_AT_BYTES: Final = 1 << 22
RESULT: Final = re.compile(rb'"scenario"\s*:\s*\{')
"""A key of every result document, whatever its version, and of no scenario file."""


def beginning_of(source: str) -> bytes | None:
    """The first bytes of the file that a command's argument names; None where it names a preset, or nothing that can be read:
    the loader of scenarios says what is wrong with it.
    """
    if source in preset_names():
        return None
    try:
        path = Path(source)
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return file.read(LOOKED_AT_BYTES)
    except (OSError, ValueError):
        return None


def is_result_file(source: str) -> bool:
    """Whether a command's argument is a file of JSON that holds a resolved scenario, be the file whole or cut off."""
    beginning = beginning_of(source)
    if beginning is None:
        return False
    return beginning.lstrip().startswith(b"{") and RESULT.search(beginning) is not None
