"""Kernels of one layer of DeepSeek-V3's sizes, as calls on random numbers; torch is imported inside functions only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.units import MEBI

TOKENS, HIDDEN, HEADS, DIM_QK, DIM_V = 4096, 7168, 128, 192, 128
"""Of DeepSeek-V3: a micro-batch of one sequence, the model's width, its attention."""
DENSE = ((1536, 7168), (576, 7168), (24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048))
"""(n, k) of the linear layers that see every token: MLA's down-, up- and output projections, the shared expert's two."""
RECOMPUTED = ((24576, 1536), (32768, 512))
"""(n, k) of the up-projections that the backward runs again."""
ROUTED, LOCAL_EXPERTS, EXPERT_ROWS = ((4096, 7168), (7168, 2048)), 4, 8192
"""(n, k) of a routed expert's two linear layers; experts of a GPU, and rows of each: 4 x 8,192 = 4,096 tokens of top-8."""
SCALE_BLOCK = 128
"""Elements that share a scale: of a row of x, and per side of a square of w."""

Call = Callable[[], Any]


class Gemm(NamedTuple):
    """y (m, n) = x (m, k) @ w (n, k).T"""

    m: int
    n: int
    k: int

    @property
    def block_scaled(self) -> bool:
        """Whether scales of 1x128 and 128x128 fit; else one scale a tensor."""
        return self.n % SCALE_BLOCK == 0 and self.k % SCALE_BLOCK == 0


def layer_gemms() -> list[Gemm]:
    """GEMMs of a pass in order: dense linear layers (fprop, dgrad, wgrad each), recomputed ones, routed experts."""
    gemms = [gemm for n, k in DENSE for gemm in _passes_of(TOKENS, n, k)]
    gemms += [Gemm(TOKENS, n, k) for n, k in RECOMPUTED]
    for n, k in ROUTED:
        gemms += [*_passes_of(EXPERT_ROWS, n, k)] * LOCAL_EXPERTS
    return gemms


def gemm_calls(device: Any) -> tuple[list[Call], int]:
    """A call for each of layer_gemms, and how many are block-scaled: all that fit, where torch and the GPU can."""
    import torch

    one, num_block_scaled = torch.ones((), device=device), 0
    calls: list[Call] = []
    for gemm in layer_gemms():
        a, b = _octets(device, gemm.m, gemm.k), _octets(device, gemm.n, gemm.k).t()
        call = partial(torch._scaled_mm, a, b, one, one, out_dtype=torch.bfloat16)
        if gemm.block_scaled:
            blocks_k, blocks_n = gemm.k // SCALE_BLOCK, gemm.n // SCALE_BLOCK
            of_a = torch.rand(blocks_k, gemm.m, device=device).t() + 0.5  # 1x128, rows of a contiguous
            of_b = torch.rand(blocks_n, blocks_k, device=device).t() + 0.5  # 128x128
            scaled = partial(torch._scaled_mm, a, b, of_a, of_b, out_dtype=torch.bfloat16)
            try:
                scaled()
            except (RuntimeError, ValueError) as error:
                print(f"{gemm}: scaled per tensor: {error}", file=sys.stderr)
            else:
                call, num_block_scaled = scaled, num_block_scaled + 1
        calls.append(call)
    return calls, num_block_scaled


def attention_calls(device: Any) -> list[Call]:
    """Causal attention of all heads over one sequence by cuDNN: forward, and backward of a forward kept from now."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (random_bf16(device, 1, HEADS, TOKENS, dim).requires_grad_() for dim in (DIM_QK, DIM_QK, DIM_V))
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
    grad = torch.randn_like(out)

    def forward() -> None:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION), torch.no_grad():
            scaled_dot_product_attention(q, k, v, is_causal=True)

    def backward() -> None:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)

    return [forward, backward]


def memory_calls(device: Any) -> list[Call]:
    """Norms, casts to FP8 and copies: about the bytes that a layer's memory-bound kernels move."""
    import torch

    rows, scale = random_bf16(device, TOKENS, HIDDEN), torch.ones(HIDDEN, device=device, dtype=torch.bfloat16)
    heads, routed = random_bf16(device, TOKENS, 32768), random_bf16(device, LOCAL_EXPERTS * EXPERT_ROWS, HIDDEN)
    heads_fp8, routed_fp8 = (torch.empty_like(x, dtype=torch.float8_e4m3fn) for x in (heads, routed))
    to = torch.empty_like(routed)
    return [
        *[partial(torch.nn.functional.rms_norm, rows, (HIDDEN,), scale)] * 8,
        *[partial(heads_fp8.copy_, heads)] * 14,
        *[partial(routed_fp8.copy_, routed)] * 12,
        *[partial(to.copy_, routed)] * 6,
    ]


def spread_cases(device: Any) -> dict[str, tuple[Call, float, str]]:
    """Name → call, its work, the work's unit. Bytes: read and written once."""
    import torch

    size, m, n, k = 8192, TOKENS, HIDDEN, 16384
    a, b = random_bf16(device, size, size), random_bf16(device, size, size)
    x, w = _octets(device, m, k), _octets(device, n, k).t()
    one, big = torch.ones((), device=device), torch.randn(64 * MEBI, device=device)
    return {
        "gemm_bf16": (partial(torch.mm, a, b, out=torch.empty_like(a)), 2.0 * size**3, "flop"),
        "gemm_fp8": (partial(torch._scaled_mm, x, w, one, one, out_dtype=torch.bfloat16), 2.0 * m * n * k, "flop"),
        "copy": (partial(torch.empty_like(big).copy_, big), 2.0 * big.nbytes, "bytes"),
    }


def _passes_of(m: int, n: int, k: int) -> tuple[Gemm, Gemm, Gemm]:
    """fprop, dgrad, wgrad of a linear layer n x k over m rows."""
    return Gemm(m, n, k), Gemm(m, k, n), Gemm(n, k, m)


def _octets(device: Any, *shape: int) -> Any:
    """Random FP8 numbers."""
    import torch

    return random_bf16(device, *shape).to(torch.float8_e4m3fn)
