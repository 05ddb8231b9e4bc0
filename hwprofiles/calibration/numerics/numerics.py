"""What a model asks of its number formats, and the formats that need no scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Numerics(ABC):
    """How a model's numbers are kept and multiplied.

    name: of the recipe. dtype: of activations in memory; param_dtype: of the weights that the optimizer moves.
    """

    name: str
    dtype: torch.dtype
    param_dtype: torch.dtype

    @property
    def plain(self) -> Numerics:
        """The formats of what a recipe leaves in high precision: embedding, router, attention core, heads."""
        return self

    def rounded(self, x: Tensor) -> Tensor:
        """x in the activations' format, its gradient too; x itself where `dtype` is that format."""
        return x.to(self.dtype)

    @abstractmethod
    def linears(self, x: Tensor, weights: Sequence[Tensor], *, keeps_input: bool = False) -> tuple[Tensor, ...]:
        """x (..., k) times each of weights (n, k) transposed: (..., n) each. x is kept once for all their gradients.

        keeps_input: it is kept as it is, and not in the recipe's form, because others keep it too, or nobody does and it is
        made again (`model.recompute`): its own form would be kept beside it, or in spite of that.
        """

    @abstractmethod
    def grouped_linear(self, rows: Tensor, weights: Tensor, counts: Tensor, *, keeps_input: bool = False) -> Tensor:
        """Rows (r, k) sorted by expert times weights (e, n, k) transposed: (r, n). keeps_input: as in `linears`.

        counts: (e,) int64, rows of each expert, zeros allowed; their sum is r. On the rows' device; what needs them on the
        host copies them itself.
        """

    def linear(self, x: Tensor, weight: Tensor, *, keeps_input: bool = False) -> Tensor:
        """x (..., k) times weight (n, k) transposed: (..., n). keeps_input: as in `linears`."""
        return self.linears(x, (weight,), keeps_input=keeps_input)[0]


class Plain(Numerics):
    """torch's own arithmetic in one dtype: float64, float32, or native BF16."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.name, self.dtype, self.param_dtype = name, dtype, dtype

    def linears(self, x: Tensor, weights: Sequence[Tensor], *, keeps_input: bool = False) -> tuple[Tensor, ...]:
        return tuple(functional.linear(x, weight.to(self.dtype)) for weight in weights)

    def grouped_linear(self, rows: Tensor, weights: Tensor, counts: Tensor, *, keeps_input: bool = False) -> Tensor:
        # The grouped kernel reads rows of 16 bytes at a time.
        is_aligned = not any(size % 8 for size in weights.shape[1:])
        if rows.is_cuda and self.dtype is torch.bfloat16 and is_aligned:
            ends = counts.cumsum(0).to(torch.int32)
            return torch._grouped_mm(rows, weights.to(self.dtype).transpose(1, 2), offs=ends)
        return looped_linear(rows, weights.to(self.dtype), counts)


def looped_linear(rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """The plain way of a grouped product: one product an expert. Shapes as in `Numerics.grouped_linear`."""
    parts = rows.split(counts.tolist())
    return torch.cat([functional.linear(part, weight) for part, weight in zip(parts, weights, strict=True)])
