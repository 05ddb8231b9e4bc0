"""Rows of kernels.csv out of a trace's calls: a row a kernel and size, over all calls of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final

import numpy as np

from hwprofiles.kernels.parameters import GpuLike, row_problem
from hwprofiles.kernels.rows import KERNEL_COLUMNS, LIBRARY, parse_row
from hwprofiles.kernels.shape import KERNELS, Regime
from hwprofiles.traces.calls import TimedCall, TimedCalls
from hwprofiles.traces.operands import Unsized
from hwprofiles.traces.sizes import cells_of
from hwprofiles.yaml_file import excerpt

ALONE, OVERLAPPED = 0.05, 0.95
"""Share of a call's time with a collective beside it up to which it ran alone, and from which it ran beside one."""
ENDS: Final = (0.1, 0.5, 0.9)
"""Quantiles of the repeats: low, seconds, high."""
MAX_NAME: Final = 120
STATE: Final = "in_step"
SOURCE: Final = "trace"
"""Short name of the rows' source."""


@dataclass(frozen=True, slots=True)
class TracedRows:
    """rows: as kernels.csv has them. covered: share of the compute time that they stand for; left: why others do not →
    their share. spread: median over the rows of (high - low) / seconds, of those with repeats.
    """

    rows: tuple[Mapping[str, str], ...]
    calls: int
    covered: float
    left: Mapping[str, float]
    spread: float


def traced_rows(timed: Sequence[TimedCalls], gpu: GpuLike) -> TracedRows:
    """Of all traces of one GPU."""
    pooled: dict[tuple[object, ...], list[TimedCall]] = defaultdict(list)
    cells_at: dict[tuple[object, ...], dict[str, str]] = {}
    left: dict[str, float] = defaultdict(float)
    for call in (call for each in timed for call in each.calls):
        try:
            cells = _with_regime(cells_of(call), call)
            row = parse_row(cells | {"seconds": "1", "source": SOURCE})
        except Unsized as unsized:
            left[f"{excerpt(call.operator.name, MAX_NAME)}: {unsized}"] += call.seconds
            continue
        except ValueError as wrong:
            left[f"{excerpt(call.operator.name, MAX_NAME)}: {_first(str(wrong))}"] += call.seconds
            continue
        key = (*row.shape.key, row.regime)
        cells_at.setdefault(key, cells)
        pooled[key].append(call)
    rows, impossible = _rows(pooled, cells_at, gpu)
    rows += _own_attention(rows)
    for reason, seconds in impossible:
        left[reason] += seconds
    unlinked = fsum(each.unlinked_s for each in timed)
    if unlinked:
        left["kernels whose operator the trace does not tell"] += unlinked
    whole = fsum(each.compute_s for each in timed)
    shares = {reason: seconds / whole for reason, seconds in left.items()} if whole else {}
    spreads = [
        (float(row["high"]) - float(row["low"])) / float(row["seconds"]) for row in rows if "1 call," not in row["note"]
    ]
    return TracedRows(
        rows=tuple(sorted(rows, key=_order)),
        calls=sum(map(len, pooled.values())),
        covered=1.0 - fsum(shares.values()),
        left=dict(sorted(shares.items(), key=lambda each: (-each[1], each[0]))),
        spread=float(np.median(spreads)) if spreads else 0.0,
    )


def _with_regime(cells: Mapping[str, Any], call: TimedCall) -> dict[str, str]:
    """Text of all columns. Raises Unsized for a call that ran partly beside a collective."""
    if ALONE < call.beside < OVERLAPPED:
        raise Unsized("a collective ran beside a part of it")
    regime: Regime = "alone" if call.beside <= ALONE else "overlapped"
    return {name: str(cells.get(name, "")) for name in (*KERNEL_COLUMNS, LIBRARY)} | {
        "regime": regime, "basis": "measured", "state": STATE, "source": SOURCE,
    }  # fmt: skip


def _rows(
    pooled: Mapping[tuple[object, ...], Sequence[TimedCall]], cells_at: Mapping[tuple[object, ...], Mapping[str, str]],
    gpu: GpuLike,
) -> tuple[list[dict[str, str]], list[tuple[str, float]]]:  # fmt: skip
    """Rows, and those that are faster than the GPU can be: why, and their seconds."""
    rows, impossible = [], []
    for key, calls in pooled.items():
        low, seconds, high = np.quantile([call.seconds for call in calls], ENDS)
        count = f"{len(calls)} call{'s' * (len(calls) > 1)}"
        kernels = max(len(call.kernels) for call in calls)
        made = {
            **cells_at[key],
            "seconds": f"{seconds:.6g}",
            "low": f"{low:.6g}",
            "high": f"{high:.6g}",
            "note": f"{count}, {kernels} kernel{'s' * (kernels > 1)} each",
        }
        try:
            problem = row_problem(parse_row(made), gpu)
        except ValueError as wrong:
            problem = str(wrong)
        if problem:
            impossible.append(
                (
                    f"{excerpt(calls[0].operator.name, MAX_NAME)}: {_first(problem)}",
                    fsum(call.seconds for call in calls),
                )
            )
        else:
            rows.append(made)
    return rows, impossible


def _own_attention(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows without a library, which are the stack's own: those of the attention library with the most rows' seconds."""
    seconds: dict[str, float] = defaultdict(float)
    for row in rows:
        if KERNELS[row["op"]].bound == "attention":
            seconds[row[LIBRARY]] += float(row["seconds"])
    own = max(seconds, key=lambda name: seconds[name], default="")
    return [row | {LIBRARY: ""} for row in rows if own and row[LIBRARY] == own]


def _first(problem: str) -> str:
    """A problem in general words: without the numbers that differ from row to row."""
    return re.sub(r"\d[\d.,e+-]*", "N", problem.partition(";")[0])[:120]


def _order(row: Mapping[str, str]) -> tuple[Any, ...]:
    """By operator, then size."""
    numbers = tuple(float(row[name] or 0) for name in ("m", "n", "k", "groups", "batch", "seq", "heads", "bytes"))
    return (row["op"], row["variant"], row["dtype"], numbers, row["regime"], row[LIBRARY])


def table_of(rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> str:
    """CSV text; cells hold neither quotes nor line ends but may hold commas."""
    lines = [",".join(columns)]
    lines += [",".join(_cell(row.get(name, "")) for name in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\n]', text) else text
