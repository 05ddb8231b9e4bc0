"""Measured collectives of a stack as rows: the CSV and its types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwprofiles.csv_table import Cells, read_table
from hwprofiles.kernels.shape import Regime
from hwprofiles.problems import schema_problems
from hwprofiles.provenance import Basis
from hwprofiles.units import EXA, GIGA, MEGA, PETA

Whole = Annotated[int, Field(ge=0, le=int(PETA))]
Positive = Annotated[float, Field(gt=0, le=EXA, allow_inf_nan=False)]


CollectiveOp = Literal["dispatch", "dispatch_cached", "combine", "combine_backward"]
"""dispatch_cached: a dispatch whose layout is known from the forward pass; combine_backward: the combine of gradients."""


class CollectiveRow(BaseModel):
    """One row of collectives.csv; None where the column does not apply.

    op: other collectives are priced by formulas alone. regime: overlapped (compute runs beside it) or alone.
    ranks, nodes: GPUs of the group, and nodes that they span.
    tokens, bytes_per_token, nodes_per_token: per GPU: own tokens, payload of one copy, and expected distinct destination
        nodes, the own one included.
    sms: streaming multiprocessors that the communication kernels hold.
    seconds: duration, with its range low to high.
    bytes, bytes_per_s: what the source prints, for the reader: payload per GPU and rate of the slowest link, one direction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: CollectiveOp
    regime: Regime
    ranks: Annotated[int, Field(ge=1, le=int(MEGA))]
    nodes: Annotated[int, Field(ge=1, le=int(MEGA))]
    tokens: Annotated[int, Field(ge=1, le=int(GIGA))]
    bytes_per_token: Annotated[int, Field(ge=1, le=int(GIGA))]
    nodes_per_token: Annotated[float, Field(ge=1, le=MEGA, allow_inf_nan=False)]
    bytes: Whole | None = None
    sms: Whole | None = None
    seconds: Positive
    bytes_per_s: Positive | None = None
    low: Positive | None = None
    high: Positive | None = None
    basis: Basis
    source: Annotated[str, Field(min_length=1, max_length=2000)]
    note: Annotated[str, Field(max_length=2000)] = ""

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        low, high = self.low or self.seconds, self.high or self.seconds
        if not low <= self.seconds <= high:
            raise ValueError(f"seconds: needs low <= seconds <= high, got {low:g}, {self.seconds:g}, {high:g}")
        if self.nodes > self.ranks:
            raise ValueError(f"nodes: {self.nodes} is more than ranks {self.ranks}")
        if self.nodes_per_token > self.nodes:
            raise ValueError(f"nodes_per_token: {self.nodes_per_token:g} is more than nodes {self.nodes}")
        return self


COLLECTIVE_COLUMNS = tuple(CollectiveRow.model_fields)
"""Columns of collectives.csv; an empty cell means not applicable."""


@dataclass(frozen=True)
class CollectiveTable:
    """The measured collectives of a stack, in the file's order."""

    rows: tuple[CollectiveRow, ...] = ()

    @classmethod
    def from_csv(cls, path: Path) -> CollectiveTable:
        """Read a collectives.csv. Raises CatalogError with every bad row."""
        return cls(read_table(path, COLLECTIVE_COLUMNS, _parse_row, _call))

    def select(self, op: CollectiveOp, regime: Regime) -> tuple[CollectiveRow, ...]:
        """Rows of one operation in one regime."""
        return tuple(row for row in self.rows if row.op == op and row.regime == regime)


def _parse_row(cells: Cells) -> CollectiveRow:
    try:
        return CollectiveRow.model_validate({key: text for key, text in cells.items() if text})
    except ValidationError as error:
        path, message = next(schema_problems(error, CollectiveRow))
        raise ValueError(": ".join([*map(str, path), message])) from None


def _call(row: CollectiveRow) -> tuple[object, ...]:
    """What two measurements of the same thing share."""
    size = (row.tokens, row.bytes_per_token, row.nodes_per_token, row.bytes)
    return (row.op, row.regime, row.ranks, row.nodes, *size, row.sms, row.source)
