"""Seconds of a kernel on a stack: the measured row, or a fitted formula anchored on the nearest rows, or a fraction.

    1 a row of this very call                                             the row's basis
    2 GEMM: the formula of gemm_model.py with the stack's constants (`gemm.<dtype>.<variant>.<constant>`), times
      measured / formula of the nearest rows                              interpolated | extrapolated
    3 attention: t0 + FLOP * (1 + c / seq) / rate (`attention.<dtype>.<fwd|bwd>.<constant>`), anchored the same way
    4 memory-bound: seconds over bytes between the rows of the same kernel, log-log
    5 no row: the formula alone, or bytes / (`memory.<op>` * HBM bandwidth)   the parameter's basis
    6 rows only in the other regime: t_alone = `overlap.<class>.ratio` * t_overlapped
    7 `gemm.<dtype>.<variant>.scale`, where given: the stack's software against the release that was measured
Rows that are themselves transferred or assumed keep that basis when others are derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hwprofiles.kernels.anchoring import Formula, KernelCost, along_line, anchored, over_bytes, row_cost
from hwprofiles.kernels.gemm_model import GemmConstants, GemmLimits, GemmSize, gemm_seconds
from hwprofiles.kernels.parameters import (
    EXACT,
    GENERIC_ATTENTION,
    GENERIC_RESIDUAL,
    AttentionConstants,
    GpuLike,
    MissingKernelError,
    Range,
    StackLike,
    attention_constants,
    find,
    gemm_constants,
    generic_gemm_constants,
    need,
    peak_flop_per_s,
)
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime

FLOP_TOLERANCE = 0.05
"""An attention call whose FLOP differ by more than this from its dimensions' (a window, a slice) is another call."""


def kernel_seconds(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, regime: Regime, comm_sms: int | None = None
) -> KernelCost:
    """Seconds of one call of `shape` on the stack, with range, basis and source.

    regime: "alone", or "overlapped" (communication kernels hold SMs beside it).
    comm_sms: SMs so held; None: as many as where the stack's overlap was measured (`overlap.comm_sms`).
    Raises MissingKernelError where the stack has neither rows nor parameters for it or the GPU lacks the format.
    """
    if shape.bound == "gemm" and 0 in (shape.m, shape.n, shape.k):
        return KernelCost(0.0, 0.0, 0.0, "measured", "an empty GEMM is not launched")
    estimate = {"gemm": _gemm, "attention": _attention, "memory": _memory}[shape.bound]
    other: Regime = "alone" if regime == "overlapped" else "overlapped"
    searches: tuple[Callable[[Regime], KernelCost | None], ...] = (
        partial(_exact, shape, stack),
        partial(_from_rows, estimate, shape, stack, gpu),
    )
    for search in searches:
        for held in (regime, other):
            cost = search(held)
            if cost is not None:
                return _of_software(_in_regime(cost, shape.bound, held, regime, stack, comm_sms), shape, stack)
    cost = estimate(shape, stack, gpu, (), "alone")
    return _of_software(_in_regime(cost, shape.bound, "alone", regime, stack, comm_sms), shape, stack)


def _of_software(cost: KernelCost, shape: KernelShape, stack: StackLike) -> KernelCost:
    """Where rows and constants are of another release than the stack's: times `gemm.<dtype>.<variant>.scale`."""
    scale = find(stack, f"gemm.{shape.dtype}.{shape.variant}.scale") if shape.bound == "gemm" else None
    return cost if scale is None else replace(cost.scaled(scale), basis="transferred")


def _missing(stack: StackLike, shape: KernelShape, keys: str) -> MissingKernelError:
    return MissingKernelError(f"stack {stack.name!r} has neither rows nor the parameter {keys} for {shape}")


def _exact(shape: KernelShape, stack: StackLike, regime: Regime) -> KernelCost | None:
    """The measured row of this call."""
    if shape.flop and abs(shape.flop / shape.attention_flop - 1.0) > FLOP_TOLERANCE:
        return None
    row = stack.kernels.exact(shape, regime)
    return None if row is None else row_cost(row)


Estimate = Callable[[KernelShape, StackLike, GpuLike, tuple[KernelRow, ...], Regime], KernelCost]


def _from_rows(
    estimate: Estimate, shape: KernelShape, stack: StackLike, gpu: GpuLike, regime: Regime
) -> KernelCost | None:
    rows = stack.kernels.like(shape, regime)
    return estimate(shape, stack, gpu, rows, regime) if rows else None


def _in_regime(
    cost: KernelCost, kernel_class: str, held: Regime, wanted: Regime, stack: StackLike, comm_sms: int | None
) -> KernelCost:
    """Rule 6, and the correction for other numbers of communication SMs: the slow-down grows in proportion to them."""
    if held == wanted and (wanted == "alone" or comm_sms is None):
        return cost
    ratio = need(stack, f"overlap.{kernel_class}.ratio")
    asked = ratio
    if comm_sms is not None:
        share = comm_sms / need(stack, "overlap.comm_sms").value
        # t_overlapped / t_alone - 1 grows with the share: 1/r' = 1 + share * (1/r - 1), positive for any number of SMs.
        at, low, high = (r / (r + (1.0 - r) * share) for r in (ratio.value, ratio.low, ratio.high))
        asked = Range(at, low, high)
    if held == wanted:
        ratios = (ratio.value / asked.value, ratio.low / asked.low, ratio.high / asked.high)
        return cost.scaled(Range(ratios[0], min(ratios), max(ratios)))
    if wanted == "alone":
        changed = cost.scaled(ratio)
    else:
        changed = cost.scaled(Range(1.0 / asked.value, 1.0 / asked.high, 1.0 / asked.low))
    return replace(changed, basis="interpolated") if cost.basis == "measured" else changed


# GEMM


def _gemm(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    peak = peak_flop_per_s(gpu, shape.dtype)
    found = gemm_constants(stack, shape.dtype, shape.variant or "fprop")
    if found is None and not rows:
        raise _missing(stack, shape, f"gemm.{shape.dtype}.{shape.variant or 'fprop'}.*")
    constants, residual = found or (generic_gemm_constants(gpu), GENERIC_RESIDUAL)
    free_sms = next((row.sms for row in rows if row.sms), gpu.num_sms)
    limits = GemmLimits(peak, gpu.hbm_bytes_per_s, gpu.num_sms, min(free_sms, gpu.num_sms))
    formula: Formula = partial(_gemm_formula, constants, limits)
    line = [row for row in rows if _is_same_weight(row.shape, shape)]
    if line:
        return along_line(shape, line, _token_rows, formula, residual)
    free = _gemm_formula(constants, replace(limits, free_sms=gpu.num_sms), shape)
    if not rows:
        return _alone(free, residual)
    unanchored_s = None if found is None else free / _slow_down(stack, "gemm", regime)
    return anchored(shape, rows, formula, _gemm_place, _gemm_extents, residual, unanchored_s)


def _gemm_formula(constants: GemmConstants, limits: GemmLimits, shape: KernelShape) -> float:
    size = GemmSize(shape.m, shape.n, shape.k, shape.groups, shape.variant, shape.dtype)
    return gemm_seconds(size, constants, limits)


def _token_rows(shape: KernelShape) -> float:
    """The dimension that counts tokens: k of a weight gradient, else m."""
    return float(shape.k if shape.variant == "wgrad" else shape.m)


def _slow_down(stack: StackLike, kernel_class: str, regime: Regime) -> float:
    """t_alone / t_overlapped of a kernel class where the regime is overlapped, else 1."""
    return need(stack, f"overlap.{kernel_class}.ratio").value if regime == "overlapped" else 1.0


def _is_same_weight(a: KernelShape, b: KernelShape) -> bool:
    """Whether two GEMMs are the same layer, pass and groups, whatever their token rows."""
    if (a.variant, a.n, a.groups) != (b.variant, b.n, b.groups):
        return False
    return a.m == b.m if a.variant == "wgrad" else a.k == b.k


def _gemm_place(shape: KernelShape) -> tuple[float, ...]:
    """log2 of one group's m, n, k, then of the groups, then the pass: half a doubling between fprop and dgrad."""
    m, n, k = GemmSize(shape.m, shape.n, shape.k, shape.groups, shape.variant, shape.dtype).per_group
    if shape.variant == "wgrad":  # the two weight dimensions are alike
        m, n = min(m, n), max(m, n)
    is_dgrad = 0.5 if shape.variant == "dgrad" else 0.0
    return math.log2(max(m, 1.0)), math.log2(n), math.log2(max(k, 1.0)), math.log2(shape.groups), is_dgrad


def _gemm_extents(shape: KernelShape) -> tuple[float, ...]:
    return _gemm_place(shape)[:3]


def _alone(seconds: float, residual: Range) -> KernelCost:
    return KernelCost(seconds, seconds * residual.low, seconds * residual.high, residual.basis, residual.source)


# Attention


def _attention(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    peak = peak_flop_per_s(gpu, shape.dtype)
    direction = shape.op.removeprefix("attention_")
    found = attention_constants(stack, shape.dtype, direction, shape.head_dim_qk)
    if found is None and not rows:
        raise _missing(stack, shape, f"attention.{shape.dtype}.{direction}.*")
    constants, residual = found or (GENERIC_ATTENTION, GENERIC_RESIDUAL)
    formula: Formula = partial(_attention_formula, constants, peak)
    if not rows:
        return _alone(formula(shape), residual)
    unanchored_s = None if found is None else formula(shape) / _slow_down(stack, "attention", regime)
    return anchored(shape, rows, formula, _attention_place, _attention_extents, residual, unanchored_s)


def _attention_formula(constants: AttentionConstants, peak: float, shape: KernelShape) -> float:
    return constants.seconds(shape.flop or shape.attention_flop, shape.seq, peak)


def _attention_place(shape: KernelShape) -> tuple[float, ...]:
    """Half the log2 of the sequence and of batch * heads (long known to the formula), head sizes, key sharing, mask."""
    sharing = math.log2(shape.heads / (shape.kv_heads or shape.heads))
    return (
        0.5 * math.log2(shape.seq),
        0.5 * math.log2(shape.batch * shape.heads),
        2.0 * math.log2(shape.head_dim_qk),
        2.0 * math.log2(shape.head_dim_v),
        0.25 * sharing,
        0.0 if shape.causal else 1.0,
    )


def _attention_extents(shape: KernelShape) -> tuple[float, ...]:
    return math.log2(shape.seq), float(shape.head_dim_qk), float(shape.head_dim_v)


# Memory-bound


def _memory(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    floor = (find(stack, "memory.launch_floor_s") or replace(EXACT, value=0.0)).value * shape.num_kernels
    usable = tuple(row for row in rows if row.shape.bytes)
    if usable:
        return over_bytes(shape.bytes, usable, floor)
    fraction = find(stack, f"memory.{shape.op}", "memory.default")
    if fraction is None:
        raise _missing(stack, shape, f"memory.{shape.op} or memory.default")
    low, at, high = (
        floor + shape.bytes / (share * gpu.hbm_bytes_per_s) for share in (fraction.high, fraction.value, fraction.low)
    )
    return KernelCost(at, low, high, fraction.basis, fraction.source)
