"""The JSON Schema (draft 7) of the scenario file: the sections' own schema, with what the loader accepts besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from simulator.scenario.draft import SHORTHANDS
from simulator.scenario.parallel import AUTO
from simulator.scenario.phase import SECTIONS, SHORTCUTS
from simulator.scenario.scenario import Scenario
from simulator.scenario.section import FAMILY

DRAFT: Final = "http://json-schema.org/draft-07/schema#"

_DESCRIPTION: Final = (
    "A scenario file of moesim. Every key has a default or is inherited by `extends`; an unknown key is an error. "
    "A key of the documented format without a mechanism is no key here: it may say how things are anyway, else it is refused."
)


def scenario_schema(names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The schema as a plain mapping. names: kind of a family in words → its members' names.

    It says which keys and types there are; the loader checks what keys must be to one another (scenario/rules.py).
    """
    schema = _as_draft_7(Scenario.model_json_schema(by_alias=True, ref_template="#/definitions/{model}"))
    properties = schema["properties"]
    properties["extends"] = {"type": ["string", "null"], "description": "A preset's name or a path; later keys win."}
    properties["stack"] = {"type": ["string", "null"], "description": properties["stack"].get("description", "")}
    properties["model"] = _or_text(properties["model"], "A catalogue name, a path, or a mapping.")
    definitions = schema["definitions"]
    for key, field in SHORTHANDS.items():
        section = definitions[properties[key]["$ref"].rpartition("/")[2]]
        values = section["properties"][field]
        word = {entry: values[entry] for entry in ("type", "enum", FAMILY) if entry in values}
        properties[key] = {"anyOf": [word, properties[key]]}
    properties["parallel"] = {"anyOf": [{"type": "string", "enum": [AUTO]}, properties["parallel"]]}
    _put_sections_of_phases(definitions["Phase"]["properties"], properties, definitions["Training"]["properties"])
    by_name = {"type": "object", "description": "Changes of inherited phases, by name."}
    properties["phases"] = {"anyOf": [properties["phases"], by_name]}
    override = properties["assumptions"]["additionalProperties"]
    properties["assumptions"]["additionalProperties"] = {"anyOf": [{"type": "number"}, override]}
    for definition in definitions.values():
        definition.pop("required", None)  # a file may leave out what it inherits
    schema["required"] = ["schema_version"]
    named: dict[str, Any] = _with_names(schema, names)
    return {"$schema": DRAFT, "title": "moesim scenario", **named, "description": _DESCRIPTION}


def _put_sections_of_phases(phase: dict[str, Any], scenario: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """What a phase may say of the scenario's sections, as the scenario says it; null: nothing."""
    nothing = {"type": "null"}
    for key in SECTIONS:
        phase[key] = {"anyOf": [scenario[key], nothing], "description": f"As `{key}` of the scenario, for this phase."}
    for key in sorted(SHORTCUTS):
        phase[key] = {"anyOf": [training[key], nothing], "description": f"training.{key} of this phase."}


def _with_names(schema: Any, names: Mapping[str, Sequence[str]]) -> Any:
    """The schema with the members' names in place of a family's mark."""
    if isinstance(schema, list):
        return [_with_names(entry, names) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(family := schema.get(FAMILY), str):
        rest = {key: value for key, value in schema.items() if key not in (FAMILY, "minLength", "maxLength")}
        return {**rest, "enum": list(names[family])}
    return {key: _with_names(value, names) for key, value in schema.items()}


def _or_text(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "minLength": 1}, schema], "description": description}


def _as_draft_7(schema: dict[str, Any]) -> dict[str, Any]:
    """`$defs` under its old name, and without the OpenAPI keyword that JSON Schema does not know."""
    converted = {("definitions" if key == "$defs" else key): value for key, value in schema.items()}
    return {key: _without_discriminator(value) for key, value in converted.items() if key != "title"}


def _without_discriminator(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_discriminator(child) for key, child in value.items() if key != "discriminator"}
    return [_without_discriminator(child) for child in value] if isinstance(value, list) else value
