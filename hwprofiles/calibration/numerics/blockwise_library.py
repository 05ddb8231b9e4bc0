"""The recipe fp8-blockwise by library products, on a GPU that has them: one launch an expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.numerics.blockwise import COLUMNS, ROWS, BlockWeight, Blockwise
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, TILE, Quantised, padded, quantise, transposed

KERNELS: Final = "hwprofiles.calibration.kernels.streams"


@dataclass(frozen=True)
class Turned:
    """Rows (R, c) in tiles of 128 rows, transposed: values (C, R), C the multiple of 16 above c, and scales (R / 128, C)."""

    values: Tensor
    scales: Tensor


class LibraryBlockwise(Blockwise[Quantised, Turned]):
    """Sizes that do not fit are padded with zeros: rows of an expert to 4, tokens of wgrad to 128, n and k to 128."""

    def operand(self, rows: Tensor) -> Quantised:
        if kernels := fused_kernels(rows.device):
            values, scales = kernels.quantise_rows(rows, power_of_two=self.power_of_two)
            return Quantised(values, scales, ROWS)
        return super().operand(rows)

    def gradient(self, rows: Tensor) -> Quantised:
        return self.operand(rows)

    def columns(self, rows: Tensor, groups: Groups) -> Turned:
        if fused_kernels(rows.device):
            return self._turned(rows, None, rows.shape[1], groups)
        rows = groups.spread(padded(rows, (1, library.ALIGNED)), groups.padded(TILE))
        made = quantise(rows, COLUMNS, power_of_two=self.power_of_two)
        return Turned(transposed(made.values), made.scales)

    def columns_of_kept(self, kept: Sequence[Tensor], num_columns: int, groups: Groups) -> Turned:
        if fused_kernels(kept[0].device):
            return self._turned(kept[0], kept[1], num_columns, groups)
        return super().columns_of_kept(kept, num_columns, groups)

    def _turned(self, values: Tensor, scales: Tensor | None, num_columns: int, groups: Groups) -> Turned:
        kernels, sources = fused_kernels(values.device), groups.sources(groups.padded(TILE), values.device)
        assert kernels
        return Turned(
            *kernels.quantise_columns(
                values, scales, num_columns, sources, library.ALIGNED, power_of_two=self.power_of_two
            )
        )

    def fprop(self, operand: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        return _by_groups(operand, *weight.forward, groups)[:, : weight.sizes[0]]

    def dgrad(self, gradient: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        return _by_groups(gradient, *weight.backward, groups)[:, : weight.sizes[1]]

    def wgrad(self, grads: Turned, inputs: Turned, sizes: tuple[int, int], groups: Groups) -> Tensor:
        n, k = sizes
        within = groups.padded(TILE)
        if len(groups.counts) == 1 and groups.counts[0]:
            return _outer(grads, inputs, within.slices(within)[0])[:n, :k].unsqueeze(0)
        result = grads.scales.new_empty(len(groups.counts), n, k)
        for idx, part in enumerate(within.slices(within)):
            result[idx] = _outer(grads, inputs, part)[:n, :k] if groups.counts[idx] else 0
        return result


def _outer(grads: Turned, inputs: Turned, part: slice) -> Tensor:
    """Over a part of the rows: (N, K) in FP32."""
    tiles = slice(part.start // TILE, part.stop // TILE)
    left, right = grads.values[:, part], inputs.values[:, part]
    return library.tiles_by_tiles(left, grads.scales[tiles].t(), right, inputs.scales[tiles].t())


def _by_groups(operand: Quantised, matrices: Tensor, scales: Tensor, groups: Groups) -> Tensor:
    """Rows (r, K) of each group times its matrix of (e, N, K) transposed: (r, N) in BF16.

    scales: (e, N / 128, K / 128 rounded up to 4).
    """
    within = groups.padded(library.SCALE_ALIGNED)
    rows = groups.spread(operand.values.view(torch.uint8), within).view(FP8)
    of_rows = groups.spread(operand.scales, within)
    products = [
        library.tiles_by_blocks(rows[part], of_rows[part], matrices[idx], scales[idx])[: groups.counts[idx]]
        for idx, part in enumerate(within.slices(within))
        if groups.counts[idx]
    ]
    if not products:
        return torch.empty(0, matrices.shape[1], dtype=torch.bfloat16, device=matrices.device)
    return products[0] if len(products) == 1 else torch.cat(products)


def fused_kernels(device: torch.device) -> ModuleType | None:
    """The Triton kernels that quantise in one pass, where Triton can make them; elsewhere torch quantises in several."""
    return None if reason_against_kernels(device) else import_module(KERNELS)


@cache
def reason_against_kernels(device: torch.device) -> str:
    """Why there are no kernels on the device that quantise in one pass; empty where there are."""
    if device.type != "cuda":
        return "needs a CUDA GPU"
    if find_spec("triton") is None:
        return "needs triton"
    try:
        kernels, sources = import_module(KERNELS), torch.zeros(TILE, dtype=torch.int64, device=device)
        values, scales = kernels.quantise_rows(torch.ones(1, TILE, device=device), power_of_two=False)
        kernels.quantise_columns(values, scales, TILE, sources, 1, power_of_two=False)
    except Exception as error:  # a compiler that is missing, or too old, says so in many ways
        return f"{type(error).__name__}: {error}"
    return ""
