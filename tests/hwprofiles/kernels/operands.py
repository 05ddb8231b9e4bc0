"""Operands of FP8 products for tests: random numbers, quantised as the model does it."""

from __future__ import annotations

import torch
from torch import Tensor

from hwprofiles.calibration.kernels.operands import Blocks, Columns, Rows
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import TILE, quantise, transposed


def numbers(seed: int, *sizes: int) -> Tensor:
    """Of tiles whose sizes differ by powers of two, so that a scale in a wrong place shows."""
    generator = torch.Generator().manual_seed(seed)
    powers = torch.randint(-4, 5, sizes, generator=generator).exp2()
    return torch.randn(sizes, generator=generator) * powers


def rows(num_rows: int, k: int, seed: int = 1) -> Rows:
    return Rows.of(quantise(numbers(seed, num_rows, k), (1, TILE)))


def blocks(num_groups: int, n: int, k: int, seed: int = 2) -> Blocks:
    made = quantise(numbers(seed, num_groups, n, k), (TILE, TILE))
    return Blocks(made.values, made.scales)


def columns(groups: Groups, size: int, seed: int = 3) -> Columns:
    """(size, P): each group's tokens behind one another, padded with zeros to 128."""
    spread = groups.spread(numbers(seed, sum(groups.counts), size), groups.padded(TILE))
    made = quantise(spread, (TILE, 1))
    return Columns(transposed(made.values), made.scales)
