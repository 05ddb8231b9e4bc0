"""Where a number comes from."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hwprofiles.units import GIGA, KILO, TERA

SourceKind = Literal["datasheet", "paper", "measurement", "second_hand", "recalled", "assumed"]
"""How much a source is worth.

datasheet    a vendor's data sheet, or a public reprint of it that was read; also what a device reports of itself
paper        a publication that was read
measurement  measured, here or by the named others
second_hand  a page that quotes the original, which was not read
recalled     written down from memory; not looked up
assumed      nobody says so; the reason is in the note
"""

Basis = Literal["measured", "interpolated", "extrapolated", "transferred", "assumed"]
"""How a cost was obtained.

measured      a row of exactly this shape; interpolated: between measured rows, or from parameters fitted to them
extrapolated  outside the measured range; transferred: another GPU's efficiency on this GPU's data sheet
assumed       nobody measured it
"""


class Ranged(Protocol):
    """A number with the ends of what is believed."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


State = Literal["first_launches", "benchmark_loop", "sustained", "in_step"]
"""In which state of its power supply a chip was when a kernel was measured.

first_launches  a few launches after a rest: the fastest that it ever is
benchmark_loop  the kernel repeated for tens of milliseconds to a second
sustained       the kernel alone, repeated until the mean power has met the board's limit
in_step         inside training steps, among the kernels that stand around it there
"""

_DATE = re.compile(r"(?:19|20)[0-9]{2}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01]))?)?")


def _check_date(text: str) -> str:
    if text and not _DATE.fullmatch(text):
        raise ValueError(f"{text!a} is not a date; write 2025, 2025-05 or 2025-05-14, or leave it out")
    return text


def _year_to_text(value: Any) -> Any:
    """YAML reads a bare year as a number."""
    return str(value) if type(value) is int else value


Date = Annotated[str, AfterValidator(_check_date), BeforeValidator(_year_to_text, json_schema_input_type=str | int)]
"""ISO date, as exact as it is known: YYYY, YYYY-MM or YYYY-MM-DD; a bare year may be a number."""


class Calibration(BaseModel):
    """What a calibration states of its machine; None: not known there (a CPU has no driver and no limit).

    date: of the measurement; device: as the driver names it; driver, torch, cuda: versions. power_limit_w: of the board then.
    clock_hz: highest clock of its SMs. spread: median over the points of (slowest - fastest) / median of a point's repeats.
    program: the version that measured. kernel_rows: of kernels.csv, by which a table that was cut shows; None: of any number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: Annotated[Date, Field(min_length=4)]
    device: str | None = Field(default=None, min_length=1, max_length=200)
    driver: str | None = Field(default=None, min_length=1, max_length=100)
    power_limit_w: float | None = Field(default=None, gt=0.0, le=100 * KILO, allow_inf_nan=False)
    clock_hz: float | None = Field(default=None, gt=0.0, le=100 * GIGA, allow_inf_nan=False)
    torch: str | None = Field(default=None, min_length=1, max_length=100)
    cuda: str | None = Field(default=None, min_length=1, max_length=100)
    spread: float | None = Field(default=None, ge=0.0, le=10.0, allow_inf_nan=False)
    program: str | None = Field(default=None, min_length=1, max_length=200)
    kernel_rows: int | None = Field(default=None, ge=0, le=TERA)


class Source(BaseModel):
    """The origin of one value or one table.

    kind: how much it is worth; where: document with section, table or commit; date: of the document or the measurement,
    empty where it is not known; note: conditions, doubts, what other sources say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: SourceKind
    where: str = Field(min_length=1, max_length=2000)
    date: Date = ""
    note: str = Field(default="", max_length=2000)

    def __str__(self) -> str:
        return self.text

    @cached_property
    def text(self) -> str:
        """In words, as results name it."""
        tail = "; ".join(part for part in (self.date, self.note) if part)
        return f"{self.where} ({self.kind}{'; ' if tail else ''}{tail})"


def _source_of_text(value: Any) -> Any:
    """A bare text says where, and nothing about its worth: the weakest kind."""
    return {"kind": "assumed", "where": value} if isinstance(value, str) else value


LooseSource = Annotated[Source, BeforeValidator(_source_of_text)]
"""A Source, or text that names the document (then of kind assumed)."""
