"""GEMMs of a stack: the formula of gemm_formula.py with its constants, anchored on its rows.

Keys of constants, the more special ones first: `gemm.<dtype>[.<library>][.grouped][.<variant>].<constant>`; `grouped` for one
launch of several groups, never for a loop of launches, which are dense GEMMs. A library that goes by its name
(KernelShape.named_gemms) takes nothing of the keys without one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from hwprofiles.kernels.anchoring import ANCHOR, FAR, GENERIC_RESIDUAL, KernelCost, along_line, anchored, unanchored
from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, Tiles, gemm_seconds
from hwprofiles.kernels.parameters import GpuLike, Range, StackLike, find, missing, need, overlap_ratio, peak_flop_per_s
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.units import MICRO

GROUPED: Final = "grouped"
"""KernelShape.library of several experts: one launch for all; shape.LOOP: a launch for each; "": as the stack's rows, else the
faster."""

_REQUIRED = ("t0_s", "t_tile_s", "st_bytes_per_s", "l2_bytes_per_s", "eta", "ecap", "eb")
_WHOLE = Tiles._fields
WRITTEN, OUT = ("bf16", "fp32"), "-out"
"""Results of a weight gradient that are not added to anything, of dense GEMMs, and what follows them in keys of constants of
their own: `gemm.<dtype>.wgrad.bf16-out.<constant>`."""
_OPTIONAL = ("p", "q", "t_step_s", "slow", "skew", *_WHOLE)
"""Those for which `GemmConstants` has a default."""


def generic_gemm_constants(gpu: GpuLike) -> GemmConstants:
    """Shape of the formula for a stack that has rows but no fitted constants: only ratios between sizes are used.

    Tile overhead and rates are those of Hopper library kernels in round figures (reference fits lie within a factor 2).
    """
    per_sm = gpu.hbm_bytes_per_s / gpu.num_sms
    return GemmConstants(
        t0_s=2.0 * MICRO,
        t_tile_s=0.8 * MICRO,
        st_bytes_per_s=per_sm,
        l2_bytes_per_s=3.2 * per_sm,
        eta=0.85,
        ecap=0.8,
        eb=0.82,
    )


def gemm_constants(
    stack: StackLike, dtype: str, variant: str, *, is_grouped: bool = False, library: str = "", result: str = ""
) -> tuple[GemmConstants, Range] | None:
    """Constants of a GEMM family and the range of measured / formula (`residual`); None where the stack lacks one.

    library: KernelShape.named_gemms. result: KernelShape.result.
    """
    stems = _stems(dtype, variant, is_grouped=is_grouped, library=library, result=result)
    values: dict[str, Any] = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        found = find(stack, *(f"{stem}.{name}" for stem in stems))
        if found is not None:
            values[name] = round(found.value) if name in _WHOLE else found.value
        elif name in _REQUIRED:
            return None
    return GemmConstants(**values), need(stack, *(f"{stem}.residual" for stem in stems))


def _stems(dtype: str, variant: str, *, is_grouped: bool, library: str = "", result: str = "") -> tuple[str, ...]:
    """Beginnings of a family's keys, the more special ones first."""
    family = f"gemm.{dtype}.{library}" if library else f"gemm.{dtype}"
    grouped = (f"{family}.grouped.{variant}", f"{family}.grouped") if is_grouped else ()
    written = (
        (f"{family}.{variant}.{result}{OUT}",) if result in WRITTEN and variant == "wgrad" and not is_grouped else ()
    )
    return *grouped, *written, f"{family}.{variant}", family


def gemm_cost(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    """A GEMM by the formula, anchored on `rows` (of the regime), which are of even groups. Raises MissingKernelError."""
    peak = peak_flop_per_s(gpu, shape.dtype)
    found = _constants_for(stack, shape)
    if found is None and not rows:
        family = ".".join(filter(None, ("gemm", shape.dtype, shape.named_gemms, shape.variant or "fprop")))
        raise missing(stack, shape, f"{family}.*")
    residual = found[1] if found else GENERIC_RESIDUAL
    free_sms = next((row.sms for row in rows if row.sms), gpu.num_sms)
    limits = GemmLimits(peak, gpu.hbm_bytes_per_s, gpu.num_sms, min(free_sms, gpu.num_sms))

    rows = _rows_of_result(shape, rows)
    known: dict[tuple[str, bool, str], GemmConstants] = {}

    def formula(asked: KernelShape) -> float:
        """Of the shape and of each row by the constants of its own pass and result, grouped or not."""
        key = (asked.variant, asked.groups > 1, asked.result)
        if key not in known:
            own = _constants_for(stack, asked)
            known[key] = own[0] if own else generic_gemm_constants(gpu)
        return gemm_seconds(gemm_size(asked), known[key], limits)

    if rows and shape.rows_cv:
        even = replace(shape, rows_cv=0.0)
        ratio = formula(shape) / formula(even)
        return gemm_cost(even, stack, gpu, rows, regime).scaled(Range(ratio, ratio, ratio))
    line = [row for row in rows if _is_same_weight(row.shape, shape)]
    if line:
        return _within_peak(along_line(shape, line, _token_rows, formula, residual), shape, peak)
    if found is None:
        return _within_peak(anchored(shape, rows, formula, _gemm_place, _gemm_extents, residual, None), shape, peak)
    free = gemm_seconds(gemm_size(shape), found[0], replace(limits, free_sms=gpu.num_sms))
    if not rows:
        return unanchored(free, residual)
    unanchored_s = free / overlap_ratio(stack, "gemm", regime)
    far = _far(stack, shape)
    cost = anchored(shape, rows, formula, _gemm_place, _gemm_extents, residual, unanchored_s, far)
    return _within_peak(cost, shape, peak)


def _rows_of_result(shape: KernelShape, rows: tuple[KernelRow, ...]) -> tuple[KernelRow, ...]:
    """Of a weight gradient's rows those whose result becomes the same; where there is none, those of results that are added,
    by the ratio of the formula.
    """
    if shape.variant != "wgrad":
        return tuple(row for row in rows if row.shape.variant != "wgrad" or row.shape.result not in WRITTEN)
    same = tuple(row for row in rows if row.shape.variant != "wgrad" or row.shape.result == shape.result)
    if any(row.shape.variant == "wgrad" for row in same):
        return same
    return tuple(row for row in rows if row.shape.result not in WRITTEN)


def _far(stack: StackLike, shape: KernelShape) -> float:
    """Distance at which a row weighs as much as the constants."""
    stems = _stems(
        shape.dtype, shape.variant or "fprop", is_grouped=shape.groups > 1, library=shape.named_gemms, result=shape.result
    )  # fmt: skip
    found = find(stack, *(f"{stem}.{ANCHOR}" for stem in stems))
    return found.value if found else FAR


def _within_peak(cost: KernelCost, shape: KernelShape, peak_flop_per_s: float) -> KernelCost:
    """What rows of quite another size say, no faster than the datasheet's peak."""
    least = shape.flop_of_sizes / peak_flop_per_s
    return cost if cost.seconds >= least else replace(cost, seconds=least, high=max(cost.high, least))


def _constants_for(stack: StackLike, shape: KernelShape) -> tuple[GemmConstants, Range] | None:
    return gemm_constants(
        stack, shape.dtype, shape.variant or "fprop", is_grouped=shape.groups > 1, library=shape.named_gemms,
        result=shape.result,
    )  # fmt: skip


def gemm_size(shape: KernelShape) -> GemmSize:
    """The call as the formula takes it."""
    return GemmSize(shape.m, shape.n, shape.k, shape.groups, shape.variant, shape.dtype, shape.rows_cv, shape.result)


def launch_of_loop(shape: KernelShape) -> KernelShape:
    """One of the launches, a group each, of a loop: a dense GEMM of the groups' mean rows."""
    rows = math.ceil(_token_rows(shape) / shape.groups)
    one = replace(shape, op="gemm", groups=1, library="")
    return replace(one, k=rows) if shape.variant == "wgrad" else replace(one, m=rows)


def _token_rows(shape: KernelShape) -> float:
    """The dimension that counts tokens: k of a weight gradient, else m."""
    return float(shape.k if shape.variant == "wgrad" else shape.m)


def _is_same_weight(a: KernelShape, b: KernelShape) -> bool:
    """Whether two GEMMs are the same layer, pass and groups, whatever their token rows."""
    if (a.variant, a.n, a.groups) != (b.variant, b.n, b.groups):
        return False
    return a.m == b.m if a.variant == "wgrad" else a.k == b.k


def _gemm_place(shape: KernelShape) -> tuple[float, ...]:
    """log2 of one group's m, n, k, then of the groups, then the pass: half a doubling between fprop and dgrad."""
    m, n, k = gemm_size(shape).per_group
    if shape.variant == "wgrad":  # the two weight dimensions are alike
        m, n = min(m, n), max(m, n)
    is_dgrad = 0.5 if shape.variant == "dgrad" else 0.0
    return math.log2(max(m, 1.0)), math.log2(n), math.log2(max(k, 1.0)), math.log2(shape.groups), is_dgrad


def _gemm_extents(shape: KernelShape) -> tuple[float, ...]:
    return _gemm_place(shape)[:3]
