"""Dense GEMMs in FP8 by torch's library calls, of operands as the quantisers leave them: by blocks, by rows, by tensor.

All three passes sum over the innermost dimension of both operands. wgrad: both are the transposed rows, so that it is a product
of the sizes (n, k, tokens); of blocks both operands are in tiles of 1x128, and its result is FP32, of rows BF16. Nothing is
added to: torch has no such call. In dgrad the weight is the transposed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.numerics.blockwise_library import fused_kernels
from hwprofiles.calibration.numerics.quantise import FP8, FP8_MAX, TILE, Quantised, quantise
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.dense import gemm_case, leveled_tokens, weights

COUNTS: Final = {"fprop": (2, 4), "dgrad": (0, 2), "wgrad": (1, 3)}
"""As those of `dense`."""
LIBRARY: Final = "cublas"


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Every weight whose sizes the formats take, in each, at some numbers of tokens; on the coarse grid in two of three."""
    for idx, (n, k) in enumerate(weights(size)):
        for number, dtype in enumerate(FORMATS):
            if _fits(dtype, n, k):
                least = int(size == "full" and (idx + number) % len(FORMATS) == 0)
                for case in _of_weight(device, dtype, idx + number, n, k, size):
                    yield replace(case, level=max(case.level, least))


def _of_weight(device: Any, dtype: str, idx: int, n: int, k: int, size: Size) -> Iterator[RateCase]:
    for variant, counts in COUNTS.items():
        for rows, level in leveled_tokens(idx, counts, n, k, size):
            if variant != "wgrad" or dtype != "fp8-block" or rows % TILE == 0:
                yield replace(fp8_case(device, dtype, variant, rows, n, k), level=level)


def fp8_case(device: Any, dtype: str, variant: str, rows: int, n: int, k: int) -> RateCase:
    """A pass of a layer k → n over rows."""
    sizes = {"fprop": (rows, n, k), "dgrad": (rows, k, n), "wgrad": (n, k, rows)}[variant]
    is_wgrad = variant == "wgrad"
    in_fp32 = is_wgrad and dtype != "fp8-row"
    name = (f"{LIBRARY}-fp32-out" if in_fp32 else f"{LIBRARY}-bf16-out") if is_wgrad else LIBRARY
    make = partial(FORMATS[dtype], device, *sizes, is_wgrad)
    return gemm_case(variant, dtype, name, sizes, 1.0, make, 4.0 if in_fp32 else 2.0)


def _fits(dtype: str, n: int, k: int) -> bool:
    """Blocks are whole; operands are aligned to 16."""
    return n % TILE == k % TILE == 0 if dtype == "fp8-block" else n % library.ALIGNED == k % library.ALIGNED == 0


def tiles(device: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """Random numbers (rows, columns) in tiles of 1x128: FP8, and their scales with the rows innermost."""
    x = random_bf16(device, rows, columns)
    if kernels := fused_kernels(x.device):
        values, scales = kernels.quantise_rows(x, power_of_two=False)
        return values, scales
    made = quantise(x, (1, TILE))
    return made.values, library.rows_innermost(made.scales)


def by_rows(device: Any, rows: int, columns: int) -> tuple[Any, Any]:
    """Random numbers (rows, columns), a scale a row: FP8 and (rows,)."""
    made = quantise(random_bf16(device, rows, columns), (1, columns))
    return made.values, made.scales[:, 0]


def blocks(device: Any, rows: int, columns: int) -> Quantised:
    """Random numbers (rows, columns) in blocks of 128x128."""
    return quantise(random_bf16(device, rows, columns), (TILE, TILE))


def padded_scales(scales: Any) -> Any:
    """Of blocks, as the library reads them: columns up to a multiple of 4."""
    return torch.nn.functional.pad(scales, (0, -scales.shape[1] % library.SCALE_ALIGNED)).contiguous()


def _tensor(device: Any, m: int, n: int, k: int, is_wgrad: bool) -> Call:
    made = []
    for rows in (m, n):
        x = random_bf16(device, rows, k)
        scale = x.abs().amax().float() / FP8_MAX
        made += [(x / scale).to(FP8), scale]
    out = torch.float32 if is_wgrad else torch.bfloat16
    return partial(torch._scaled_mm, made[0], made[2].t(), made[1], made[3], out_dtype=out)


def _row(device: Any, m: int, n: int, k: int, is_wgrad: bool) -> Call:
    left, right = by_rows(device, m, k), by_rows(device, n, k)
    return partial(library.rows_by_rows, *left, *right)


def _block(device: Any, m: int, n: int, k: int, is_wgrad: bool) -> Call:
    _refuse_cpu(device)
    left = tiles(device, m, k)
    if is_wgrad:
        return partial(library.tiles_by_tiles, *left, *tiles(device, n, k))
    right = blocks(device, n, k)
    return partial(library.tiles_by_blocks, *left, right.values, padded_scales(right.scales))


def _refuse_cpu(device: Any) -> None:
    if device.type != "cuda":
        raise NotImplementedError("fp8-block: torch has this product on CUDA GPUs alone")


FORMATS: Final[dict[str, Callable[..., Call]]] = {"fp8-block": _block, "fp8-row": _row, "fp8-tensor": _tensor}
