"""This project's FP8 products by blocks (hwprofiles/calibration/kernels), dense and grouped, in three passes.

Weight gradients add into FP32, and are written. Groups are one launch, whose ends lie on the device; tokens of a weight
gradient are padded to 128 a group, as its operands have them, and the sizes that stand in the table are those without padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.fits.points import OWN_WRITTEN
from hwprofiles.calibration.kernels import products
from hwprofiles.calibration.kernels.operands import Blocks, Columns, Rows
from hwprofiles.calibration.kernels.sms import at_most_sms
from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.numerics.quantise import TILE, quantise
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.dense import gemm_case, leveled_tokens, weights
from hwprofiles.calibration.rates.dense_fp8 import tiles
from hwprofiles.calibration.rates.grouped import Counts, ends, expert_case, expert_loads
from hwprofiles.kernels.shape import OWN_GEMMS

DTYPE: Final = "fp8-block"
COUNTS: Final = {"fprop": (1, 3), "dgrad": (0, 1), "wgrad": (1, 2)}
"""As those of `dense`; the first weights, which are DeepSeek-V3's, at twice as many."""
DEEPSEEK: Final = 8
LIMITED: Final = f"{OWN_GEMMS}-limited"
"""Library cell of products that leave SMs free by themselves."""


def dense_cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Every weight whose sides are whole blocks, at some numbers of tokens."""
    for idx, (n, k) in enumerate(weights(size)):
        if n % TILE or k % TILE:
            continue
        more = 2 if idx < DEEPSEEK else 1
        for variant in _passes(size):
            counts = COUNTS[variant]
            for rows, level in leveled_tokens(idx, (more * counts[0], more * counts[1]), n, k, size):
                if variant != "wgrad" or rows % TILE == 0:
                    yield replace(dense_case(device, variant, rows, n, k), level=level)
                if variant == "wgrad" and rows % TILE == 0 and size == "full":
                    yield replace(
                        written(dense_case(device, variant, rows, n, k)), level=max(level, int(idx >= DEEPSEEK))
                    )


def grouped_cases(device: Any, size: Size) -> Iterator[RateCase]:
    """The loads of `grouped`, two of three candidates; so are input gradients: forward products of turned weights."""
    for number, (n, k, counts, _) in enumerate(expert_loads(size)):
        if n % TILE == k % TILE == 0:
            for variant in _passes(size):
                is_finer = size == "full" and (variant == "dgrad" or number % 3 != 0)
                yield replace(grouped_case(device, variant, n, k, counts), level=int(is_finer))
                if variant == "wgrad" and size == "full":
                    yield replace(written(grouped_case(device, variant, n, k, counts)), level=1)


def _passes(size: Size) -> tuple[str, ...]:
    """All; in a hurry those that are fitted apart."""
    return ("fprop", "wgrad") if size == "quick" else tuple(COUNTS)


def dense_case(device: Any, variant: str, rows: int, n: int, k: int) -> RateCase:
    """A pass of a layer k → n over rows."""
    sizes = {"fprop": (rows, n, k), "dgrad": (rows, k, n), "wgrad": (n, k, rows)}[variant]
    make = partial(_make, device, variant, n, k, (rows,))
    return gemm_case(variant, DTYPE, OWN_GEMMS, sizes, 1.0, make, 4.0 if variant == "wgrad" else 2.0)


def grouped_case(device: Any, variant: str, n: int, k: int, counts: Counts) -> RateCase:
    """A pass of experts' layers k → n, one launch."""
    make = partial(_make, device, variant, n, k, counts)
    out_bytes = 4.0 if variant == "wgrad" else 2.0
    return replace(expert_case(variant, DTYPE, OWN_GEMMS, n, k, counts, 1.0, make, out_bytes), launches=1)


def written(case: RateCase) -> RateCase:
    """A weight gradient that is written and not added."""
    make: Any = case.make
    return replace(case, cells={**case.cells, "library": OWN_WRITTEN}, make=partial(make, accumulate=False))


def limited_to(case: RateCase, num_sms: int) -> RateCase:
    """The same by a kernel that uses at most so many SMs."""
    named = replace(case, cells={**case.cells, "library": LIMITED})
    return replace(named, around=partial(at_most_sms, num_sms))


def _make(device: Any, variant: str, n: int, k: int, counts: Counts, *, accumulate: bool = True) -> Call:
    _refuse_cpu(device)
    if variant == "wgrad":
        return _wgrad(device, n, k, counts, accumulate)
    columns, reduced = (n, k) if variant == "fprop" else (k, n)
    rows = sum(counts)
    left = Rows(*tiles(device, rows, reduced))
    made = quantise(random_bf16(device, len(counts), columns, reduced), (TILE, TILE))
    out = torch.empty(rows, columns, device=device, dtype=torch.bfloat16)
    return partial(products.fprop, left, Blocks(made.values, made.scales), ends(counts, device), out=out)


def _wgrad(device: Any, n: int, k: int, counts: Counts, accumulate: bool) -> Call:
    within = tuple(count + -count % TILE for count in counts)
    left, right = (_columns(device, sum(within), side) for side in (n, k))
    out = torch.zeros(len(counts), n, k, device=device)
    return partial(products.wgrad, left, right, ends(within, device), out=out, accumulate=accumulate)


def _columns(device: Any, tokens: int, side: int) -> Columns:
    """Random numbers, a side's rows of tokens in tiles of 128."""
    values, scales = tiles(device, side, tokens)
    return Columns(values, scales.t().contiguous())


def _refuse_cpu(device: Any) -> None:
    if device.type != "cuda":
        raise NotImplementedError("this project's FP8 products are timed on CUDA GPUs alone: a CPU interprets them")
