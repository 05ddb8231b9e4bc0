"""Time of one dense or grouped GEMM from a handful of fitted constants: tiles, waves, operand fetch, memory, power.

    t = t0 + (C^p + H^p + P^p)^(1/p), minimised over the kernel's tiles (bm, bn)
    C = ceil(tiles / SMs) * (((steps * step)^q + (bm * bn * out_bytes / st)^q)^(1/q) + t_tile)
        step = max(2 * bm * bn * 128 / (eta * peak per SM), (bm + bn) * 128 * in_bytes / l2)
        tiles = groups * whole(m / bm) * ceil(n / bn), steps = whole(K / 128), m and K of a group
    H = bytes of both operands and the result / (eb * HBM bandwidth)
    P = FLOP / (ecap * peak), the power or issue ceiling of the whole chip

q says how far a tile's result is stored beside the next one's main loop: 1, after it. A library that splits K over `splits` (2,
4, …) parts where tiles are few has `splits` times the tiles of as many steps less, stores sums in FP32, and adds them up by a
launch of its own that reads them from memory.

A grouped kernel pools the tiles of all groups; a launch of one group fills its last wave alone. Where rows are spread over the
groups unevenly (coefficient of variation rows_cv), `whole` is the expected number of a group's tiles: half a tile more than
its rows fill, once the spread is a fraction of a tile; with less, the chance that the last whole tile overflows; and never
fewer than of even groups, which can be unlucky for all alike.

Every term grows with m, n, k and rows_cv for a fixed tile, so the minimum does too: a larger GEMM is never faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

K_STEP = 128
"""Reduced elements of one main-loop step (also the block of FP8 scaling)."""

IN_BYTES: dict[str, float] = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "nvfp4": 0.5625, "mxfp8": 1.03125}
"""Bytes of one operand element, scales included where they come in blocks of 16 or 32; else 1 (8-bit formats)."""

RESULTS: dict[str, tuple[float, float]] = {"bf16": (2.0, 2.0), "fp32": (4.0, 4.0), "added": (4.0, 8.0)}
"""What becomes of a result → bytes an element that an SM stores, and that memory moves. added: to what is there in FP32."""

MIDDLE_ROWS, LARGE, ENOUGH_LARGE = 128, 2048, 2
"""Sizes by which torch chooses kernels of its grouped product: see GemmSize.is_middle."""
SUM_BYTES = 4.0
"""Of a sum over a part of K."""

LOGISTIC = 1.702
"""1 / (1 + exp(-LOGISTIC * x)) is the normal law's distribution function within 0.01."""
LARGEST_EXPONENT = 700.0
"""Of exp without overflow."""


@dataclass(frozen=True, slots=True)
class GemmSize:
    """One call: m, n, k as in KernelShape (m of fprop and dgrad, k of wgrad, over all groups).

    rows_cv: standard deviation of the groups' rows over their mean; with one group: of the launches of which this is the mean.
    result: key of RESULTS; "": "added" of a weight gradient, else "bf16".
    """

    m: int
    n: int
    k: int
    groups: int
    variant: str
    dtype: str
    rows_cv: float = 0.0
    result: str = ""

    @property
    def result_bytes(self) -> tuple[float, float]:
        """As RESULTS."""
        return RESULTS[self.result or ("added" if self.variant == "wgrad" else "bf16")]

    @property
    def flop(self) -> float:
        """FLOP of the call; a multiply-add counts 2."""
        return 2.0 * self.m * self.n * self.k

    @property
    def is_middle(self) -> bool:
        """Whether torch's grouped product scaled by rows takes its slow kernel: groups of more than 128 rows where fewer than
        two of rows, columns and reduced length are at least 2,048. So measured on an H100 in 120 calls.
        """
        sizes = self.per_group
        return self.groups > 1 and sizes[0] > MIDDLE_ROWS and sum(size >= LARGE for size in sizes) < ENOUGH_LARGE

    @property
    def is_skewed(self) -> bool:
        """Whether groups of a weight gradient begin inside a line of memory: uneven rows lie innermost in 8-bit operands.
        The slow kernel of middle sizes takes no longer for it.
        """
        return self.variant == "wgrad" and self.groups > 1 and self.rows_cv > 0.0 and not self.is_middle

    @property
    def per_group(self) -> tuple[float, float, float]:
        """Rows, columns and reduced length of one group's GEMM."""
        if self.variant == "wgrad":
            return float(self.m), float(self.n), self.k / self.groups
        return self.m / self.groups, float(self.n), float(self.k)


class Tiles(NamedTuple):
    """What a kernel offers, as GemmConstants has it."""

    bm_max: int
    bn_max: int
    bn_step: int
    splits: int = 1
    bm_min: int = 64


class _Cuts(NamedTuple):
    """All tiles of a family and the parts of K, as flat arrays."""

    bm: np.ndarray
    bn: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True, slots=True)
class GemmConstants:
    """Constants of one kernel family on one GPU.

    t0_s: launch and prologue of a call, s; t_tile_s: fixed time of one tile, s.
    st_bytes_per_s, l2_bytes_per_s: result store and operand fetch of one SM, bytes/s.
    eta, ecap: share of the dense peak that an SM's tensor core, and that the whole chip, can hold.
    eb: share of the HBM bandwidth; p: sharpness of the maximum of the three limits; q: of main loop and store of a tile.
    bm_max, bn_max, bn_step: tiles the kernel offers: bm bm_min, twice that … bm_max, bn up to bn_max in steps of bn_step.
    t_step_s: a main-loop step takes at least that, however small its tile.
    slow: how much longer the waves of a grouped launch of middle sizes take (GemmSize.is_middle), 1: no longer.
    skew: how much longer a step takes whose operands begin inside a line of memory (GemmSize.is_skewed), 1: no longer.
    splits: into how many parts a single group's K may be split.
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
    q: float = 1.0
    splits: int = 1
    bm_min: int = 64
    t_step_s: float = 0.0
    slow: float = 1.0
    skew: float = 1.0

    @property
    def tiles(self) -> Tiles:
        """What the kernel offers."""
        return Tiles(self.bm_max, self.bn_max, self.bn_step, self.splits, self.bm_min)


@dataclass(frozen=True, slots=True)
class GemmLimits:
    """What the datasheet allows: dense peak of the format (FLOP/s), HBM bytes/s, SMs of the chip, SMs free."""

    peak_flop_per_s: float
    hbm_bytes_per_s: float
    num_sms: int
    free_sms: int


@lru_cache(maxsize=32)
def _cuts(tiles: Tiles, is_grouped: bool) -> _Cuts:
    """All (bm, bn, parts) of a kernel family; only a single group's K is split."""
    heights = [tiles.bm_min << i for i in range(max(1, int(math.log2(tiles.bm_max // tiles.bm_min)) + 1))]
    widths = list(range(max(16, tiles.bn_step), tiles.bn_max + 1, tiles.bn_step))
    parts = [1 << i for i in range(1 if is_grouped else int(math.log2(tiles.splits)) + 1)]
    grid = np.meshgrid(np.array(parts, float), np.array(heights, float), np.array(widths, float), indexing="ij")
    return _Cuts(grid[1].ravel(), grid[2].ravel(), grid[0].ravel())


def whole(exact: np.ndarray, cv: float) -> np.ndarray:
    """Expected number of whole pieces of so many exact ones with a spread of cv times their number; see the module's text.

    The chance of an overflow is a normal law's, by the logistic curve that is nearest to it.
    """
    full = np.ceil(exact)
    if cv == 0.0:
        return np.asarray(full)
    exponents = np.minimum(LOGISTIC * (full - exact) / (cv * exact), LARGEST_EXPONENT)
    overflow = 1.0 / (1.0 + _one_by_one(math.exp, exponents))
    return np.asarray(np.maximum(full, np.minimum(exact + 0.5, full + overflow)))


def _one_by_one(function: Callable[[float], float], values: np.ndarray) -> np.ndarray:
    """The C library's, the same on every processor; numpy's own differ in the last digit with its instructions."""
    return np.fromiter(map(function, values.ravel().tolist()), float, values.size).reshape(values.shape)


def _root_of_sum(a: np.ndarray, b: np.ndarray, q: float) -> np.ndarray:
    """(a^q + b^q)^(1/q), the same on every processor."""
    return _one_by_one(lambda pair: pair ** (1.0 / q), _one_by_one(lambda x: x**q, a) + _one_by_one(lambda x: x**q, b))


@lru_cache(maxsize=65536)
def gemm_seconds(size: GemmSize, constants: GemmConstants, limits: GemmLimits) -> float:
    """Seconds of the call on an otherwise idle GPU (or on its free SMs)."""
    if size.m == 0 or size.n == 0 or size.k == 0:
        return 0.0
    load = _load(size, constants.tiles, limits)
    compute = float(_busy(load, constants, limits, _root_of_sum))
    memory = moved_bytes(size) / (constants.eb * limits.hbm_bytes_per_s)
    power = size.flop / (constants.ecap * limits.peak_flop_per_s)
    return constants.t0_s + _joined(compute, memory, power, max(compute, memory, power), constants.p)


class GemmBatch:
    """Many calls on one GPU by kernels of the same tiles: what of the formula does not depend on its rates, worked out once."""

    def __init__(self, sizes: Sequence[GemmSize], tiles: Tiles, limits: GemmLimits) -> None:
        """sizes: not empty calls, all of one group or all of several."""
        self._limits = limits
        loads = [_load(size, tiles, limits) for size in sizes]
        self._load = _Load(loads[0].cuts, *(np.stack(column) for column in list(zip(*loads, strict=True))[1:]))
        self._moved, self._flop = np.array(list(map(moved_bytes, sizes))), np.array([size.flop for size in sizes])

    def seconds(self, constants: GemmConstants) -> np.ndarray:
        """As gemm_seconds of each; the tiles of `constants` are not read."""
        compute = _busy(self._load, constants, self._limits, _fast_root_of_sum)
        memory = self._moved / (constants.eb * self._limits.hbm_bytes_per_s)
        power = self._flop / (constants.ecap * self._limits.peak_flop_per_s)
        top = np.maximum(np.maximum(compute, memory), power)
        return np.asarray(constants.t0_s + _joined(compute, memory, power, top, constants.p))


Numbers = TypeVar("Numbers", float, np.ndarray)


def _joined(compute: Numbers, memory: Numbers, power: Numbers, top: Numbers, p: float) -> Numbers:
    """The p-norm of the three limits, of which `top` is the greatest."""
    norm: Any = ((compute / top) ** p + (memory / top) ** p + (power / top) ** p) ** (1.0 / p)
    return cast(Numbers, top * norm)


def size_bytes(size: GemmSize) -> tuple[float, float]:
    """Bytes of an operand's element, and those an SM stores of a result's."""
    return IN_BYTES.get(size.dtype, 1.0), size.result_bytes[0]


def moved_bytes(size: GemmSize) -> float:
    """Bytes of both operands and the result."""
    m, n, k = size.per_group
    return size.groups * ((m * k + n * k) * size_bytes(size)[0] + m * n * size.result_bytes[1])


class _Load(NamedTuple):
    """What a call is cut into, by cut (the last axis): waves; steps of a tile; bytes of an operand's element and of a stored
    one; bytes of split sums that are read again.
    """

    cuts: _Cuts
    waves: np.ndarray
    steps: np.ndarray
    in_bytes: np.ndarray
    store_bytes: np.ndarray
    summed: np.ndarray
    is_middle: np.ndarray
    is_skewed: np.ndarray


def _load(size: GemmSize, tiles: Tiles, limits: GemmLimits) -> _Load:
    m, n, k = size.per_group
    is_wgrad = size.variant == "wgrad"
    rows_cv, steps_cv = (0.0, size.rows_cv) if is_wgrad else (size.rows_cv, 0.0)
    cuts = _cuts(tiles, size.groups > 1)
    steps = whole(np.array(k / K_STEP), steps_cv) / cuts.parts
    waves = size.groups * (whole(m / cuts.bm, rows_cv) * np.ceil(n / cuts.bn)) * cuts.parts / limits.free_sms
    waves = whole(waves, rows_cv) if size.groups == 1 else np.ceil(waves)
    in_bytes, store_bytes = size_bytes(size)
    is_split = cuts.parts > 1.0
    return _Load(
        cuts, waves, np.where(is_split, np.ceil(steps), steps), np.full_like(steps, in_bytes),
        np.where(is_split, SUM_BYTES, store_bytes), np.where(is_split, SUM_BYTES * m * n * cuts.parts, 0.0),
        np.full_like(steps, size.is_middle), np.full_like(steps, size.is_skewed),
    )  # fmt: skip


def _fast_root_of_sum(a: np.ndarray, b: np.ndarray, q: float) -> np.ndarray:
    """As `_root_of_sum`, for fits of many calls: in the last digit as this processor's instructions have it."""
    return np.asarray((a**q + b**q) ** (1.0 / q))


def _busy(
    load: _Load,
    constants: GemmConstants,
    limits: GemmLimits,
    root: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
) -> np.ndarray:
    """Seconds of the waves with the best cut. root: of the sum of two powers."""
    bm, bn, _ = load.cuts
    step = np.maximum(
        2.0 * K_STEP * bm * bn / (constants.eta * limits.peak_flop_per_s / limits.num_sms),
        (bm + bn) * (K_STEP * load.in_bytes) / constants.l2_bytes_per_s,
    )
    step = np.maximum(step, constants.t_step_s)
    if constants.skew != 1.0:
        step = step * np.where(load.is_skewed > 0.0, constants.skew, 1.0)
    loop, store = load.steps * step, bm * bn * (load.store_bytes / constants.st_bytes_per_s)
    if constants.q == 1.0:
        seconds = load.waves * (loop + constants.t_tile_s + store)
    else:
        seconds = load.waves * (root(loop, store, constants.q) + constants.t_tile_s)
    if len(load.cuts.parts) > 1 and load.cuts.parts[-1] > 1.0:
        added = load.summed / (constants.eb * limits.hbm_bytes_per_s) + constants.t0_s
        seconds = seconds + np.where(load.summed > 0.0, added, 0.0)
    if constants.slow != 1.0:
        seconds = seconds * np.where(load.is_middle > 0.0, constants.slow, 1.0)
    return np.asarray(seconds.min(axis=-1))
