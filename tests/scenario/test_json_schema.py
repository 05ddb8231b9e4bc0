"""The JSON Schema accepts what the loader accepts, and refuses wrong keys and types as the loader does."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from simulator import load_scenario
from simulator.check import scenario_schema
from simulator.scenario.layers import preset_names

SCHEMA = scenario_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def test_schema_is_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert "$defs" not in SCHEMA
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["required"] == ["schema_version"]


@pytest.mark.parametrize("name", preset_names())
def test_canonical_forms_are_valid(name: str) -> None:
    VALIDATOR.validate(load_scenario(name).canonical())


@pytest.mark.parametrize(
    "change",
    [
        {"extends": "deepseek-v3"},
        {"precision": "bf16"},
        {"recompute": "none"},
        {"cluster": {"num_gpus": 4096}},
        {"parallel": {"layers_per_stage": [4, 4]}},
        {"assumptions": {"x": 3}},
        {"assumptions": {"x": {"value": 3, "low": 1, "high": 4}}},
        {"phases": {"pretrain": {"tokens": 1e12}}},
        {"model": "./model.yaml"},
        {"stack": None},
    ],
)
def test_what_the_loader_reads_is_valid(change: dict[str, Any]) -> None:
    VALIDATOR.validate({"schema_version": 1, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"paralel": {}},
        {"parallel": {"ppp": 1}},
        {"parallel": {"pp": "8"}},
        {"parallel": {"pp": 0}},
        {"parallel": {"schedule": "dualpip"}},
        {"cluster": {"num_gpus": 2048.5}},
        {"precision": "fp9"},
        {"mechanisms": {"imbalance": 0}},
        {"phases": []},
        {"seed": -1},
        {"reliability": {}},
        {"parallel": {"schedule": "zb_h2"}},
        {"precision": "int8"},
        {"phases": [{"name": "p", "tokens": 1e12, "batch_ramp": {"from": 1, "over_tokens": 1, "schedule_below": "x"}}]},
    ],
)
def test_what_the_loader_refuses_is_invalid(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({"schema_version": 1, **change})


def test_every_key_is_described_or_has_a_type() -> None:
    for name, definition in SCHEMA["definitions"].items():
        for key, entry in definition.get("properties", {}).items():
            assert {"type", "anyOf", "$ref", "const", "enum", "oneOf", "allOf"} & set(entry), f"{name}.{key}"
