"""Random operands of a product, of the size that training has, quantised for every library alike.

Activations have a few columns thirty times as large as the rest, as the hidden states of language models do (arXiv:2208.07339:
a handful of dimensions), weights a standard deviation of 0.02, gradients of 1e-4 with rows of unlike size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.kernel_bench.shapes import Product
from hwprofiles.calibration.kernels.operands import Blocks, Columns, Rows
from hwprofiles.calibration.numerics.blockwise_library import fused_kernels
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.library import ALIGNED
from hwprofiles.calibration.numerics.quantise import TILE, Quantised, padded, quantise, transposed

OUTLIERS: Final = (997, 30.0)
"""One column in so many is so much larger."""
WEIGHT: Final = 0.02
GRADIENT: Final = 1e-4


def activations(device: Any, rows: int, columns: int, generator: torch.Generator | None = None) -> Tensor:
    """(rows, columns) in BF16."""
    x = torch.randn(rows, columns, device=device, generator=generator, dtype=torch.float32)
    every, factor = OUTLIERS
    x[:, 7::every] *= factor
    return x.to(torch.bfloat16)


def gradients(device: Any, rows: int, columns: int, generator: torch.Generator | None = None) -> Tensor:
    """(rows, columns) in BF16; rows differ by a factor of up to ten."""
    y = torch.randn(rows, columns, device=device, generator=generator, dtype=torch.float32)
    y *= GRADIENT * 10.0 ** torch.rand(rows, 1, device=device, generator=generator)
    return y.to(torch.bfloat16)


def weights(device: Any, groups: int, n: int, k: int, generator: torch.Generator | None = None) -> Tensor:
    """(groups, n, k) in BF16: what the masters are read as."""
    w = torch.randn(groups, n, k, device=device, generator=generator, dtype=torch.bfloat16)
    return w.mul_(WEIGHT)


@dataclass(frozen=True)
class Operands:
    """Of a product: left and right in BF16, (R, k') and (e, n', k') of fprop and dgrad, (R, n) and (R, k) of wgrad."""

    product: Product
    left: Tensor
    right: Tensor

    @cached_property
    def groups(self) -> Groups:
        return Groups(self.product.counts)

    @property
    def is_wgrad(self) -> bool:
        return self.product.variant == "wgrad"

    @cached_property
    def tiles(self) -> Quantised:
        """The left operand of fprop and dgrad in tiles 1x128, columns padded to whole tiles."""
        if kernels := fused_kernels(self.left.device):
            values, scales = kernels.quantise_rows(self.left, power_of_two=False)
            return Quantised(values, scales, (1, TILE))
        return quantise(self.left, (1, TILE))

    @cached_property
    def blocks(self) -> Quantised:
        """The right one in blocks, both sides padded."""
        return quantise(self.right, (TILE, TILE))

    @cached_property
    def columns(self) -> tuple[Columns, Columns]:
        """Both operands of wgrad: tokens padded group by group, columns to 16, transposed."""
        return self._turned(self.left), self._turned(self.right)

    def _turned(self, x: Tensor) -> Columns:
        within = self.groups.padded(TILE)
        if kernels := fused_kernels(x.device):
            sources = self.groups.sources(within, x.device)
            return Columns(*kernels.quantise_columns(x, None, x.shape[1], sources, ALIGNED, power_of_two=False))
        x = padded(x, (1, ALIGNED))
        made = quantise(self.groups.spread(x, within), (TILE, 1))
        return Columns(transposed(made.values), made.scales)

    @cached_property
    def own(self) -> tuple[Any, Any]:
        """As the own kernels take them."""
        if self.is_wgrad:
            return self.columns
        return Rows.of(self.tiles), Blocks(self.blocks.values, self.blocks.scales)

    @cached_property
    def rows_alone(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """With a scale a row, as torch's grouped product takes them; of wgrad transposed, a scale a column of all groups."""
        if not self.is_wgrad:
            made = quantise(self.right, (1, self.right.shape[2]))
            values, scales = quantise_rows_whole(self.left)
            return (values, scales), (made.values, made.scales[..., 0])
        return quantise_rows_whole(self.left.t()), quantise_rows_whole(self.right.t())


def quantise_rows_whole(x: Tensor) -> tuple[Tensor, Tensor]:
    """A scale a row: (r, c) and (r,)."""
    made = quantise(x.contiguous(), (1, x.shape[1]))
    return made.values, made.scales[:, 0]


def of(product: Product, device: Any, generator: torch.Generator | None = None) -> Operands:
    """Fresh ones."""
    rows, n, k = product.rows, product.n, product.k
    if product.variant == "fprop":
        left, right = activations(device, rows, k, generator), weights(device, len(product.counts), n, k, generator)
    elif product.variant == "dgrad":
        left, right = gradients(device, rows, n, generator), weights(device, len(product.counts), k, n, generator)
    else:
        left, right = gradients(device, rows, n, generator), activations(device, rows, k, generator)
    return Operands(product, left, right)


def slices(counts: Sequence[int]) -> Iterator[slice]:
    """Rows of each group."""
    begin = 0
    for count in counts:
        yield slice(begin, begin + count)
        begin += count
