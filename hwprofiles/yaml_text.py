"""Records as YAML that is easy to read and to compare: a line each entry of the upper two levels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def as_yaml(value: Mapping[str, Any], heading: str) -> str:
    """A mapping of JSON values as YAML under a comment, with a final newline; floats with six digits."""
    lines = [f"# {heading}"]
    for key, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            lines.append(f"{key}:")
            lines += [f"  {name}: {_flow(inner)}" for name, inner in entry.items()]
        else:
            lines.append(f"{key}: {_flow(entry)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """JSON, which is YAML, with the dot that a float needs."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        mantissa, exponent, power = f"{value:.6g}".partition("e")
        return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{exponent}{power}"
    return json.dumps(value, ensure_ascii=False)
