"""Values of nested mappings by their path of keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwprofiles.yaml_file import KeyPath


def find(data: Any, path: KeyPath) -> Any:
    """The value at a path, None where there is none."""
    for key in path:
        if not isinstance(data, Mapping) or key not in data:
            return None
        data = data[key]
    return data


def put(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set the value at a path; nothing where a key above it holds no mapping."""
    for key in path[:-1]:
        child = data.setdefault(str(key), {})
        if not isinstance(child, dict):
            return
        data = child
    data[str(path[-1])] = value
