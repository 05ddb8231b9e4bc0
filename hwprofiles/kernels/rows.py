"""Measured kernels of a stack as rows: the CSV, its types, and the look-up by exact shape."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import cast

from hwprofiles.columns import columns_problem
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.provenance import Basis


class KernelTableError(ValueError):
    """A kernel table that cannot be read; the message begins with FILE:LINE."""


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A row of kernels.csv: shape, regime and SMs (0: not stated), seconds with low and high, basis and source."""

    shape: KernelShape
    regime: Regime
    seconds: float
    low: float
    high: float
    basis: Basis
    source: str
    sms: int = 0
    note: str = ""


_SHAPE_COLUMNS = {f.name: f.type for f in fields(KernelShape) if f.name not in ("flop", "num_kernels")}
_TEXT_COLUMNS = ("op", "variant", "dtype")
KERNEL_COLUMNS = (*_SHAPE_COLUMNS, "sms", "regime", "seconds", "low", "high", "basis", "source", "note")
"""Columns of kernels.csv; an empty cell means not applicable."""


def _whole(text: str) -> int:
    value = float(text)
    if value != int(value) or value < 0:
        raise ValueError(f"{text!r} is not a whole number >= 0")
    return int(value)


def parse_row(cells: Mapping[str, str]) -> KernelRow:
    """One CSV row → KernelRow. Raises ValueError saying what is wrong."""
    given: dict[str, object] = {}
    for name in _SHAPE_COLUMNS:
        text = (cells.get(name) or "").strip()
        if name in _TEXT_COLUMNS:
            if text or name == "variant":
                given[name] = text
        elif text and name == "causal":
            if text.lower() not in ("true", "false"):
                raise ValueError(f"causal: {text!r}; allowed: true, false")
            given[name] = text.lower() == "true"
        elif text:
            given[name] = _whole(text)
    if not given.get("op"):
        raise ValueError("op is empty")
    seconds = float(cells["seconds"])
    low = float(cells.get("low") or seconds)
    high = float(cells.get("high") or seconds)
    if not (math.isfinite(high) and 0 < low <= seconds <= high):
        raise ValueError(f"needs 0 < low <= seconds <= high, got {low}, {seconds}, {high}")
    regime, basis = cells["regime"].strip(), cells["basis"].strip()
    if regime not in ("alone", "overlapped"):
        raise ValueError(f"regime: {regime!r}; allowed: alone, overlapped")
    if basis not in ("measured", "transferred", "assumed"):
        raise ValueError(f"basis: {basis!r}; allowed: measured, transferred, assumed")
    if not cells["source"].strip():
        raise ValueError("source is empty")
    return KernelRow(
        shape=KernelShape(**given),  # type: ignore[arg-type]
        regime=cast(Regime, regime),
        seconds=seconds,
        low=low,
        high=high,
        basis=cast(Basis, basis),
        source=cells["source"].strip(),
        sms=_whole(cells.get("sms") or "0"),
        note=(cells.get("note") or "").strip(),
    )


def read_kernel_rows(path: Path) -> tuple[KernelRow, ...]:
    """Rows of a kernels.csv. Raises KernelTableError (FILE:LINE: problem) for the first bad row."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        problem = columns_problem(reader.fieldnames, KERNEL_COLUMNS)
        if problem:
            raise KernelTableError(f"{path}:1: {problem}")
        rows = []
        for cells in reader:
            try:
                rows.append(parse_row(cells))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise KernelTableError(f"{path}:{reader.line_num}: {error}") from error
    return tuple(rows)


def _merge(rows: list[KernelRow]) -> KernelRow:
    """Several measurements of one call → their mean, with the widest range."""
    if len(rows) == 1:
        return rows[0]
    weakest = max(rows, key=lambda row: ("measured", "transferred", "assumed").index(row.basis))
    return KernelRow(
        shape=rows[0].shape,
        regime=rows[0].regime,
        seconds=math.fsum(row.seconds for row in rows) / len(rows),
        low=min(row.low for row in rows),
        high=max(row.high for row in rows),
        basis=weakest.basis,
        source=rows[0].source,
        sms=rows[0].sms,
        note=f"mean of {len(rows)} rows",
    )


@dataclass(frozen=True)
class KernelTable:
    """All rows of a stack, found by exact call or by kind of kernel. Equal calls are merged."""

    rows: tuple[KernelRow, ...] = ()
    _exact: dict[tuple[object, ...], KernelRow] = field(init=False, repr=False, compare=False)
    _groups: dict[tuple[object, ...], tuple[KernelRow, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        same_call: dict[tuple[object, ...], list[KernelRow]] = defaultdict(list)
        for row in self.rows:
            same_call[(*row.shape.key, row.regime)].append(row)
        exact = {key: _merge(rows) for key, rows in same_call.items()}
        groups: dict[tuple[object, ...], list[KernelRow]] = defaultdict(list)
        for row in exact.values():
            groups[(*row.shape.group_key, row.regime)].append(row)
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_groups", {key: tuple(rows) for key, rows in groups.items()})

    @classmethod
    def from_csv(cls, path: Path) -> KernelTable:
        """Read a kernels.csv. Raises KernelTableError."""
        return cls(read_kernel_rows(path))

    def exact(self, shape: KernelShape, regime: Regime) -> KernelRow | None:
        """The row of this very call, or None."""
        return self._exact.get((*shape.key, regime))

    def like(self, shape: KernelShape, regime: Regime) -> tuple[KernelRow, ...]:
        """Rows of the same kind of kernel (KernelShape.group_key) in the regime."""
        return self._groups.get((*shape.group_key, regime), ())
