"""Rotary positions (RoPE, arXiv:2104.09864) and their stretching (YaRN, arXiv:2309.00071)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hwprofiles.calibration.model.config import Rope

Tables = tuple[Tensor, Tensor]
"""cos and sin, (s, d/2) each, FP32: of every position and pair of numbers."""


@lru_cache(maxsize=64)
def tables(rope: Rope, dim: int, length: int, device: torch.device) -> Tables:
    """cos and sin of positions 0 to length-1 for heads of which `dim` numbers turn; one copy for all layers."""
    positions = torch.arange(length, dtype=torch.float64)
    angles = torch.outer(positions, torch.tensor(frequencies(rope, dim), dtype=torch.float64))
    return angles.cos().to(torch.float32).to(device), angles.sin().to(torch.float32).to(device)


def frequencies(rope: Rope, dim: int) -> list[float]:
    """Radians that each pair of numbers turns a position.

    theta_i = theta^(-2i/dim) (arXiv:2104.09864, 3.2.2). Stretched by YaRN's "NTK-by-parts" (arXiv:2309.00071, 3.2): with
    r turns in the original length, theta_i/factor below beta_slow turns, theta_i above beta_fast, linear in r between.
    """
    result = []
    for idx in range(dim // 2):
        own = rope.theta ** (-2 * idx / dim)
        turns = rope.original_len * own / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - rope.beta_slow) / (rope.beta_fast - rope.beta_slow)))
        result.append(own if rope.factor <= 1 else (1 - kept) * own / rope.factor + kept * own)
    return result


def softmax_scale(rope: Rope, head_dim: int) -> float:
    """Factor of q k^T: 1/sqrt(d), and of YaRN's temperature t, sqrt(1/t) = 0.1 mscale ln(factor) + 1 (3.4 there), squared."""
    stretch = 0.1 * rope.mscale * math.log(rope.factor) + 1 if rope.factor > 1 else 1.0
    return float(stretch**2 / math.sqrt(head_dim))


class _Rotate(torch.autograd.Function):
    """Keeps nothing: the backward turns the gradient back. The tables are the model's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.cos, ctx.sin = cos, sin
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _turned(grad, ctx.cos, -ctx.sin), None, None


def apply(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (b, s, n, d) with its last 2 * cos.shape[-1] numbers turned by position, two neighbours a pair; the others copied.

    Computed in FP32 (FP64 for float64), result in x's format.
    """
    result: Tensor = _Rotate.apply(x, cos, sin)
    return result


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """A pair is a complex number, and turns by one product."""
    wide, factors = (torch.float64, torch.complex128) if x.dtype is torch.float64 else (torch.float32, torch.complex64)
    still = x.shape[-1] - 2 * cos.shape[-1]
    pairs = torch.view_as_complex(x[..., still:].to(wide).contiguous().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * torch.complex(cos, sin)[:, None].to(factors))
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    result[..., :still] = x[..., :still]
    result[..., still:] = turned.flatten(-2)
    return result
