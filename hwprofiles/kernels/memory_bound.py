"""Kernels bound by the memory's bandwidth: seconds over bytes moved.

Between rows of the same kernel log-log, beyond them at the end row's rate; without rows a launch floor for each kernel
plus bytes / (`memory.<op>` * HBM bandwidth), or `memory.default` where the stack has no share of its own; of a kernel
whose steps wait for one another `memory.<op>.latency_s` more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hwprofiles.kernels.anchoring import KernelCost, derived_basis, pooled_points
from hwprofiles.kernels.parameters import EXACT, GpuLike, StackLike, find, missing
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime


def memory_bound_cost(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    """A memory-bound kernel from rows of its kind, else from its share of the HBM bandwidth. Raises MissingKernelError."""
    floor = (find(stack, "memory.launch_floor_s") or replace(EXACT, value=0.0)).value * shape.num_kernels
    if rows:
        return _over_bytes(shape.bytes, rows, floor)
    fraction = find(stack, f"memory.{shape.op}", "memory.default")
    if fraction is None:
        raise missing(stack, shape, f"memory.{shape.op} or memory.default")
    wait = find(stack, f"memory.{shape.op}.latency_s") or replace(EXACT, value=0.0, low=0.0, high=0.0)
    low, at, high = (
        floor + latency + shape.bytes / (share * gpu.hbm_bytes_per_s)
        for latency, share in (
            (wait.low, fraction.high), (wait.value, fraction.value), (wait.high, fraction.low)
        )
    )  # fmt: skip
    return KernelCost(at, low, high, fraction.basis, fraction.source, fraction.state)


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
