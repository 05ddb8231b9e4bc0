"""Kernels bound by the memory's bandwidth: seconds over bytes moved.

    t = (waiting^p + moving^p)^(1/p), waiting = launches * memory.launch_floor_s + latency_s
    moving = max(bytes / (share * HBM bandwidth), elements / elements_per_s, rows / rows_per_s)

Keys: `memory.<op>` is the share, `memory.<op>.latency_s` what a call waits besides (how long the memory takes to get going, or
steps that wait for one another), `memory.<op>.elements_per_s` the rate of kernels that reckon an address for each element
(KernelShape.m * n of them), `memory.<op>.rows_per_s` of those that give a warp or a block to a row however narrow (m of them,
where n tells their width), `memory.<op>.p` how far the waiting passes beside the moving (1: not at all), `memory.<op>.exponent`
how bytes count of kernels that grow more parallel with their size: the share is that of REFERENCE_BYTES, others take
(bytes / REFERENCE_BYTES)^exponent as long, at most at the whole bandwidth. With a library that the stack knows
(KernelShape.library) `memory.<op>.<library>` and so on, and `memory.<op>.<library>-<variant>` before it where its variants are
kernels of their own; an op that it does not know has `memory.default`. Without keys of its own a call takes no latency, has no
rate of elements or rows, and p and exponent are 1.

Rows: where the share was fitted on this GPU, measured / formula of the rows along the bytes corrects it, and more bytes are
never faster; of kernels bound by rows, measured ones of the same width alone. Else seconds are interpolated between rows of the
same kernel log-log, beyond them at the end row's rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from hwprofiles.kernels.anchoring import Formula, KernelCost, along_line, derived_basis, pooled_points
from hwprofiles.kernels.parameters import EXACT, GpuLike, Range, StackLike, find, missing
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.units import MEBI

UNBOUND: Final = Range(math.inf, math.inf, math.inf)
"""A rate that a stack has not."""
REFERENCE_BYTES: Final = 64.0 * MEBI
"""Where a kernel whose bytes have an exponent moves them at its share."""


@dataclass(frozen=True, slots=True)
class MemoryConstants:
    """Of one kernel: share of the bandwidth; latency_s of a call; elements_per_s, rows_per_s (inf: bytes alone bound it);
    p (1: a sum); exponent of the bytes.
    """

    share: float
    latency_s: float = 0.0
    elements_per_s: float = math.inf
    p: float = 1.0
    rows_per_s: float = math.inf
    exponent: float = 1.0


def streaming_seconds(constants: MemoryConstants, bytes_per_s: float, floor_s: float, shape: KernelShape) -> float:
    """Seconds by the formula. bytes_per_s: the memory's bandwidth; floor_s: of one launch."""
    moving = shape.bytes / (constants.share * bytes_per_s)
    if constants.exponent != 1.0:
        grown = moving * (max(shape.bytes, 1) / REFERENCE_BYTES) ** (constants.exponent - 1.0)
        moving = max(grown, shape.bytes / bytes_per_s)
    reckoning = shape.m * max(shape.n, 1) / constants.elements_per_s
    if shape.n > 1:
        reckoning = max(reckoning, shape.m / constants.rows_per_s)
    waiting, moving = floor_s * shape.num_kernels + constants.latency_s, max(moving, reckoning)
    if constants.p == 1.0:
        return waiting + moving
    return float((waiting**constants.p + moving**constants.p) ** (1.0 / constants.p))


def memory_bound_cost(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    """A memory-bound kernel from rows of its kind and its share of the HBM bandwidth. Raises MissingKernelError."""
    floor = (find(stack, "memory.launch_floor_s") or replace(EXACT, value=0.0)).value
    stem = _stem(stack, shape)
    fraction = find(stack, stem)
    if rows and (fraction is None or fraction.basis != "interpolated"):
        return _over_bytes(shape.bytes, rows, floor * shape.num_kernels)
    if fraction is None:
        raise missing(stack, shape, f"memory.{shape.op} or memory.default")
    ends = _ends(stack, shape, stem, fraction)
    low, at, high = (streaming_seconds(end, gpu.hbm_bytes_per_s, floor, shape) for end in ends)
    if math.isfinite(ends[1].rows_per_s):
        rows = tuple(row for row in rows if row.shape.has_width_of(shape))
    if rows:
        formula: Formula = partial(streaming_seconds, ends[1], gpu.hbm_bytes_per_s, floor)
        return along_line(shape, rows, _bytes, formula, Range(1.0, low / at, high / at))
    return KernelCost(at, low, high, fraction.basis, fraction.source, fraction.state)


def _bytes(shape: KernelShape) -> float:
    return float(max(shape.bytes, 1))


def _stem(stack: StackLike, shape: KernelShape) -> str:
    """The most special key of a share that the stack has."""
    library = f"memory.{shape.op}.{shape.library}"
    stems = ((f"{library}-{shape.variant}", library) if shape.variant else (library,)) if shape.library else ()
    return next((stem for stem in (*stems, f"memory.{shape.op}") if find(stack, stem)), "memory.default")


def _ends(stack: StackLike, shape: KernelShape, stem: str, share: Range) -> tuple[MemoryConstants, ...]:
    """Constants of the fastest, the likeliest and the slowest call."""
    wait = find(stack, f"{stem}.latency_s", f"memory.{shape.op}.latency_s") or Range(0.0, 0.0, 0.0)
    rate = find(stack, f"{stem}.elements_per_s") or UNBOUND
    by_row = find(stack, f"{stem}.rows_per_s") or UNBOUND
    p, exponent = ((find(stack, f"{stem}.{name}") or EXACT).value for name in ("p", "exponent"))
    return (
        MemoryConstants(share.high, wait.low, rate.high, p, by_row.high, exponent),
        MemoryConstants(share.value, wait.value, rate.value, p, by_row.value, exponent),
        MemoryConstants(share.low, wait.high, rate.low, p, by_row.low, exponent),
    )


def _over_bytes(moved_bytes: int, rows: Sequence[KernelRow], floor_s: float) -> KernelCost:
    """Memory-bound: seconds over bytes, log-log between rows; beyond them the end row's rate (from floor_s up)."""
    points = sorted(rows, key=lambda row: row.shape.bytes)
    knots = pooled_points(points, lambda shape: float(shape.bytes), lambda _: 1.0)
    place = math.log2(max(moved_bytes, 1))
    nearest = min(points, key=lambda row: abs(math.log2(row.shape.bytes) - place))
    first, last = knots[0], knots[-1]
    inside = True
    if place <= first[0]:
        seconds = max(first[2] * 2.0 ** (place - first[0]), min(floor_s, first[2]))
        inside = place == first[0]
    elif place >= last[0]:
        seconds = last[2] * 2.0 ** (place - last[0])
        inside = False
    else:
        i = next(i for i in range(1, len(knots)) if place <= knots[i][0])
        (x0, _, t0), (x1, _, t1) = knots[i - 1], knots[i]
        seconds = t0 * (t1 / t0) ** ((place - x0) / (x1 - x0))
    low, high = nearest.low / nearest.seconds, nearest.high / nearest.seconds
    basis = derived_basis(nearest, inside)
    return KernelCost(seconds, seconds * low, seconds * high, basis, nearest.source, nearest.state)
