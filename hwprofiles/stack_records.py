"""What a software stack achieves on a GPU: measured rows, fitted constants and stated assumptions, with their ranges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwprofiles.assumption_units import SWITCH, bounds_problem, unit_problem
from hwprofiles.collectives.rows import CollectiveTable
from hwprofiles.fields import Months, Name, Number, Text
from hwprofiles.provenance import Basis, Calibration, LooseSource, Source, State

if TYPE_CHECKING:
    from hwprofiles.kernels.rows import KernelTable


class _Ranged(BaseModel):
    """A value with its range; low and high default to the value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Number
    low: Number
    high: Number
    unit: Annotated[str, Field(min_length=1, max_length=64)]

    @model_validator(mode="before")
    @classmethod
    def _point_range(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        value = data.get("value")
        return {"low": value, "high": value, **{key: entry for key, entry in data.items() if entry is not None}}

    @model_validator(mode="after")
    def _range_holds_value(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"needs low <= value <= high, got {self.low}, {self.value}, {self.high}")
        return self


class Parameter(_Ranged):
    """A fitted or measured constant of a stack, SI. basis: how it was obtained; one of the unit "switch" is 0 or 1.

    state: of the chip when it was measured; None: that of the stack's rows.
    """

    basis: Basis = "assumed"
    state: State | None = None
    source: LooseSource

    @model_validator(mode="after")
    def _switch_is_on_or_off(self) -> Self:
        if self.unit == SWITCH:
            _check_bounds(self)
        return self


class Assumption(_Ranged):
    """A stated assumption: what nobody published, with the range that is believed.

    unit: one of ASSUMPTION_UNITS, whose bounds hold value, low and high; reason: why this value and range.
    """

    key: Annotated[str, Field(min_length=1, max_length=200)]
    source: LooseSource
    reason: Text

    @model_validator(mode="after")
    def _unit_allows_numbers(self) -> Self:
        problem = unit_problem(self.unit)
        if problem is not None:
            raise ValueError(f"unit: {problem}")
        _check_bounds(self)
        return self


def _check_bounds(entry: _Ranged) -> None:
    """Raise ValueError where value, low or high is out of the bounds of the unit."""
    for name, number in (("value", entry.value), ("low", entry.low), ("high", entry.high)):
        problem = bounds_problem(number, entry.unit)
        if problem is not None:
            raise ValueError(f"{name}: {problem}")


CALIBRATION_HOLDS_MONTHS = 12
"""After a year drivers and libraries are others, and a cluster should be measured again."""


class StackProvenance(BaseModel):
    """provenance.yaml of a stack: what was measured, on what.

    is_default: the stack that a scenario on this GPU takes when it names none.
    casts: generation of the software's kernels around GEMMs that quantise; empty where it is of no one generation.
    state: of the chip when the rows were measured, and the parameters that say nothing else.
    good_for_months: how long after its newest source the stack holds; None: a calibration for CALIBRATION_HOLDS_MONTHS, others
    as long as their software is used.
    is_whole: what the stack lacks is an error; else it comes from what is public of the GPU (stack_completion.py).
    calibration: what was measured on, where `moesim calibrate` made the stack.
    host_cpu: the processor of the machine that the stack was measured on, as Linux names it; empty where it is not known.
    caveat: what whoever uses the stack should be told; empty where nothing stands out.
    sources: short name → Source, for what the rows' `source` column abbreviates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: Name
    description: Text
    software: Text
    state: State
    is_default: Annotated[bool, Field(strict=True)] = False
    casts: Annotated[str, Field(max_length=200)] = ""
    good_for_months: Months | None = None
    caveat: Annotated[str, Field(max_length=2000)] = ""
    is_whole: Annotated[bool, Field(strict=True)] = False
    calibration: Calibration | None = None
    host_cpu: Annotated[str, Field(max_length=200)] = ""
    sources: dict[str, Source] = Field(min_length=1)

    @property
    def holds_months(self) -> int | None:
        """How long the stack holds, in months; None: it does not say."""
        usual = CALIBRATION_HOLDS_MONTHS if self.calibration is not None else None
        return self.good_for_months or usual


@dataclass(frozen=True)
class Stack:
    """What one software stack achieves on one GPU.

    kernels, collectives: measured rows; parameters: fitted constants by key; assumptions: by key, in hardware's units.
    """

    name: str
    gpu: str
    description: str
    kernels: KernelTable
    provenance: StackProvenance
    collectives: CollectiveTable = field(default_factory=CollectiveTable)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    assumptions: Mapping[str, Assumption] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Hash of every value of the stack, in hexadecimal: equal values, equal hash, whatever the files' layout."""
        content = {
            "name": self.name,
            "gpu": self.gpu,
            "description": self.description,
            "kernels": [asdict(row) for row in self.kernels.rows],
            "collectives": [row.model_dump() for row in self.collectives.rows],
            "parameters": {key: entry.model_dump() for key, entry in self.parameters.items()},
            "assumptions": {key: entry.model_dump() for key, entry in self.assumptions.items()},
            "provenance": self.provenance.model_dump(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
