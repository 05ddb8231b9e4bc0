"""Attention cores by torch's own FlashAttention-2 and by cuDNN, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.case import Call, RateCase, Size


class Sizes(NamedTuple):
    """Of one call."""

    batch: int
    seq: int
    heads: int
    kv_heads: int
    dim_qk: int
    dim_v: int
    causal: bool = True

    def flop(self, variant: str) -> float:
        """Two GEMMs forward, five backward, half of them under a causal mask."""
        per_pair = 2.0 * (self.dim_qk + self.dim_v) if variant == "fwd" else 2.0 * (3 * self.dim_qk + 2 * self.dim_v)
        return per_pair * self.batch * self.heads * float(self.seq) ** 2 * (0.5 if self.causal else 1.0)

    def runs_by(self, name: str) -> bool:
        """FlashAttention-2 takes equal head sizes alone: MLA's reach it padded, as 192 and 192, which nobody asks of cuDNN."""
        return (name == "fa2") == (self.dim_qk == self.dim_v) or self.dim_qk != 192


BACKENDS: Final = {"fa2": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
"""Name of KernelShape.library → backend of scaled_dot_product_attention."""
SIZES: Final = (
    *[Sizes(1, seq, 32, 32, 128, 128) for seq in (1024, 2048, 4096, 8192, 16_384)],
    *[Sizes(1, seq, 128, 128, 192, 128) for seq in (2048, 4096, 8192)],
    *[Sizes(1, seq, 16, 16, 192, 128) for seq in (2048, 4096, 8192, 32_768)],
    *[Sizes(1, seq, 128, 128, 192, 192) for seq in (2048, 8192)],
    *[Sizes(1, seq, 16, 16, 192, 192) for seq in (4096, 16_384)],
    *[Sizes(1, seq, 32, 32, 64, 64) for seq in (2048, 4096, 16_384)],
    *[Sizes(1, seq, 32, 32, 96, 96) for seq in (2048, 8192)],
    *[Sizes(1, seq, 16, 16, 256, 256) for seq in (2048, 4096, 16_384)],
    *[Sizes(1, seq, 8, 8, 128, 128) for seq in (2048, 8192, 32_768)], Sizes(1, 65_536, 4, 4, 128, 128),
    Sizes(4, 4096, 8, 8, 128, 128), Sizes(4, 4096, 16, 16, 192, 128), Sizes(8, 1024, 16, 16, 192, 128),
    Sizes(8, 1024, 32, 32, 128, 128), Sizes(8, 2048, 32, 32, 64, 64), Sizes(16, 512, 16, 16, 128, 128),
    Sizes(1, 4096, 64, 8, 128, 128), Sizes(1, 8192, 32, 8, 128, 128), Sizes(2, 8192, 16, 2, 128, 128),
    Sizes(4, 2048, 32, 4, 128, 128), Sizes(1, 32_768, 8, 2, 128, 128),
    Sizes(1, 4096, 64, 8, 64, 64), Sizes(1, 16_384, 64, 8, 64, 64), Sizes(4, 2048, 32, 8, 96, 96),
    Sizes(2, 4096, 16, 4, 256, 256), Sizes(1, 65_536, 8, 1, 64, 64),
    Sizes(1, 4096, 32, 32, 128, 128, causal=False), Sizes(1, 16_384, 32, 32, 128, 128, causal=False),
)  # fmt: skip
QUICK: Final = (
    *[Sizes(1, seq, 32, 32, 128, 128) for seq in (2048, 8192)],
    *[Sizes(1, seq, 16, 16, 192, 128) for seq in (2048, 8192)],
    Sizes(4, 2048, 32, 4, 128, 128), Sizes(1, 4096, 32, 32, 64, 64),
)  # fmt: skip
SMALL: Final = (Sizes(1, 64, 2, 1, 16, 16),)
LAUNCHES: Final = {"fwd": 6, "bwd": 16}
"""Launches whose time on the host a call takes, about: autograd's own included."""


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Every size by every library that takes it, forward and backward."""
    for idx, sizes in enumerate({"full": SIZES, "quick": QUICK, "cpu": SMALL}[size]):
        for number, name in enumerate(BACKENDS):
            if sizes.runs_by(name):
                level = int(size == "full" and (idx + 2 * number) % 4 == 3)
                yield replace(attention_case(device, "fwd", name, sizes), level=level)
                yield replace(attention_case(device, "bwd", name, sizes), level=level)


def attention_case(device: Any, variant: str, name: str, sizes: Sizes) -> RateCase:
    """variant: fwd or bwd; name: of BACKENDS."""
    cells = {
        "part": "attention", "op": f"attention_{variant}", "dtype": "bf16", "library": name, "batch": sizes.batch,
        "seq": sizes.seq, "heads": sizes.heads, "kv_heads": sizes.kv_heads, "head_dim_qk": sizes.dim_qk,
        "head_dim_v": sizes.dim_v, "causal": str(sizes.causal).lower(), "flop": sizes.flop(variant),
    }  # fmt: skip
    width = sizes.heads * (sizes.dim_qk + sizes.dim_v) + sizes.kv_heads * (sizes.dim_qk + sizes.dim_v)
    copies = 1.0 if variant == "fwd" else 2.0
    make = partial(_forward if variant == "fwd" else _backward, device, name, sizes)
    return RateCase(cells, make, copies * 2.0 * sizes.batch * sizes.seq * width, LAUNCHES[variant])


def _operands(device: Any, sizes: Sizes) -> tuple[Any, Any, Any]:
    """q, k, v as (batch, heads, seq, dim), in memory (batch, seq, heads, dim), as layers leave them."""
    made = ((sizes.heads, sizes.dim_qk), (sizes.kv_heads, sizes.dim_qk), (sizes.kv_heads, sizes.dim_v))
    q, k, v = (random_bf16(device, sizes.batch, sizes.seq, heads, dim).transpose(1, 2) for heads, dim in made)
    return q, k, v


def _attend(device: Any, name: str, sizes: Sizes, q: Any, k: Any, v: Any) -> Any:
    shared = sizes.heads != sizes.kv_heads
    with sdpa_kernel(BACKENDS[name] if device.type == "cuda" else SDPBackend.MATH):
        return scaled_dot_product_attention(q, k, v, is_causal=sizes.causal, enable_gqa=shared)


def _forward(device: Any, name: str, sizes: Sizes) -> Call:
    q, k, v = _operands(device, sizes)

    def call() -> None:
        with torch.no_grad():
            _attend(device, name, sizes, q, k, v)

    return call


def _backward(device: Any, name: str, sizes: Sizes) -> Call:
    """Of a forward kept from now."""
    q, k, v = (x.requires_grad_() for x in _operands(device, sizes))
    out = _attend(device, name, sizes, q, k, v)
    return partial(torch.autograd.grad, out, (q, k, v), torch.randn_like(out), retain_graph=True)
