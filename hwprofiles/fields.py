"""Types of the fields of records: names, texts, bounded SI numbers.

Numbers are SI, bounded and finite. In YAML a number under a key that ends in its unit may be bare SI or text with a unit:
`nic_bytes_per_s: 400 Gb/s`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hwprofiles.units import EXA, GIGA, KILO, MEGA, PETA, TERA, YOTTA, Dimension, quantity


def _read(dimension: Dimension) -> Callable[[Any], Any]:
    return lambda value: quantity(value, dimension)


def _read_whole(dimension: Dimension) -> Callable[[Any], Any]:
    """As `_read`; a whole float ("80 GB", 80e9) becomes the int that it is."""

    def read(value: Any) -> Any:
        number = quantity(value, dimension)
        return int(number) if isinstance(number, float) and number.is_integer() else number

    return read


_TEXT_OR_NUMBER: Any = float | str

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
"""Name of a catalogue entry, and of its file."""
Text = Annotated[str, Field(min_length=1, max_length=2000)]
FlopPerS = Annotated[
    float,
    BeforeValidator(_read("flop_per_s"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=GIGA, le=EXA, allow_inf_nan=False),
]
Bytes = Annotated[
    int,
    BeforeValidator(_read_whole("bytes"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=1, le=int(PETA)),
]
BytesPerS = Annotated[
    float,
    BeforeValidator(_read("bytes_per_s"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=MEGA, le=PETA, allow_inf_nan=False),
]
Hertz = Annotated[
    float,
    BeforeValidator(_read("hz"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=MEGA, le=10 * GIGA, allow_inf_nan=False),
]
Watts = Annotated[
    float,
    BeforeValidator(_read("w"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=1, le=100 * MEGA, allow_inf_nan=False),
]
Seconds = Annotated[
    float,
    BeforeValidator(_read("s"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, gt=0, le=1.0, allow_inf_nan=False),
]
Count = Annotated[int, Field(strict=True, ge=1, le=int(MEGA))]
Months = Annotated[int, Field(strict=True, ge=1, le=1200)]
Usd = Annotated[float, Field(strict=True, ge=0, le=KILO * TERA, allow_inf_nan=False)]
Number = Annotated[float, Field(strict=True, ge=-YOTTA, le=YOTTA, allow_inf_nan=False)]

ScaledFormat = Literal["mxfp8", "nvfp4", "mxfp4"]
NumberFormat = Literal["tf32", "bf16", "fp16", "fp8", "fp4"]
