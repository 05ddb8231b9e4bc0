"""A layer of a scenario: keys from one place, each with its position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprofiles.yaml_file import KeyPath


@dataclass(frozen=True, slots=True)
class Layer:
    """Keys from one place.

    where: position of a key path ("FILE:LINE", "--set N"); folder: what its paths start from; assigned: the key paths that
    options gave a value to, with the option's number, None for a file; model_name: the model that keys of `model` in this
    layer change; name: what `moesim run` takes to get this layer and those below, "" for options and mappings.
    """

    data: Mapping[str, Any]
    where: Callable[[KeyPath], str]
    folder: Path
    assigned: Mapping[KeyPath, int] | None = None
    model_name: str | None = None
    name: str = ""

    def order(self, path: KeyPath) -> int:
        """Number of the option that gave a key, or one around or below it; 0 in a file."""
        assigned = self.assigned or {}
        around = next((assigned[path[:length]] for length in range(len(path), 0, -1) if path[:length] in assigned), 0)
        return around or max((n for known, n in assigned.items() if known[: len(path)] == path), default=0)
