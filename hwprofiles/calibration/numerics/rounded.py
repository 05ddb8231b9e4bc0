"""BF16 where native BF16 is slow: FP32 tensors whose values are rounded to BF16 where a GPU would write BF16.

On a CPU products of native BF16 are about nine times slower than this. Products of two BF16 numbers are exact in FP32 and sums
run in FP32, as in a GPU's BF16 GEMM; only the order of the sums differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.numerics.numerics import Numerics, looped_linear


def to_bf16(x: Tensor) -> Tensor:
    """The nearest BF16 numbers, as FP32 (ties to even)."""
    return x.to(torch.bfloat16).to(torch.float32)


class _Round(torch.autograd.Function):
    """Rounds forward, and the gradient backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return to_bf16(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return to_bf16(grad)


class RoundedBf16(Numerics):
    """The recipe bf16, emulated: every activation and gradient is a BF16 number in an FP32 tensor; weights are kept in FP32."""

    name, dtype, param_dtype = "bf16", torch.float32, torch.float32

    def rounded(self, x: Tensor) -> Tensor:
        result: Tensor = _Round.apply(x.to(torch.float32))
        return result

    def linears(self, x: Tensor, weights: Sequence[Tensor], *, keeps_input: bool = False) -> tuple[Tensor, ...]:
        x = self.rounded(x)
        return tuple(self.rounded(functional.linear(x, to_bf16_weight(weight))) for weight in weights)

    def grouped_linear(self, rows: Tensor, weights: Tensor, counts: Tensor, *, keeps_input: bool = False) -> Tensor:
        return self.rounded(looped_linear(self.rounded(rows), to_bf16_weight(weights), counts))


class _RoundWeight(torch.autograd.Function):
    """Rounds forward; the weights' gradient stays in FP32, as it is accumulated."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return to_bf16(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def to_bf16_weight(weight: Tensor) -> Tensor:
    """A weight as BF16 operand; its gradient is not rounded."""
    result: Tensor = _RoundWeight.apply(weight)
    return result
