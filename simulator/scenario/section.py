"""What every section of a scenario is: closed, frozen, strict, finite; with the bounded number types that they share.

Bounds are far outside what is built, so that a misplaced exponent is refused before it costs memory or time.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from hwprofiles.units import EXA, MEGA

MAX_GPUS: Final = 10_000_000
MAX_LAYERS: Final = 10_000
MAX_STAGES: Final = 1_024
MAX_WIDTH: Final = 10_000_000
"""Hidden sizes, FFN widths, head sizes."""


class Section(BaseModel):
    """A closed, frozen section: unknown keys, text for numbers, true for 1, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_list_to_tuple)
"""YAML has lists; frozen sections hold tuples."""


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    return list(value) if isinstance(value, tuple) else value


AsPlain = PlainSerializer(_plain, return_type=Any)
"""Writes a value of a field with a validator of its own as plain JSON values."""


FAMILY: Final = "family"
"""Mark of a key in the JSON Schema: the family whose members' names are its values."""


def named(family: str) -> Any:
    """Of a text that names a member of a family; `simulator/check.py` asks the family, which no section knows."""
    return Field(min_length=1, max_length=200, json_schema_extra={FAMILY: family})


GpuCount = Annotated[int, Field(ge=1, le=MAX_GPUS)]
"""Number of GPUs, or of ranks along an axis."""
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
"""A dimension of a weight."""
LayerCount = Annotated[int, Field(ge=0, le=MAX_LAYERS)]
Experts = Annotated[int, Field(ge=1, le=100_000)]
Sequences = Annotated[int, Field(ge=1, le=100_000_000)]
"""Sequences in a batch."""
Tokens = Annotated[float, Field(ge=1, le=EXA)]
"""Tokens of a phase; 14.8e12 is a float in YAML."""
Usd = Annotated[float, Field(ge=0, le=MEGA)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
