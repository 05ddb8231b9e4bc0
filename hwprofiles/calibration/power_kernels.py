"""The kernels whose power is measured, as calls on random numbers; torch is imported inside functions only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hwprofiles.calibration.layer_kernels import Call
from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.units import MEBI

BATCH, HEADS, TOKENS, HEAD_SIZE = 4, 32, 4096, 128
"""Of the attention, which is not causal, so that its FLOP are those of the full square."""
GEMMS = {
    "bf16_gemm": ((8192, 8192, 8192), (8192, 28672, 8192), (4096, 4096, 7168)),
    "fp8_gemm": ((8192, 8192, 8192), (8192, 28672, 8192), (4096, 7168, 2048)),
}
"""(m, n, k)"""


@dataclass(frozen=True)
class PowerKernel:
    """One launch. kind: what its energy follows from; flop, bytes_moved (read and written once): its work."""

    name: str
    kind: str
    call: Call
    flop: float
    bytes_moved: float


def power_kernels(device: Any) -> dict[str, PowerKernel]:
    """Name → kernel, all that torch can run on this GPU."""
    import torch

    found = list(_gemms(device))
    found += _attention(device)
    big = torch.randn(256 * MEBI // 4, device=device)
    to = torch.empty_like(big)
    found.append(PowerKernel("copy 256 MiB", "copy", partial(to.copy_, big), 0.0, 2.0 * big.nbytes))
    return {kernel.name: kernel for kernel in found}


def _gemms(device: Any) -> Iterator[PowerKernel]:
    import torch

    one = torch.ones((), device=device)
    for kind, shapes in GEMMS.items():
        for m, n, k in shapes:
            a, b = random_bf16(device, m, k), random_bf16(device, n, k)
            out = torch.empty(m, n, device=device, dtype=torch.bfloat16)
            if kind == "fp8_gemm":
                a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
                call = partial(torch._scaled_mm, a, b.t(), one, one, out_dtype=torch.bfloat16)
            else:
                call = partial(torch.mm, a, b.t(), out=out)
            size = float(a.nbytes + b.nbytes + out.nbytes)
            yield PowerKernel(f"{kind} {m}x{n}x{k}", kind, call, 2.0 * m * n * k, size)


def _attention(device: Any) -> Iterator[PowerKernel]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (random_bf16(device, BATCH, HEADS, TOKENS, HEAD_SIZE).requires_grad_() for _ in range(3))
    backends = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    with sdpa_kernel(backends, set_priority=True):
        out = scaled_dot_product_attention(q, k, v)
    grad = torch.randn_like(out)

    def forward() -> None:
        with sdpa_kernel(backends, set_priority=True), torch.no_grad():
            scaled_dot_product_attention(q, k, v)

    def backward() -> None:
        torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)

    flop, size = 4.0 * BATCH * HEADS * TOKENS**2 * HEAD_SIZE, float(q.nbytes)
    yield PowerKernel("attention_fwd", "attention_fwd", forward, flop, 4 * size)
    yield PowerKernel("attention_bwd", "attention_bwd", backward, 2.5 * flop, 8 * size)
