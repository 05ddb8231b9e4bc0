"""What the page asks for as a scenario file: of a preset what differs, of an upload every key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML

from dashboards.source import Source
from hwprofiles.yaml_file import parse_yaml
from simulator.scenario.scenario import SCHEMA_VERSION

PHASES: Final = "phases"


def scenario_file(source: Source) -> str:
    """YAML that loads to the same scenario. Raises InputError where the source loads to none."""
    if source.text is not None:
        return _yaml(source.load().canonical())
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "extends": source.base}
    names = [phase.name for phase in source.plain().load().phases]
    for override in source.overrides:
        path, _, text = override.partition("=")
        _lay(document, _parts(path, names), parse_yaml(text, path).data)
    return _yaml(document)


def _parts(path: str, phases: list[str]) -> list[str]:
    """The keys of a path; a phase's name may hold dots."""
    for name in phases:
        if path.startswith(f"{PHASES}.{name}."):
            return [PHASES, name, *path.removeprefix(f"{PHASES}.{name}.").split(".")]
    return path.split(".")


def _lay(document: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value


def _yaml(document: Mapping[str, Any]) -> str:
    """Plain YAML of plain values, in the order given."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = StringIO()
    writer.dump(json.loads(json.dumps(document)), out)
    return out.getvalue()
