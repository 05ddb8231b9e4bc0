"""The recipe fp8-blockwise, after DeepSeek-V3's report 3.3, and its exact emulation.

fprop   activations in tiles 1x128 times weights in blocks 128x128
dgrad   gradients in tiles 1x128 times the same weights transposed: their blocks are square, nothing is quantised again
wgrad   both operands in tiles of 128 tokens; the input is kept from fprop in FP8, read back and quantised again along tokens
sums    FP32 within 128 of the summed dimension, then scaled and added to an FP32 sum (3.3.2, "promotion"); wgrad gives FP32
rest    activations and gradients between products are BF16; weights and their gradients FP32; embedding, heads, router, norms
        and attention core are not for this recipe (3.3.1): `Numerics.plain` serves them

DeepSeek keeps scales of some inputs to powers of two (3.3.3); `power_of_two` does so for all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from hwprofiles.calibration.numerics.fp8 import Products
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import TILE, Quantised, padded, quantise, quantised_numbers, transposed

G = TypeVar("G")
C = TypeVar("C")
ROWS, COLUMNS, BLOCKS = (1, TILE), (TILE, 1), (TILE, TILE)


@dataclass(frozen=True)
class BlockWeight:
    """blocks: (e, N, K), sizes (n, k) rounded up to multiples of 128. What is made of them at first need stays with them.

    values_turned: (e, K, N), where one kernel has made both.
    """

    blocks: Quantised
    sizes: tuple[int, int]
    values_turned: Tensor | None = None

    @cached_property
    def forward(self) -> tuple[Tensor, Tensor]:
        """As the library's fprop reads them: (e, N, K), and scales (e, N / 128, K / 128 rounded up to 4)."""
        return self.blocks.values, padded(self.blocks.scales, (1, 4))

    @cached_property
    def turned(self) -> Quantised:
        """The transposed weight, as dgrad reads it: (e, K, N), and scales (e, K / 128, N / 128)."""
        values = transposed(self.blocks.values) if self.values_turned is None else self.values_turned
        return Quantised(values, self.blocks.scales.transpose(1, 2).contiguous(), BLOCKS)

    @cached_property
    def backward(self) -> tuple[Tensor, Tensor]:
        """As the library's dgrad reads them: `turned`, with scales (e, K / 128, N / 128 rounded up to 4)."""
        return self.turned.values, padded(self.turned.scales, (1, 4))


class Blockwise(Products[BlockWeight, G, C]):
    """What is quantised, and how; the products themselves are the subclasses'."""

    def __init__(self, *, power_of_two: bool = False) -> None:
        self.power_of_two = power_of_two

    def quantised_weight(self, weight: Tensor) -> BlockWeight:
        return BlockWeight(quantise(weight, BLOCKS, power_of_two=self.power_of_two), tuple(weight.shape[-2:]))

    def operand(self, rows: Tensor) -> Quantised:
        return quantise(rows, ROWS, power_of_two=self.power_of_two)

    def kept(self, rows: Tensor, operand: Quantised, groups: Groups) -> tuple[Tensor, ...]:
        return operand.values, operand.scales

    def columns_of_kept(self, kept: Sequence[Tensor], num_columns: int, groups: Groups) -> C:
        values, scales = kept
        return self.columns(Quantised(values, scales, ROWS).numbers[:, :num_columns], groups)

    @abstractmethod
    def columns(self, rows: Tensor, groups: Groups) -> C:
        """Each group's rows are padded to a multiple of 128."""

    @abstractmethod
    def wgrad(self, grads: C, inputs: C, sizes: tuple[int, int], groups: Groups) -> Tensor:
        """(e, *sizes) in FP32."""


class EmulatedBlockwise(Blockwise[Tensor, Tensor]):
    """FP32 products of what the FP8 operands stand for: `blockwise_product_reference` up to FP32's rounding."""

    def gradient(self, rows: Tensor) -> Tensor:
        return quantised_numbers(rows, ROWS, power_of_two=self.power_of_two)

    def columns(self, rows: Tensor, groups: Groups) -> Tensor:
        return quantised_numbers(groups.spread(rows, groups.padded(TILE)), COLUMNS, power_of_two=self.power_of_two)

    def fprop(self, operand: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        n, k = weight.sizes
        return by_groups(operand.numbers[:, :k], weight.blocks.numbers[:, :n, :k].transpose(1, 2), groups)

    def dgrad(self, gradient: Tensor, weight: BlockWeight, groups: Groups) -> Tensor:
        n, k = weight.sizes
        return by_groups(gradient[:, :n], weight.blocks.numbers[:, :n, :k], groups)

    def wgrad(self, grads: Tensor, inputs: Tensor, sizes: tuple[int, int], groups: Groups) -> Tensor:
        return outer_by_groups(grads, inputs, groups, groups.padded(TILE))


def by_groups(rows: Tensor, matrices: Tensor, groups: Groups) -> Tensor:
    """Rows (r, k) of each group times its matrix of (e, k, n): (r, n)."""
    if len(groups.counts) == 1:
        return rows @ matrices[0]
    result = rows.new_empty(len(rows), matrices.shape[2])
    for part, matrix in zip(groups.slices(groups), matrices, strict=True):
        torch.mm(rows[part], matrix, out=result[part])
    return result


def outer_by_groups(left: Tensor, right: Tensor, groups: Groups, within: Groups) -> Tensor:
    """Of each group, lying as `within` has them, left (r, n) transposed times right (r, k): (e, n, k)."""
    parts = groups.slices(within)
    if len(parts) == 1:
        return (left[parts[0]].t() @ right[parts[0]]).unsqueeze(0)
    result = left.new_empty(len(parts), left.shape[1], right.shape[1])
    for idx, part in enumerate(parts):
        torch.mm(left[part].t(), right[part], out=result[idx])
    return result


def blockwise_product_reference(left: Quantised, right: Quantised) -> Tensor:
    """left (m, k) times right (n, k) transposed, a block of 128 of k at a time, literally: (m, n) in FP32.

    left in tiles 1x128; right in tiles 1x128 or blocks 128x128. The tensor core's sum of a block has no scale; the CUDA cores
    scale it and add it to the FP32 sum (report 3.3.2, figure 7).
    """
    result = torch.zeros(left.values.shape[0], right.values.shape[0])
    rows_of_right = right.scales.repeat_interleave(right.tile[0], dim=0)  # (n, k / 128)
    for block in range(left.scales.shape[1]):
        columns = slice(block * TILE, (block + 1) * TILE)
        part = left.values[:, columns].to(torch.float32) @ right.values[:, columns].to(torch.float32).t()
        result += part * left.scales[:, block, None] * rows_of_right[None, :, block]
    return result
