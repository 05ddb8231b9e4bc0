"""The recipe fp8-row: a scale for each row of an operand, along the whole summed dimension; coarser than tiles, but simpler.

fprop   a scale a token times a scale an output of the weight
dgrad   a scale a token of the gradient times a scale an input of the weight, which is quantised a second time for it
wgrad   a scale an output and a scale an input, over all tokens of an expert; the input is quantised so in fprop already, and
        kept so. Its result is BF16, as the library's kernel gives it (fp8-blockwise: FP32)

Sizes are padded with zeros to multiples of 16, an expert's rows too where they are summed over.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.numerics.blockwise import by_groups, outer_by_groups
from hwprofiles.calibration.numerics.fp8 import Products
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, Quantised, padded, quantise, scale_of, to_float32, transposed

ALIGNED = (1, library.ALIGNED)


@dataclass(frozen=True)
class RowWeight:
    """sizes (n, k), rounded up to N and K. forward (e, N, K), scales (e, N, 1); backward (e, K, N), scales (e, K, 1)."""

    forward: Quantised
    backward: Quantised
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Columns:
    """Rows (r, c) in FP8 with a scale for each column of each group: scales (e, c)."""

    values: Tensor
    scales: Tensor
    groups: Groups

    @cached_property
    def numbers(self) -> Tensor:
        """(r, c) in FP32."""
        return to_float32(self.values) * self.groups.repeated(self.scales)


class Rowwise(Products[RowWeight, Quantised, Columns]):
    """What is quantised, and how; the products themselves are the subclasses'."""

    def quantised_weight(self, weight: Tensor) -> RowWeight:
        n, k = weight.shape[-2:]
        weight = padded(weight, (library.ALIGNED, library.ALIGNED))
        columns = quantise(weight, (weight.shape[1], 1))
        backward = Quantised(transposed(columns.values), columns.scales.transpose(1, 2), (1, weight.shape[1]))
        return RowWeight(quantise(weight, (1, weight.shape[2])), backward, (n, k))

    def operand(self, rows: Tensor) -> Quantised:
        rows = padded(rows, ALIGNED)
        return quantise(rows, (1, rows.shape[1]))

    def gradient(self, rows: Tensor) -> Quantised:
        return self.operand(rows)

    def kept(self, rows: Tensor, operand: Quantised, groups: Groups) -> tuple[Tensor, ...]:
        columns = self.columns(rows, groups)
        return columns.values, columns.scales

    def columns_of_kept(self, kept: Sequence[Tensor], num_columns: int, groups: Groups) -> Columns:
        return Columns(kept[0], kept[1], summed(groups))

    def columns(self, rows: Tensor, groups: Groups) -> Columns:
        rows, within = groups.spread(padded(rows, ALIGNED), summed(groups)), summed(groups)
        largest = [rows[part].abs().amax(0) for part in within.slices(within)]
        scales = scale_of(torch.stack(largest), power_of_two=False)
        return Columns((rows / within.repeated(scales)).to(FP8), scales, within)

    @abstractmethod
    def wgrad(self, grads: Columns, inputs: Columns, sizes: tuple[int, int], groups: Groups) -> Tensor:
        """(e, *sizes) in BF16."""


def summed(groups: Groups) -> Groups:
    """The groups where their rows are summed over: each a multiple of 16, none without rows."""
    return groups.padded(library.ALIGNED, at_least=library.ALIGNED)


class EmulatedRowwise(Rowwise):
    """FP32 products of what the FP8 operands stand for."""

    def fprop(self, operand: Quantised, weight: RowWeight, groups: Groups) -> Tensor:
        n, k = weight.sizes
        return by_groups(operand.numbers[:, :k], weight.forward.numbers[:, :n, :k].transpose(1, 2), groups)

    def dgrad(self, gradient: Quantised, weight: RowWeight, groups: Groups) -> Tensor:
        n, k = weight.sizes
        return by_groups(gradient.numbers[:, :n], weight.backward.numbers[:, :k, :n].transpose(1, 2), groups)

    def wgrad(self, grads: Columns, inputs: Columns, sizes: tuple[int, int], groups: Groups) -> Tensor:
        n, k = sizes
        return outer_by_groups(grads.numbers[:, :n], inputs.numbers[:, :k], groups, grads.groups).to(torch.bfloat16)


class LibraryRowwise(Rowwise):
    """scaled_mm, and for experts one launch of _scaled_grouped_mm."""

    def fprop(self, operand: Quantised, weight: RowWeight, groups: Groups) -> Tensor:
        return _rows(operand, weight.forward, groups)[:, : weight.sizes[0]]

    def dgrad(self, gradient: Quantised, weight: RowWeight, groups: Groups) -> Tensor:
        return _rows(gradient, weight.backward, groups)[:, : weight.sizes[1]]

    def wgrad(self, grads: Columns, inputs: Columns, sizes: tuple[int, int], groups: Groups) -> Tensor:
        left, right = transposed(grads.values), transposed(inputs.values)
        if len(groups.counts) == 1:
            product = library.rows_by_rows(left, grads.scales[0], right, inputs.scales[0]).unsqueeze(0)
        else:
            product = library.grouped_columns(left, grads.scales, right, inputs.scales, grads.groups)
        return product[:, : sizes[0], : sizes[1]]


def _rows(operand: Quantised, weight: Quantised, groups: Groups) -> Tensor:
    """Rows (r, K) of each group times its weight of (e, N, K) transposed: (r, N) in BF16."""
    of_rows, of_weight = operand.scales[:, 0], weight.scales[..., 0]
    if not len(operand.values):
        return torch.empty(0, weight.values.shape[1], dtype=torch.bfloat16, device=weight.values.device)
    if len(groups.counts) == 1:
        return library.rows_by_rows(operand.values, of_rows, weight.values[0], of_weight[0])
    return library.grouped_rows(operand.values, of_rows, weight.values, of_weight, groups)
