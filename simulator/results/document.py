"""What every result document is: frozen, closed, finite, in SI units, and written the same way each time.

A quantity that was not computed is absent from the document, never 0 and never null. Keys stand in the order in which
the models declare them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA_VERSION: Final = 1
"""Version of the keys and their meaning; additions do not raise it."""

JsonValue = Any
"""None, bool, int, float (finite), str, list or dict of these."""


class ResultModel(BaseModel):
    """Base of the result documents: unknown keys, NaN, infinities and conversions between types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def _whole_bytes(value: object) -> object:
    """Bytes are counted in whole ones: a computed fraction rounds up, other things are left for pydantic to refuse."""
    if isinstance(value, float) and math.isfinite(value):
        return math.ceil(value)
    return value


Bytes = Annotated[int, BeforeValidator(_whole_bytes), Field(ge=0)]
"""An amount of memory in bytes."""
Seconds = Annotated[float, Field(ge=0)]
"""A duration in seconds."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction of a whole, 0 to 1."""


def to_document(value: object) -> JsonValue:
    """`value` as JSON values. Fields that are None are left out of models, and kept in plain mappings.

    Raises ValueError on NaN or infinity, TypeError on what JSON has no word for.
    """
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        pairs = ((field.serialization_alias or name, getattr(value, name)) for name, field in fields.items())
        return {key: to_document(item) for key, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_document(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Sequence):
        return [to_document(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    if isinstance(value, int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no place in a result document")


def canonical(value: JsonValue) -> JsonValue:
    """The same JSON value with the keys of every mapping sorted, so that equal values are written as equal bytes."""
    if isinstance(value, Mapping):
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return value


def to_json(value: object) -> str:
    """One JSON document with a final newline, ASCII only: the same input gives the same bytes on every machine.

    Raises as `to_document` does.
    """
    return json.dumps(to_document(value), indent=2, allow_nan=False) + "\n"
