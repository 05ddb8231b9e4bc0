"""Ranges of a run that no input says and no mechanism has: run_ranges.yaml, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_record
from simulator.errors import InputError
from simulator.scenario.scenario import Scenario

_FILE: Final = Path(__file__).with_suffix(".yaml")
UNKNOWN: Final = "software.unknown"
"""The range that naming a framework takes away."""


class RunRange(BaseModel):
    """low, high: relative changes of a step. model: whose; software: unknown where it counts only for that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    model: Literal["moe", "dense"]
    software: Literal["any", "unknown"]
    low: Annotated[float, Field(gt=-1.0, le=0.0)]
    high: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    source: str
    reason: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    ranges: tuple[RunRange, ...]


@cache
def all_run_ranges() -> tuple[RunRange, ...]:
    """The committed ranges. Raises InputError with every problem of the file."""
    return read_record(_FILE, _File, _FILE.name, InputError).ranges


def run_ranges(scenario: Scenario) -> Mapping[str, RunRange]:
    """Those of a scenario, by key: of its kind of model, of unknown software where it names no framework."""
    kind = "dense" if scenario.model.moe is None else "moe"
    return {
        each.key: each
        for each in all_run_ranges()
        if each.model == kind and (each.software == "any" or scenario.framework is None)
    }
