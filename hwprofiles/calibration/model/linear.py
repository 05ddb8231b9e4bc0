"""A linear layer by the recipe's product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem


def parameter(numerics: Numerics, *shape: int, value: float = 0.0) -> nn.Parameter:
    """A parameter in the recipe's format, every number `value` until `initial.initialise` draws it.

    Its gradient is summed over micro-batches in FP32 (float64 of float64), whatever the format (DeepSeek-V3 report, 3.3.3).
    """
    made = nn.Parameter(torch.full(shape, value, dtype=numerics.param_dtype))
    made.grad_dtype = torch.promote_types(numerics.param_dtype, torch.float32)
    return made


def check_input(x: Tensor, width: int, numerics: Numerics, dims: int | None = None) -> None:
    """Raises CalibrationError where x is not (..., width) in the activations' format, or has not `dims` dimensions."""
    allowed = f"({'..., ' if dims is None else 'sequences, tokens, ' if dims == 3 else 'tokens, '}{width})"
    if x.shape[-1:] != (width,) or (dims is not None and x.dim() != dims):
        raise CalibrationError([Problem("", "x", f"has shape {tuple(x.shape)}; allowed {allowed}")])
    if x.dtype is not numerics.dtype:
        told = f"is {x.dtype}; {numerics.name} takes {numerics.dtype}: write x.to({numerics.dtype})"
        raise CalibrationError([Problem("", "x", told)])


class Linear(nn.Module):
    """y = x W^T, and + b with a bias. weight: (n_out, n_in); bias: (n_out,), first 0. keeps_input: as in `Numerics.linears`."""

    def __init__(
        self, n_in: int, n_out: int, numerics: Numerics, bias: bool = False, *, keeps_input: bool = False
    ) -> None:
        super().__init__()
        self.numerics, self.keeps_input = numerics, keeps_input
        self.weight = parameter(numerics, n_out, n_in)
        self.bias = parameter(numerics, n_out) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., n_in) to (..., n_out)."""
        return self.biased(self.numerics.linear(x, self.weight, keeps_input=self.keeps_input))

    def biased(self, product: Tensor) -> Tensor:
        """The product with the bias, where there is one: for products that the caller takes with others of one input."""
        if self.bias is None:
            return product
        return self.numerics.rounded(product + self.bias.to(product.dtype))
