"""Rows of a table of measured kernels (columns of rates/case.py, and state, seconds) as the points that fits are made of.

Of a call that was measured in several states the shortest counts: in a loop of tens of ms no limit of power has acted yet on
short kernels, whose first launches hold time of the host; on long ones it has begun to. Rows without seconds say why a kernel
could not run and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import Any, Final, NamedTuple, TypeVar

from hwprofiles.calibration.gemm_fit import GemmPoint
from hwprofiles.calibration.reference_points import AttentionPoint
from hwprofiles.kernels.gemm_formula import GemmSize
from hwprofiles.kernels.shape import FEW, FEW_ROWS, KERNELS, OWN_GEMMS, KernelShape

Cells = Mapping[str, str]
"""Column → text; a column that is not there counts as empty."""
HEADS_WEIGHT: Final = "torch-heads-weight"
"""Library cell of the weight's gradient of a norm of heads."""
OWN: Final = "own measurement"
OWN_WRITTEN: Final = f"{OWN_GEMMS}-fp32-out"
WRITTEN: Final = {"cublas-bf16-out": "bf16", "cublas-fp32-out": "fp32", OWN_WRITTEN: "fp32"}
"""Library cell → result of a weight gradient that is written and not added to; grouped ones and loops of them write BF16, but
for this project's, which add where their cell does not say otherwise."""
WINDOWED: Final = 0.95
"""A call of a smaller share of its dimensions' FLOP has a window or a slice."""


class MemoryPoint(NamedTuple):
    """A measured memory-bound kernel: op, library, variant and format (pooled in a fit); bytes moved, launches, rows and
    width (0: not stated), seconds.
    """

    op: str
    library: str
    variant: str
    dtype: str
    bytes: int
    launches: int
    rows: int
    width: int
    seconds: float


def measured(rows: Iterable[Cells], bound: str) -> list[Cells]:
    """Rows with seconds of kernels of that bound ("gemm" | "attention" | "memory"), those of unknown operators left out."""
    return [
        row for row in rows
        if row.get("seconds") and row["op"] in KERNELS and KERNELS[row["op"]].bound == bound
    ]  # fmt: skip


def free_sms(row: Cells, num_sms: int) -> int:
    """SMs that the call had."""
    return min(_whole(row, "sms") or num_sms, num_sms)


def is_alone(row: Cells, num_sms: int) -> bool:
    """Whether the call had the whole chip and nothing ran beside it."""
    return free_sms(row, num_sms) == num_sms and not row.get("beside")


def gemm_size(row: Cells) -> GemmSize:
    """Size of a GEMM's row."""
    counts = [int(count) for count in row.get("loads", "").split()]
    spread = pstdev(counts) / fmean(counts) if len(counts) > 1 else 0.0
    m, n, k = (int(row[name]) for name in ("m", "n", "k"))
    result, groups = "", _whole(row, "groups") or 1
    if row["variant"] == "wgrad":
        adds = groups == 1 or row["library"] == OWN_GEMMS
        result = WRITTEN.get(row["library"], "" if adds else "bf16")
    return GemmSize(m, n, k, groups, row["variant"], row["dtype"], spread, result)


def gemm_points(rows: Iterable[Cells]) -> list[GemmPoint]:
    """A point a call."""
    return [GemmPoint(size, seconds) for size, seconds in shortest(rows, gemm_size)]


def attention_shape(row: Cells) -> KernelShape:
    """Shape of an attention row; its FLOP where they differ from what the dimensions say."""
    sizes: dict[str, Any] = {
        name: _whole(row, name) for name in ("batch", "seq", "heads", "kv_heads", "head_dim_qk", "head_dim_v")
    }
    shape = KernelShape(
        op=row["op"], dtype=row.get("dtype") or "bf16", causal=row["causal"] == "true", library=row["library"], **sizes
    )
    flop = float(row.get("flop") or 0.0)
    return replace(shape, flop=flop) if 0.0 < flop < WINDOWED * shape.attention_flop else shape


def attention_points(rows: Iterable[Cells]) -> list[AttentionPoint]:
    """A point a call.

    cuDNN's calls of values as wide as 192-wide keys are left out: other kernels, which no model asks for.
    """
    found = shortest(rows, attention_shape)
    return [AttentionPoint(shape, seconds, OWN) for shape, seconds in found if not _is_odd(shape)]


def _is_odd(shape: KernelShape) -> bool:
    return shape.library == "cudnn" and shape.head_dim_qk == shape.head_dim_v and 128 < shape.head_dim_qk < 256


def memory_points(rows: Iterable[Cells]) -> list[MemoryPoint]:
    """A point a call.

    Variants of an op and library are pooled; beside calls without one each is a library of its own, `<library>-<variant>`. So
    are weight gradients of heads' norms over few rows.
    """
    found = [MemoryPoint(*call, seconds) for call, seconds in shortest(rows, _memory_call)]
    plain = {(point.op, point.library) for point in found if not point.variant}
    named = [
        point._replace(library=f"{point.library}-{point.variant}")
        if point.variant and (point.op, point.library) in plain else point for point in found
    ]  # fmt: skip
    return [
        point._replace(library=f"{point.library}-{FEW}")
        if point.library == HEADS_WEIGHT and point.rows <= FEW_ROWS else point for point in named
    ]  # fmt: skip


def _memory_call(row: Cells) -> tuple[str, str, str, str, int, int, int, int]:
    counts = _whole(row, "bytes"), _whole(row, "launches") or 1, _whole(row, "m"), _whole(row, "n")
    return row["op"], row["library"], row.get("variant", ""), row.get("dtype", ""), *counts


Call = TypeVar("Call", bound=Hashable)


def shortest(rows: Iterable[Cells], call: Callable[[Cells], Call]) -> list[tuple[Call, float]]:
    """Each call with its shortest time, in the rows' order."""
    found: dict[Call, float] = {}
    for row in rows:
        key, seconds = call(row), float(row["seconds"])
        found[key] = min(seconds, found.get(key, seconds))
    return list(found.items())


def state_of(rows: Sequence[Cells]) -> str:
    """State of the chip of which points are: first launches where they were measured too."""
    states = {row.get("state", "") for row in rows}
    return "first_launches" if "first_launches" in states else next(iter(sorted(states)), "")


def _whole(row: Cells, name: str) -> int:
    return round(float(row.get(name) or 0))
