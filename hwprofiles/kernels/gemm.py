"""Time of one dense or grouped GEMM from a handful of fitted constants: tiles, waves, operand fetch, memory, power.

    t = t0 + (C^p + H^p + P^p)^(1/p), minimised over the kernel's tiles (bm, bn)
    C = ceil(tiles / SMs) * (ceil(K / 128) * step + t_tile + bm * bn * out_bytes / st)
        step = max(2 * bm * bn * 128 / (eta * peak per SM), (bm + bn) * 128 * in_bytes / l2)
    H = bytes of both operands and the result / (eb * HBM bandwidth)
    P = FLOP / (ecap * peak), the power or issue ceiling of the whole chip

Every term grows with m, n and k for a fixed tile, so the minimum does too: a larger GEMM is never faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from hwprofiles.kernels.anchoring import GENERIC_RESIDUAL, Formula, KernelCost, along_line, anchored, unanchored
from hwprofiles.kernels.parameters import GpuLike, Range, StackLike, find, missing, need, overlap_ratio, peak_flop_per_s
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.units import MICRO

K_STEP = 128
"""Reduced elements of one main-loop step (also the block of FP8 scaling)."""

IN_BYTES: dict[str, float] = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "nvfp4": 0.5625, "mxfp8": 1.03125}
"""Bytes of one operand element, scales included where they come in blocks of 16 or 32; else 1 (8-bit formats)."""

WGRAD_STORE_BYTES = 4.0
WGRAD_MOVED_BYTES = 8.0
"""A weight gradient is read, added to and written in FP32; other results are written once in BF16."""

RESULT_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class GemmSize:
    """One call: m, n, k as in KernelShape (m of fprop and dgrad, k of wgrad, over all groups)."""

    m: int
    n: int
    k: int
    groups: int
    variant: str
    dtype: str

    @property
    def flop(self) -> float:
        """FLOP of the call; a multiply-add counts 2."""
        return 2.0 * self.m * self.n * self.k

    @property
    def per_group(self) -> tuple[float, float, float]:
        """Rows, columns and reduced length of one group's GEMM."""
        if self.variant == "wgrad":
            return float(self.m), float(self.n), self.k / self.groups
        return self.m / self.groups, float(self.n), float(self.k)


@dataclass(frozen=True, slots=True)
class GemmConstants:
    """Constants of one kernel family on one GPU.

    t0_s: launch and prologue of a call, s; t_tile_s: fixed time of one tile, s.
    st_bytes_per_s, l2_bytes_per_s: result store and operand fetch of one SM, bytes/s.
    eta, ecap: share of the dense peak that an SM's tensor core, and that the whole chip, can hold.
    eb: share of the HBM bandwidth; p: sharpness of the maximum of the three limits.
    bm_max, bn_max, bn_step: tiles the kernel offers: bm 64, 128 … bm_max, bn up to bn_max in steps of bn_step.
    """

    t0_s: float
    t_tile_s: float
    st_bytes_per_s: float
    l2_bytes_per_s: float
    eta: float
    ecap: float
    eb: float
    p: float = 8.0
    bm_max: int = 128
    bn_max: int = 128
    bn_step: int = 8


@dataclass(frozen=True, slots=True)
class GemmLimits:
    """What the datasheet allows: dense peak of the format (FLOP/s), HBM bytes/s, SMs of the chip, SMs free."""

    peak_flop_per_s: float
    hbm_bytes_per_s: float
    num_sms: int
    free_sms: int


@lru_cache(maxsize=16)
def _tiles(bm_max: int, bn_max: int, bn_step: int) -> tuple[np.ndarray, np.ndarray]:
    """All (bm, bn) of a kernel family as two flat arrays."""
    heights = [64 << i for i in range(max(1, int(math.log2(bm_max // 64)) + 1))]
    widths = list(range(max(16, bn_step), bn_max + 1, bn_step))
    grid_bm, grid_bn = np.meshgrid(np.array(heights, float), np.array(widths, float), indexing="ij")
    return grid_bm.ravel(), grid_bn.ravel()


@lru_cache(maxsize=65536)
def gemm_seconds(size: GemmSize, constants: GemmConstants, limits: GemmLimits) -> float:
    """Seconds of the call on an otherwise idle GPU (or on its free SMs)."""
    if size.m == 0 or size.n == 0 or size.k == 0:
        return 0.0
    m, n, k = size.per_group
    is_wgrad = size.variant == "wgrad"
    in_bytes = IN_BYTES.get(size.dtype, 1.0)
    store_bytes, moved_bytes = (WGRAD_STORE_BYTES, WGRAD_MOVED_BYTES) if is_wgrad else (RESULT_BYTES, RESULT_BYTES)
    bm, bn = _tiles(constants.bm_max, constants.bn_max, constants.bn_step)
    peak_per_sm = limits.peak_flop_per_s / limits.num_sms
    step = np.maximum(
        2.0 * K_STEP * bm * bn / (constants.eta * peak_per_sm),
        (bm + bn) * (K_STEP * in_bytes) / constants.l2_bytes_per_s,
    )
    tiles = size.groups * np.ceil(m / bm) * np.ceil(n / bn)
    one_tile = math.ceil(k / K_STEP) * step + constants.t_tile_s + bm * bn * (store_bytes / constants.st_bytes_per_s)
    compute = float((np.ceil(tiles / limits.free_sms) * one_tile).min())
    moved = size.groups * ((m * k + n * k) * in_bytes + m * n * moved_bytes)
    memory = moved / (constants.eb * limits.hbm_bytes_per_s)
    power = size.flop / (constants.ecap * limits.peak_flop_per_s)
    top = max(compute, memory, power)
    p = constants.p
    norm = math.pow((compute / top) ** p + (memory / top) ** p + (power / top) ** p, 1.0 / p)
    return constants.t0_s + top * norm


_REQUIRED = ("t0_s", "t_tile_s", "st_bytes_per_s", "l2_bytes_per_s", "eta", "ecap", "eb")
_OPTIONAL = ("p", "bm_max", "bn_max", "bn_step")
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


def gemm_constants(stack: StackLike, dtype: str, variant: str) -> tuple[GemmConstants, Range] | None:
    """Constants of a GEMM family and the range of measured / formula (`residual`); None where the stack lacks one."""
    values: dict[str, Any] = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        found = find(stack, f"gemm.{dtype}.{variant}.{name}", f"gemm.{dtype}.{name}")
        if found is not None:
            values[name] = round(found.value) if name.startswith("b") else found.value
        elif name in _REQUIRED:
            return None
    residual = need(stack, f"gemm.{dtype}.{variant}.residual", f"gemm.{dtype}.residual")
    return GemmConstants(**values), residual


def gemm_cost(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    """A GEMM by the formula, anchored on `rows` (of the regime). Raises MissingKernelError."""
    peak = peak_flop_per_s(gpu, shape.dtype)
    found = gemm_constants(stack, shape.dtype, shape.variant or "fprop")
    if found is None and not rows:
        raise missing(stack, shape, f"gemm.{shape.dtype}.{shape.variant or 'fprop'}.*")
    constants, residual = found or (generic_gemm_constants(gpu), GENERIC_RESIDUAL)
    free_sms = next((row.sms for row in rows if row.sms), gpu.num_sms)
    limits = GemmLimits(peak, gpu.hbm_bytes_per_s, gpu.num_sms, min(free_sms, gpu.num_sms))
    formula: Formula = partial(_gemm_formula, constants, limits)
    line = [row for row in rows if _is_same_weight(row.shape, shape)]
    if line:
        return along_line(shape, line, _token_rows, formula, residual)
    free = _gemm_formula(constants, replace(limits, free_sms=gpu.num_sms), shape)
    if not rows:
        return unanchored(free, residual)
    unanchored_s = None if found is None else free / overlap_ratio(stack, "gemm", regime)
    return anchored(shape, rows, formula, _gemm_place, _gemm_extents, residual, unanchored_s)


def _gemm_formula(constants: GemmConstants, limits: GemmLimits, shape: KernelShape) -> float:
    size = GemmSize(shape.m, shape.n, shape.k, shape.groups, shape.variant, shape.dtype)
    return gemm_seconds(size, constants, limits)


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
    m, n, k = GemmSize(shape.m, shape.n, shape.k, shape.groups, shape.variant, shape.dtype).per_group
    if shape.variant == "wgrad":  # the two weight dimensions are alike
        m, n = min(m, n), max(m, n)
    is_dgrad = 0.5 if shape.variant == "dgrad" else 0.0
    return math.log2(max(m, 1.0)), math.log2(n), math.log2(max(k, 1.0)), math.log2(shape.groups), is_dgrad


def _gemm_extents(shape: KernelShape) -> tuple[float, ...]:
    return _gemm_place(shape)[:3]
