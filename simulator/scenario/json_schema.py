"""The JSON Schema (draft 7) of the scenario file: the sections' own schema, with what the loader accepts besides."""

from __future__ import annotations

from typing import Any, Final, get_args

from simulator.scenario.plan import Precision, Recompute
from simulator.scenario.scenario import Scenario

DRAFT: Final = "http://json-schema.org/draft-07/schema#"

_DESCRIPTION: Final = (
    "A scenario file of moesim. Every key has a default or is inherited by `extends`; an unknown key is an error. "
    "Values whose mechanism does not exist yet are refused when the file is loaded, with what to do instead."
)


def scenario_schema() -> dict[str, Any]:
    """The schema as a plain mapping.

    It says which keys and types there are; the loader checks what keys must be to one another (scenario/rules.py).
    """
    schema = _as_draft_7(Scenario.model_json_schema(by_alias=True, ref_template="#/definitions/{model}"))
    properties = schema["properties"]
    properties["extends"] = {"type": ["string", "null"], "description": "A preset's name or a path; later keys win."}
    properties["stack"] = {"type": ["string", "null"], "description": properties["stack"].get("description", "")}
    properties["model"] = _or_text(properties["model"], "A catalogue name, a path, or a mapping.")
    for key, section, field in (("precision", Precision, "recipe"), ("recompute", Recompute, "granularity")):
        names = list(get_args(section.model_fields[field].annotation))
        properties[key] = {"anyOf": [{"type": "string", "enum": names}, properties[key]]}
    by_name = {"type": "object", "description": "Changes of inherited phases, by name."}
    properties["phases"] = {"anyOf": [properties["phases"], by_name]}
    override = properties["assumptions"]["additionalProperties"]
    properties["assumptions"]["additionalProperties"] = {"anyOf": [{"type": "number"}, override]}
    for definition in schema["definitions"].values():
        definition.pop("required", None)  # a file may leave out what it inherits
    schema["required"] = ["schema_version"]
    return {"$schema": DRAFT, "title": "moesim scenario", **schema, "description": _DESCRIPTION}


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
