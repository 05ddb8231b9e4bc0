"""Dense GEMMs of real weight shapes: BF16 in three passes, FP8 by a scale a tensor and by blocks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.rates.case import Call, RateCase

WEIGHTS = (
    (2112, 7168), (24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048),
    (28672, 4096), (4096, 14336),
    (10240, 8192), (8192, 28672),
    (5120, 2880),
)  # fmt: skip
"""(n, k) of linear layers: DeepSeek-V3's, Llama 3 8B's, Llama 3 70B's (the up-projection is left out), gpt-oss-120b's."""
TOKENS = (512, 1024, 2048, 4096, 8192, 16_384)
BLOCK_TOKENS = (1024, 4096, 16_384)
"""Rows at which FP8 weight gradients, and BF16 ones without accumulation, are timed."""
BLOCK = 128
WRITTEN = {"cublas-bf16-out": torch.bfloat16, "cublas-fp32-out": torch.float32}
"""Library cell of a weight gradient that is written and not added to → format of the result."""
SMALL_WEIGHTS, SMALL_TOKENS = ((256, 128),), (128,)


def cases(device: Any, *, quick: bool) -> Iterator[RateCase]:
    """Every weight at every number of tokens; wgrad: m = n, n = k of the layer, k = tokens."""
    weights, tokens = (SMALL_WEIGHTS, SMALL_TOKENS) if quick else (WEIGHTS, TOKENS)
    for n, k in weights:
        for rows in tokens:
            yield _case("fprop", "bf16", "cublas", rows, n, k, 2.0, partial(_forward, device, rows, n, k))
            yield _case("dgrad", "bf16", "cublas", rows, k, n, 2.0, partial(_dgrad, device, rows, k, n))
            yield _case("wgrad", "bf16", "cublas", n, k, rows, 2.0, partial(_wgrad, device, n, k, rows), out_bytes=4.0)
            yield _case("fprop", "fp8-tensor", "cublas", rows, n, k, 1.0, partial(_tensor, device, rows, n, k))
            in_blocks = n % BLOCK == k % BLOCK == 0
            if in_blocks:
                yield _case("fprop", "fp8-block", "cublas", rows, n, k, 1.0, partial(_block, device, rows, n, k))
            if rows in BLOCK_TOKENS or quick:
                for name in WRITTEN:
                    made, out_bytes = (
                        partial(_written, device, n, k, rows, WRITTEN[name]),
                        float(WRITTEN[name].itemsize),
                    )
                    yield _case("wgrad", "bf16", name, n, k, rows, 2.0, made, out_bytes)
            if in_blocks and (rows in BLOCK_TOKENS or quick):
                made = partial(_block_wgrad, device, n, k, rows)
                yield _case("wgrad", "fp8-block", "cublas-fp32-out", n, k, rows, 1.0, made, out_bytes=4.0)


def octets(device: Any, *shape: int) -> Any:
    """Random FP8 numbers."""
    return random_bf16(device, *shape).to(torch.float8_e4m3fn)


def _case(
    variant: str, dtype: str, name: str, m: int, n: int, k: int, in_bytes: float, make: Any, out_bytes: float = 2.0
) -> RateCase:
    cells = {
        "part": "gemm", "op": "gemm", "variant": variant, "dtype": dtype, "library": name, "m": m, "n": n, "k": k,
        "groups": 1, "flop": 2.0 * m * n * k,
    }  # fmt: skip
    return RateCase(cells, make, (m * k + n * k) * in_bytes + m * n * out_bytes)


def _out(device: Any, *shape: int, dtype: Any = torch.bfloat16) -> Any:
    return torch.zeros(shape, device=device, dtype=dtype)


def _forward(device: Any, m: int, n: int, k: int) -> Call:
    """x (m, k) @ w (n, k).T: both with the summed dimension innermost."""
    x, w = random_bf16(device, m, k), random_bf16(device, n, k)
    return partial(torch.mm, x, w.t(), out=_out(device, m, n))


def _dgrad(device: Any, m: int, n: int, k: int) -> Call:
    """dy (m, k) @ w (k, n), where k are the layer's outputs."""
    dy, w = random_bf16(device, m, k), random_bf16(device, k, n)
    return partial(torch.mm, dy, w, out=_out(device, m, n))


def _wgrad(device: Any, m: int, n: int, k: int) -> Call:
    """dw (m, n) in FP32 += dy (k, m).T @ x (k, n)."""
    dy, x, dw = random_bf16(device, k, m), random_bf16(device, k, n), _out(device, m, n, dtype=torch.float32)
    if device.type != "cuda":  # only CUDA adds BF16 products to FP32 in one call
        return lambda: dw.add_(torch.mm(dy.t(), x))
    return lambda: torch.addmm(dw, dy.t(), x, out_dtype=torch.float32, out=dw)


def _written(device: Any, m: int, n: int, k: int, dtype: Any) -> Call:
    """dw (m, n) = dy (k, m).T @ x (k, n), nothing is added to."""
    dy, x = random_bf16(device, k, m), random_bf16(device, k, n)
    if dtype == torch.bfloat16:
        return partial(torch.mm, dy.t(), x, out=_out(device, m, n))
    return partial(torch.mm, dy.t(), x, out_dtype=dtype)


def _tensor(device: Any, m: int, n: int, k: int) -> Call:
    x, w, one = octets(device, m, k), octets(device, n, k), torch.ones((), device=device)
    return partial(torch._scaled_mm, x, w.t(), one, one, out_dtype=torch.bfloat16)


def _block(device: Any, m: int, n: int, k: int) -> Call:
    x, w = octets(device, m, k), octets(device, n, k)
    blocks_k = k // BLOCK
    of_x = library.rows_innermost(torch.rand(m, blocks_k, device=device) + 0.5)
    of_w = torch.rand(n // BLOCK, -(-blocks_k // library.SCALE_ALIGNED) * library.SCALE_ALIGNED, device=device) + 0.5
    return partial(library.tiles_by_blocks, x, of_x, w, of_w)


def _block_wgrad(device: Any, m: int, n: int, k: int) -> Call:
    """dw (m, n) in FP32 = dy (m, k) @ x (n, k).T, both in tiles of 1x128; nothing is added to."""
    dy, x = octets(device, m, k), octets(device, n, k)
    of_dy, of_x = (library.rows_innermost(torch.rand(size, k // BLOCK, device=device) + 0.5) for size in (m, n))
    return partial(library.tiles_by_tiles, dy, of_dy, x, of_x)
