"""Measured collectives of a stack as rows: the CSV and its types."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwprofiles.columns import columns_problem
from hwprofiles.provenance import Basis
from hwprofiles.units import EXA, MEGA, PETA

Whole = Annotated[int, Field(ge=0, le=int(PETA))]
Positive = Annotated[float, Field(gt=0, le=EXA, allow_inf_nan=False)]


class CollectiveTableError(ValueError):
    """A collective table that cannot be read; the message begins with FILE:LINE."""


class CollectiveRow(BaseModel):
    """One row of collectives.csv; None where the column does not apply.

    op: dispatch, combine, all_to_all, all_gather, reduce_scatter, all_reduce, p2p …
    regime: overlapped (compute runs beside it) or alone.
    ranks, nodes: GPUs of the group, and nodes that they span.
    tokens, bytes_per_token, nodes_per_token: of a dispatch or combine, per GPU: own tokens, payload of one copy, and
        expected distinct destination nodes, the own one included.
    bytes: payload of any other collective, per GPU, as its busbw convention counts it.
    sms: streaming multiprocessors that the communication kernels hold.
    seconds: duration; bytes_per_s: rate of the slowest link, one direction. One of the two is given.
    low, high: range of seconds where given, else of bytes_per_s.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Annotated[str, Field(min_length=1, max_length=64)]
    regime: Literal["alone", "overlapped"]
    ranks: Annotated[int, Field(ge=1, le=int(MEGA))]
    nodes: Annotated[int, Field(ge=1, le=int(MEGA))]
    tokens: Whole | None = None
    bytes_per_token: Whole | None = None
    nodes_per_token: Positive | None = None
    bytes: Whole | None = None
    sms: Whole | None = None
    seconds: Positive | None = None
    bytes_per_s: Positive | None = None
    low: Positive | None = None
    high: Positive | None = None
    basis: Basis
    source: Annotated[str, Field(min_length=1, max_length=2000)]
    note: Annotated[str, Field(max_length=2000)] = ""

    @model_validator(mode="after")
    def _holds_a_measurement(self) -> Self:
        value = self.seconds if self.seconds is not None else self.bytes_per_s
        if value is None:
            raise ValueError("needs seconds or bytes_per_s")
        low, high = self.low or value, self.high or value
        if not low <= value <= high:
            raise ValueError(f"needs low <= value <= high, got {low}, {value}, {high}")
        if self.nodes > self.ranks:
            raise ValueError(f"nodes {self.nodes} is more than ranks {self.ranks}")
        return self


COLLECTIVE_COLUMNS = tuple(CollectiveRow.model_fields)
"""Columns of collectives.csv; an empty cell means not applicable."""


@dataclass(frozen=True)
class CollectiveTable:
    """The measured collectives of a stack, in the file's order."""

    rows: tuple[CollectiveRow, ...] = ()

    @classmethod
    def from_csv(cls, path: Path) -> CollectiveTable:
        """Read a collectives.csv. Raises CollectiveTableError (FILE:LINE: field: problem) for the first bad row."""
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            problem = columns_problem(reader.fieldnames, COLLECTIVE_COLUMNS)
            if problem:
                raise CollectiveTableError(f"{path}:1: {problem}")
            return cls(tuple(_parse_row(cells, f"{path}:{reader.line_num}") for cells in reader))

    def select(self, op: str, regime: str | None = None) -> tuple[CollectiveRow, ...]:
        """Rows of one operation, and of one regime if given."""
        return tuple(row for row in self.rows if row.op == op and regime in (None, row.regime))


def _parse_row(cells: Mapping[str, str | None], where: str) -> CollectiveRow:
    if None in cells or None in cells.values():
        raise CollectiveTableError(f"{where}: the number of cells differs from the header's")
    given = {key: text.strip() for key, text in cells.items() if text and text.strip()}
    try:
        return CollectiveRow.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise CollectiveTableError(f"{where}: {field}{': ' if field else ''}{first['msg']}") from None
