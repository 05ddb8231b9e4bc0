"""A loss of a layer's own, attached to a tensor that passes: it gets its gradient when that tensor does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Attach(torch.autograd.Function):
    """Forward: y as it is. Backward: the loss gets the gradient `scale`, whatever that of y is; nothing is kept."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, loss: Tensor, scale: float) -> Tensor:
        ctx.scale, ctx.dtype, ctx.device = scale, loss.dtype, loss.device
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad, torch.full((), ctx.scale, dtype=ctx.dtype, device=ctx.device), None


def attach_loss(y: Tensor, loss: Tensor, scale: float = 1.0) -> Tensor:
    """y, in whose backward the scalar `loss` times `scale` is added to what the step minimises.

    So a loss that is known deep in the model needs no way out of it, whatever cuts the model into stages or computes it again.
    y must get a gradient, or the loss gets none.
    """
    result: Tensor = _Attach.apply(y, loss, scale)
    return result
