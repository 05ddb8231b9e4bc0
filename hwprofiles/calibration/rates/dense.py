"""Dense GEMMs of real weight shapes in BF16: three passes, weight gradients added to and written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.case import Call, RateCase, Size

WEIGHTS: Final = (
    (2112, 7168), (24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048), (36864, 7168), (7168, 18432),
    (28672, 4096), (4096, 14336), (8192, 28672),
    (2560, 2048), (2048, 1024), (3072, 2048), (12288, 2048), (2048, 6144), (1024, 1024), (6144, 2560), (2560, 4096),
    (5120, 2880), (256, 7168), (128, 2048), (151936, 2048),
)  # fmt: skip
"""(n, k) of linear layers: DeepSeek-V3's, Llama 3 8B's and one of 70B's, those of models of 1 to 4 billion parameters,
gpt-oss-120b's, two routers, and the head of Qwen3-MoE."""
TOKENS: Final = (64, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
COUNTS: Final = {"fprop": (3, 6), "dgrad": (1, 3), "wgrad": (2, 4)}
"""How many of TOKENS a weight is timed at in each pass: on the coarse grid, and with the candidates of a finer one; which ones
turns from weight to weight."""
QUICK_WEIGHTS, QUICK_TOKENS = ((4096, 7168), (7168, 2048), (2048, 1024)), (512, 4096)
SMALL_WEIGHTS, SMALL_TOKENS = ((256, 128),), (128,)
MOST_WORK: Final = 2**42
"""m n k: longer products heat the chip and say no more."""
WRITTEN: Final = {"cublas-bf16-out": torch.bfloat16, "cublas-fp32-out": torch.float32}
"""Library cell of a weight gradient that is written and not added to → format of the result."""


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Every weight at some numbers of tokens; wgrad: m = n, n = k of the layer, k = tokens."""
    passes = {"fprop": fprop, "dgrad": dgrad, "wgrad": wgrad}
    for idx, (n, k) in enumerate(weights(size)):
        for variant, made in passes.items():
            for rows, level in leveled_tokens(idx, COUNTS[variant], n, k, size):
                yield replace(made(device, rows, n, k), level=level)
        for rows, level in leveled_tokens(idx, COUNTS["dgrad"], n, k, size):
            for number, name in enumerate(WRITTEN):
                yield replace(
                    wgrad(device, rows, n, k, name), level=max(level, (idx + number) % 2 * int(size == "full"))
                )


def leveled_tokens(idx: int, counts: tuple[int, int], n: int, k: int, size: Size) -> Iterator[tuple[int, int]]:
    """Tokens with the level of the grid that they belong to."""
    coarse, finer = (tokens_of(idx, count, n, k, size) for count in counts)
    yield from ((rows, 0) for rows in coarse)
    if size == "full":
        yield from ((rows, 1) for rows in finer if rows not in coarse)


def weights(size: Size) -> tuple[tuple[int, int], ...]:
    """(n, k) that are timed."""
    return {"full": WEIGHTS, "quick": QUICK_WEIGHTS, "cpu": SMALL_WEIGHTS}[size]


def tokens_of(idx: int, count: int, n: int, k: int, size: Size) -> tuple[int, ...]:
    """Ascending: of the weight of this number about `count` of TOKENS, evenly over them, from another one on each time."""
    if size != "full":
        return QUICK_TOKENS if size == "quick" else SMALL_TOKENS
    step = len(TOKENS) / max(count, 1)
    places = sorted({int(idx * 1.3 + number * step) % len(TOKENS) for number in range(count)})
    return tuple(TOKENS[place] for place in places if TOKENS[place] * n * k <= MOST_WORK)


def fprop(device: Any, rows: int, n: int, k: int) -> RateCase:
    """y (rows, n) of a layer k → n."""
    return gemm_case("fprop", "bf16", "cublas", (rows, n, k), 2.0, partial(_forward, device, rows, n, k))


def dgrad(device: Any, rows: int, n: int, k: int) -> RateCase:
    """dx (rows, k)."""
    return gemm_case("dgrad", "bf16", "cublas", (rows, k, n), 2.0, partial(_dgrad, device, rows, k, n))


def wgrad(device: Any, rows: int, n: int, k: int, name: str = "cublas") -> RateCase:
    """dw (n, k); name: cublas, which adds to FP32, or a key of WRITTEN."""
    if name in WRITTEN:
        kind = WRITTEN[name]
        made, out_bytes = partial(_written, device, n, k, rows, kind), float(kind.itemsize)
    else:
        made, out_bytes = partial(_wgrad, device, n, k, rows), 4.0
    return gemm_case("wgrad", "bf16", name, (n, k, rows), 2.0, made, out_bytes)


def gemm_case(
    variant: str, dtype: str, name: str, size: tuple[int, int, int], in_bytes: float, make: Any, out_bytes: float = 2.0
) -> RateCase:
    """size: m, n, k of the product. in_bytes, out_bytes: of a number of its operands and of its result."""
    m, n, k = size
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
    if device.type != "cuda":  # which alone gives FP32 of BF16 in one call
        return lambda: torch.mm(dy.t(), x).to(dtype)
    return partial(torch.mm, dy.t(), x, out_dtype=dtype)
