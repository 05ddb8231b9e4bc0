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


def is_gated(kind: Activation) -> bool:
    """Whether the activation multiplies a gate's values with an up projection's."""
    return kind in ("swiglu", "geglu")


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, row_weights: Tensor | None, kind: Activation) -> Tensor:
        ctx.kind = kind
        ctx.save_for_backward(x, row_weights)
        product = _product(_wide(x), kind)
        return (product if row_weights is None else product * row_weights.unsqueeze(1)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, row_weights = ctx.saved_tensors
        wide, grad = _wide(x), _wide(grad)
        weights_grad = None
        if row_weights is not None:
            weights_grad = (grad * _product(wide, ctx.kind)).sum(1).to(row_weights.dtype)
            grad = grad * row_weights.unsqueeze(1)
        return _product_grad(wide, grad, ctx.kind).to(x.dtype), weights_grad, None


def _wide(x: Tensor) -> Tensor:
    """At least FP32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _product(x: Tensor, kind: Activation) -> Tensor:
    if is_gated(kind):
        gate, up = x.chunk(2, dim=-1)
        return (functional.silu(gate) if kind == "swiglu" else functional.gelu(gate)) * up
    return functional.gelu(x) if kind == "gelu" else functional.relu(x).square()


def _product_grad(x: Tensor, grad: Tensor, kind: Activation) -> Tensor:
    """Gradient of the input, given that of the product."""
    if is_gated(kind):
        gate, up = x.chunk(2, dim=-1)
        value, slope = _silu(gate) if kind == "swiglu" else _gelu(gate)
        return torch.cat((grad * up * slope, grad * value), dim=-1)
    return grad * (_gelu(x)[1] if kind == "gelu" else 2.0 * functional.relu(x))


def _silu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x sigmoid(x), and its slope."""
    gate = x.sigmoid()
    return x * gate, gate * (1.0 + x * (1.0 - gate))


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x times the normal law's distribution, and its slope."""
    below = 0.5 * (1.0 + torch.erf(x / sqrt(2.0)))
    return x * below, below + x * torch.exp(-0.5 * x.square()) / sqrt(2.0 * pi)
