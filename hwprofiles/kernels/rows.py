"""Measured kernels of a stack as rows: the CSV, its types, and the look-up by exact shape."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from hwprofiles.csv_table import Cells, read_table
from hwprofiles.kernels.shape import KERNELS, PEAK_OF_DTYPE, Bound, KernelShape, Regime
from hwprofiles.names import nearest
from hwprofiles.provenance import Basis, State


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A row of kernels.csv: shape, regime and SMs (0: not stated), seconds with low and high, basis and source; state: of the
    chip, None: as the stack's provenance says.
    """

    shape: KernelShape
    regime: Regime
    seconds: float
    low: float
    high: float
    basis: Basis
    source: str
    sms: int = 0
    note: str = ""
    state: State | None = None


_WHOLE_COLUMNS = ("m", "n", "k", "groups", "batch", "seq", "heads", "kv_heads", "head_dim_qk", "head_dim_v", "bytes")
KERNEL_COLUMNS = (
    "op", "variant", "dtype", *_WHOLE_COLUMNS[:-1], "causal", "bytes", "sms", "regime", "seconds", "low", "high", "basis",
    "state", "source", "note",
)  # fmt: skip
"""Columns of kernels.csv; an empty cell means not applicable."""
LIBRARY = "library"
RESULT = "result"
"""Columns of kernels.csv that may be missing: KernelShape.library, empty: the stack's own; KernelShape.result of a weight
gradient, empty: added to what is there in FP32.
"""

ROW_BASES: tuple[Basis, ...] = ("measured", "transferred", "assumed")
"""What a row may be; the other bases are of what is derived from rows."""
GEMM_VARIANTS = ("fprop", "dgrad", "wgrad")
GEMM_RESULTS = ("added", "bf16", "fp32")
"""Of a weight gradient: added to what is there in FP32, or written; gemm_formula.py has their bytes."""
NEEDED: Mapping[Bound, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "seq", "heads", "head_dim_qk", "head_dim_v"),
    "memory": ("bytes",),
}
"""What bounds a kernel → the sizes without which a row of it says nothing."""

Check = Callable[["KernelRow"], str | None]
"""Why a row cannot be true ("field: value; …"), or None."""


def read_kernel_rows(path: Path, check: Check | None = None) -> tuple[KernelRow, ...]:
    """Rows of a kernels.csv. Raises CatalogError with every bad row, those included that `check` objects to."""

    def parse(cells: Cells) -> KernelRow:
        row = parse_row(cells)
        problem = check(row) if check else None
        if problem is not None:
            raise ValueError(problem)
        return row

    return read_table(
        path,
        KERNEL_COLUMNS,
        parse,
        lambda row: (row.shape.key, row.shape.library, row.regime, row.sms, row.source),
        (LIBRARY, RESULT),
    )


def parse_row(cells: Cells) -> KernelRow:
    """One CSV row → KernelRow. Raises ValueError saying field, value and what is allowed."""
    seconds = _number("seconds", cells["seconds"])
    low, high = (_number(name, cells[name]) if cells[name] else seconds for name in ("low", "high"))
    if not 0 < low <= seconds <= high:
        raise ValueError(f"seconds: needs 0 < low <= seconds <= high, got {low:g}, {seconds:g}, {high:g}")
    if not cells["source"]:
        raise ValueError("source: is empty; say where the measurement is from")
    return KernelRow(
        shape=_shape(cells),
        regime=cast(Regime, _one_of("regime", cells["regime"], get_args(Regime))),
        seconds=seconds,
        low=low,
        high=high,
        basis=cast(Basis, _one_of("basis", cells["basis"], ROW_BASES)),
        source=cells["source"],
        sms=_whole("sms", cells["sms"] or "0"),
        note=cells["note"],
        state=cast(State, _one_of("state", cells["state"], get_args(State))) if cells["state"] else None,
    )


def _shape(cells: Cells) -> KernelShape:
    given: dict[str, Any] = {"op": _one_of("op", cells["op"], KERNELS)}
    bound = KERNELS[given["op"]].bound
    given["variant"] = _one_of("variant", cells["variant"], GEMM_VARIANTS if bound == "gemm" else ("",))
    if cells["dtype"]:
        given["dtype"] = _one_of("dtype", cells["dtype"], PEAK_OF_DTYPE)
    if cells["causal"]:
        given["causal"] = _one_of("causal", cells["causal"].lower(), ("true", "false")) == "true"
    for name in _WHOLE_COLUMNS:
        if cells[name]:
            given[name] = _whole(name, cells[name])
    if cells.get(LIBRARY):
        given[LIBRARY] = cells[LIBRARY]
    if cells.get(RESULT):
        given[RESULT] = _one_of(RESULT, cells[RESULT], GEMM_RESULTS)
    missing = [name for name in NEEDED[bound] if not given.get(name)]
    if missing:
        raise ValueError(f"{missing[0]}: is missing; a row of {given['op']} needs {', '.join(NEEDED[bound])}")
    return KernelShape(**given)


def _one_of(field: str, value: str, allowed: Collection[str]) -> str:
    if value not in allowed:
        raise ValueError(f'{field}: is not one of the allowed values ("{value}"){nearest(value, allowed)}')
    return value


def _whole(field: str, text: str) -> int:
    value = _number(field, text)
    if value != int(value) or value < 0:
        raise ValueError(f"{field}: {text} is not a whole number >= 0")
    return int(value)


def _number(field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'{field}: is not a finite number ("{text}")')
    return value


def _merge(rows: list[KernelRow]) -> KernelRow:
    """Several measurements of one call → their mean, with the widest range."""
    if len(rows) == 1:
        return rows[0]
    weakest = max(rows, key=lambda row: ROW_BASES.index(row.basis))
    return KernelRow(
        shape=rows[0].shape,
        regime=rows[0].regime,
        seconds=math.fsum(row.seconds for row in rows) / len(rows),
        low=min(row.low for row in rows),
        high=max(row.high for row in rows),
        basis=weakest.basis,
        source=rows[0].source,
        sms=rows[0].sms,
        state=rows[0].state,
        note=f"mean of {len(rows)} rows",
    )


@dataclass(frozen=True)
class KernelTable:
    """All rows of a stack, found by exact call or by kind of kernel. Equal calls are merged."""

    rows: tuple[KernelRow, ...] = ()
    _exact: dict[tuple[object, ...], KernelRow] = field(init=False, repr=False, compare=False)
    _groups: dict[tuple[object, ...], tuple[KernelRow, ...]] = field(init=False, repr=False, compare=False)
    _of_any_width: dict[tuple[object, ...], KernelRow] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        same_call: dict[tuple[object, ...], list[KernelRow]] = defaultdict(list)
        for row in self.rows:
            same_call[(*row.shape.key, row.regime)].append(row)
        exact = {key: _merge(rows) for key, rows in same_call.items()}
        same_bytes: dict[tuple[object, ...], list[KernelRow]] = defaultdict(list)
        for row in self.rows:
            if row.shape.width:
                same_bytes[(*replace(row.shape, n=0).key, row.regime)].append(row)
        groups: dict[tuple[object, ...], list[KernelRow]] = defaultdict(list)
        for row in exact.values():
            groups[(*row.shape.group_key, row.regime)].append(row)
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_of_any_width", {key: _merge(rows) for key, rows in same_bytes.items()})
        object.__setattr__(self, "_groups", {key: tuple(rows) for key, rows in groups.items()})

    @classmethod
    def from_csv(cls, path: Path, check: Check | None = None) -> KernelTable:
        """As read_kernel_rows."""
        return cls(read_kernel_rows(path, check))

    @property
    def gemm_dtypes(self) -> frozenset[str]:
        """Operands of which it holds GEMMs."""
        return frozenset(row.shape.dtype for row in self.rows if row.shape.bound == "gemm")

    def exact(self, shape: KernelShape, regime: Regime) -> KernelRow | None:
        """The row of this very call, or None; of rows of memory-bound kernels a width decides where both state it."""
        found = self._exact.get((*shape.key, regime))
        if found is not None or shape.bound != "memory":
            return found
        of_bytes = (*replace(shape, n=0).key, regime)
        return self._exact.get(of_bytes) if shape.width else self._of_any_width.get(of_bytes)

    def like(self, shape: KernelShape, regime: Regime) -> tuple[KernelRow, ...]:
        """Rows of the same kind of kernel (KernelShape.group_key) in the regime."""
        return self._groups.get((*shape.group_key, regime), ())
