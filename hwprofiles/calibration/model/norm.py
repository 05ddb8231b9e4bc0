"""Norms of the last dimension, computed in FP32 (FP64 for float64) whatever the activations' format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.linear import parameter
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467, without its bias)."""

    def __init__(self, width: int, numerics: Numerics, eps: float) -> None:
        super().__init__()
        self.numerics, self.eps = numerics, eps
        self.weight = parameter(numerics, width, value=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width), any strides, to the same shape."""
        _check_width(x, self.weight)
        if x.is_cuda:  # one kernel, which computes in FP32 and keeps the same, but takes weights of x's format alone
            return self.numerics.rounded(functional.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps))
        normed: Tensor = _RmsNorm.apply(x, self.weight, self.eps)
        return self.numerics.rounded(normed)


class _RmsNorm(torch.autograd.Function):
    """Keeps x and one FP32 number a row, 1/sqrt(mean(x^2) + eps)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = _wide(x)
        inverse = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, weight, inverse)
        return (wide * inverse * weight.to(wide.dtype)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        normed = _wide(x) * inverse
        wide = grad.to(normed.dtype)
        weight_grad = (wide * normed).flatten(0, -2).sum(0)
        inner = wide * weight.to(normed.dtype)
        x_grad = inverse * (inner - normed * (inner * normed).mean(-1, keepdim=True))
        return x_grad.to(x.dtype), weight_grad.to(weight.dtype), None


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias (arXiv:1607.06450)."""

    def __init__(self, width: int, numerics: Numerics, eps: float) -> None:
        super().__init__()
        self.numerics, self.eps = numerics, eps
        self.weight = parameter(numerics, width, value=1.0)
        self.bias = parameter(numerics, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) to the same shape. torch's own: it computes in FP32 and keeps x, a mean and a deviation a row."""
        _check_width(x, self.weight)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return self.numerics.rounded(functional.layer_norm(x, (x.shape[-1],), weight, bias, self.eps))


def norm_of(model: ModelConfig, numerics: Numerics, width: int | None = None) -> RmsNorm | LayerNorm:
    """A norm of the model's kind; width: default its hidden size."""
    kind = RmsNorm if model.norm == "rmsnorm" else LayerNorm
    return kind(width or model.hidden_size, numerics, model.norm_eps)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float64 else x.to(torch.float32)


def _check_width(x: Tensor, weight: Tensor) -> None:
    if x.shape[-1:] != weight.shape:
        raise CalibrationError(
            [Problem("", "x", f"has shape {tuple(x.shape)}; the norm takes (..., {weight.shape[0]})")]
        )
