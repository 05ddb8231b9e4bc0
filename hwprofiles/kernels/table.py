"""Seconds of a kernel on a stack: the measured row, or a fitted formula anchored on the nearest rows, or a fraction.

    1 a row of this very call                                             the row's basis
    2 GEMM: the formula of gemm.py with the stack's constants (`gemm.<dtype>.<variant>.<constant>`), times
      measured / formula of the nearest rows                              interpolated | extrapolated
    3 attention: t0 + FLOP * (1 + c / seq) / rate (`attention.<dtype>.<fwd|bwd>.<constant>`), anchored the same way
    4 memory-bound: seconds over bytes between the rows of the same kernel, log-log
    5 no row: the formula alone, or bytes / (`memory.<op>` * HBM bandwidth)   the parameter's basis
    6 rows only in the other regime: t_alone = `overlap.<class>.ratio` * t_overlapped
    7 a grouped GEMM as a loop of launches: as many dense GEMMs; where nobody says and no row is of one, the faster way
    8 `gemm.<dtype>.<variant>.scale`, where given: the stack's software against the release that was measured
Rows that are themselves transferred or assumed keep that basis when others are derived from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import get_args

from hwprofiles.kernels.anchoring import KernelCost, row_cost
from hwprofiles.kernels.attention import attention_cost
from hwprofiles.kernels.gemm import GROUPED, gemm_cost, launch_of_loop
from hwprofiles.kernels.memory_bound import memory_bound_cost
from hwprofiles.kernels.parameters import GpuLike, Range, StackLike, find, need
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import LOOP, Bound, KernelShape, Regime

FLOP_TOLERANCE = 0.05
"""An attention call whose FLOP differ by more than this from its dimensions' (a window, a slice) is another call."""


Estimate = Callable[[KernelShape, StackLike, GpuLike, tuple[KernelRow, ...], Regime], KernelCost]
ESTIMATES: Mapping[Bound, Estimate] = {"gemm": gemm_cost, "attention": attention_cost, "memory": memory_bound_cost}
"""What bounds a kernel → how it is estimated from rows (which may be none) of a regime."""


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
    if shape.library == LOOP and shape.groups > 1:
        one = kernel_seconds(launch_of_loop(shape), stack, gpu, regime, comm_sms)
        return one.scaled(Range(shape.groups, shape.groups, shape.groups))
    if _is_free(shape, stack):
        ways = (kernel_seconds(replace(shape, library=way), stack, gpu, regime, comm_sms) for way in (GROUPED, LOOP))
        return min(ways, key=lambda cost: cost.seconds)
    estimate = ESTIMATES[shape.bound]
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


def _is_free(shape: KernelShape, stack: StackLike) -> bool:
    """Whether neither the caller nor a measured row says how the GEMMs of several experts run: then the faster way."""
    is_open = shape.bound == "gemm" and shape.groups > 1 and not shape.library
    return is_open and not any(row.shape.groups > 1 for row in _rows_like(shape, stack))


def _rows_like(shape: KernelShape, stack: StackLike) -> Iterator[KernelRow]:
    for regime in get_args(Regime):
        yield from stack.kernels.like(shape, regime)


def beside_communication(cost: KernelCost, bound: Bound, stack: StackLike, comm_sms: int) -> KernelCost:
    """A lone call's cost with a collective beside it that holds so many SMs (rule 6). Raises MissingKernelError.

    Collectives of NCCL take memory bandwidth too: what kernels keep beside one was measured (`overlap.collective.*`); a stack
    that says nothing has them as beside dispatch and combine.
    """
    ratio = find(stack, f"overlap.collective.{bound}.ratio")
    if ratio is None:
        return _in_regime(cost, bound, "alone", "overlapped", stack, comm_sms)
    return _slowed(cost, _with_sms(ratio, comm_sms / need(stack, "overlap.collective.sms").value))


def _with_sms(ratio: Range, share: float) -> Range:
    """The share of its rate that a kernel keeps beside `share` times the SMs of a ratio that was found.

    t_overlapped / t_alone - 1 grows with it: 1/r' = 1 + share * (1/r - 1), positive for any number of SMs.
    """
    at, low, high = (r / (r + (1.0 - r) * share) for r in (ratio.value, ratio.low, ratio.high))
    return Range(at, low, high)


def _slowed(cost: KernelCost, ratio: Range) -> KernelCost:
    """A lone call's cost at a share of its rate."""
    changed = cost.scaled(Range(1.0 / ratio.value, 1.0 / ratio.high, 1.0 / ratio.low))
    return replace(changed, basis="interpolated") if cost.basis == "measured" else changed


def _of_software(cost: KernelCost, shape: KernelShape, stack: StackLike) -> KernelCost:
    """Where rows and constants are of another release than the stack's: times `gemm.<dtype>.<variant>.scale`."""
    is_stacks_own = shape.bound == "gemm" and not shape.named_gemms
    scale = find(stack, f"gemm.{shape.dtype}.{shape.variant}.scale") if is_stacks_own else None
    return cost if scale is None else replace(cost.scaled(scale), basis="transferred")


def _exact(shape: KernelShape, stack: StackLike, regime: Regime) -> KernelCost | None:
    """The measured row of this call."""
    if shape.documents or (shape.flop and abs(shape.flop / shape.attention_flop - 1.0) > FLOP_TOLERANCE):
        return None
    row = stack.kernels.exact(shape, regime)
    return None if row is None else row_cost(row)


def _from_rows(
    estimate: Estimate, shape: KernelShape, stack: StackLike, gpu: GpuLike, regime: Regime
) -> KernelCost | None:
    rows = stack.kernels.like(shape, regime)
    return estimate(shape, stack, gpu, rows, regime) if rows else None


def _in_regime(
    cost: KernelCost, bound: Bound, held: Regime, wanted: Regime, stack: StackLike, comm_sms: int | None
) -> KernelCost:
    """Rule 6, and the correction for other numbers of communication SMs: the slow-down grows in proportion to them."""
    if held == wanted and (wanted == "alone" or comm_sms is None):
        return cost
    ratio = need(stack, f"overlap.{bound}.ratio")
    asked = ratio
    if comm_sms is not None:
        asked = _with_sms(ratio, comm_sms / need(stack, "overlap.comm_sms").value)
    if held == wanted:
        ratios = (ratio.value / asked.value, ratio.low / asked.low, ratio.high / asked.high)
        return cost.scaled(Range(ratios[0], min(ratios), max(ratios)))
    if wanted == "overlapped":
        return _slowed(cost, asked)
    changed = cost.scaled(ratio)
    return replace(changed, basis="interpolated") if cost.basis == "measured" else changed
