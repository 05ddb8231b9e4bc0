"""The activation between two projections, and the row weights of routed experts in its product.

The backward computes from the input again whatever it needs, in FP32 (a GPU's kernel does so in its registers): besides the
input and a weight a row nothing is kept; the product is an operand of the down projection, which keeps it.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.model.config import Activation


def activate(x: Tensor, kind: Activation, row_weights: Tensor | None = None) -> Tensor:
    """x (r, 2 f), gate beside up, or (r, f) without a gate: (r, f) in x's format.

    row_weights: (r,) factors of the rows of the product, which get their gradient; applied here, so that the rows behind the
    down projection need not be kept for it (DeepSeek-V3 report 3.2.3 counts the experts' memory so).
    """
    result: Tensor = _Activate.apply(x, row_weights, kind)
    return result


def clamped(x: Tensor, limit: float) -> Tensor:
    """x (r, 2 f), gate beside up: the gate at most the limit, up within it on both sides; by torch, which keeps x for it."""
    gate, up = x.chunk(2, dim=-1)
    return torch.cat((gate.clamp(max=limit), up.clamp(-limit, limit)), dim=-1)


def is_gated(kind: Activation) -> bool:
    """Whether the activation multiplies a gate's values with an up projection's."""
    return kind in ("swiglu", "geglu")


class _Activate(torch.autograd.Function):
    """Works in few passes over memory: in place, and FP32 times BF16 without a copy in FP32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, row_weights: Tensor | None, kind: Activation) -> Tensor:
        ctx.kind = kind
        ctx.save_for_backward(x, row_weights)
        product = _product(x, kind)
        return (product if row_weights is None else product.mul_(row_weights.unsqueeze(1))).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, row_weights = ctx.saved_tensors
        if row_weights is None:
            return _input_grad(x, grad, ctx.kind), None, None
        weights_grad = _product(x, ctx.kind).mul_(grad).sum(1).to(row_weights.dtype)
        return _input_grad(x, grad * row_weights.unsqueeze(1), ctx.kind), weights_grad, None


def _wide(x: Tensor) -> Tensor:
    """At least FP32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _product(x: Tensor, kind: Activation) -> Tensor:
    """The activation's result in FP32, in memory of its own."""
    if is_gated(kind):
        gate, up = x.chunk(2, dim=-1)
        return (functional.silu(_wide(gate)) if kind == "swiglu" else functional.gelu(_wide(gate))).mul_(up)
    return functional.gelu(_wide(x)) if kind == "gelu" else functional.relu(_wide(x)).square()


def _input_grad(x: Tensor, grad: Tensor, kind: Activation) -> Tensor:
    """Gradient of the input, given that of the product."""
    if not is_gated(kind):
        slope = _gelu(_wide(x))[1] if kind == "gelu" else functional.relu(_wide(x)).mul_(2.0)
        return slope.mul_(grad).to(x.dtype)
    gate, up = x.chunk(2, dim=-1)
    value, slope = (_silu if kind == "swiglu" else _gelu)(_wide(gate))
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    gate_grad, up_grad = result.chunk(2, dim=-1)
    gate_grad.copy_(slope.mul_(up).mul_(grad))
    up_grad.copy_(value.mul_(grad))
    return result


def _silu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x sigmoid(x), and its slope."""
    gate = x.sigmoid()
    value = x * gate
    return value, (gate + value).addcmul_(value, gate, value=-1.0)


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x times the normal law's distribution, and its slope."""
    below = torch.erf(x / sqrt(2.0)).add_(1.0).mul_(0.5)
    return x * below, x.square().mul_(-0.5).exp_().mul_(x).mul_(1.0 / sqrt(2.0 * pi)).add_(below)
