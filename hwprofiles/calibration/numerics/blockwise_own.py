"""The recipe fp8-blockwise by this project's kernels: all experts in one launch, weight gradients added where they are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from hwprofiles.calibration.kernels import products
from hwprofiles.calibration.kernels.operands import TURNED_ALIGNED, Blocks, Columns, Rows
from hwprofiles.calibration.numerics.blockwise import BLOCKS, ROWS, BlockWeight
from hwprofiles.calibration.numerics.blockwise_library import LibraryBlockwise, Turned, fused_kernels
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.library import ALIGNED
from hwprofiles.calibration.numerics.quantise import TILE, Quantised


class OwnBlockwise(LibraryBlockwise):
    """Operands are those of the library's products. Raises CalibrationError for a device that has none of the kernels."""

    def __init__(self, device: torch.device, *, power_of_two: bool = False) -> None:
        super().__init__(power_of_two=power_of_two)
        products.require(device)

    def quantised_weight(self, weight: Tensor) -> BlockWeight:
        kernels = fused_kernels(weight.device)
        if kernels is None:
            return super().quantised_weight(weight)
        values, turned, scales = kernels.quantise_blocks(weight, power_of_two=self.power_of_two)
        return BlockWeight(Quantised(values, scales, BLOCKS), tuple(weight.shape[-2:]), turned)

    def both(self, rows: Tensor, groups: Groups) -> tuple[Quantised, Turned]:
        kernels = fused_kernels(rows.device)
        if kernels is None:
            return super().both(rows, groups)
        sources = groups.sources(groups.padded(TILE), rows.device)
        made, turned = kernels.quantise_both(rows, sources, ALIGNED, power_of_two=self.power_of_two)
        return Quantised(made[0], made[1], ROWS), Turned(*turned)

    def fprop(self, operand: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        return products.fprop(Rows.of(operand), _blocks(weight.blocks), groups)[:, : weight.sizes[0]]

    def dgrad(self, gradient: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        return products.dgrad(Rows.of(gradient), _blocks(weight.turned), groups)[:, : weight.sizes[1]]

    def wgrad(self, grads: Turned, inputs: Turned, sizes: tuple[int, int], groups: Groups) -> Tensor:
        n, k = sizes
        return products.wgrad(_columns(grads), _columns(inputs), groups)[:, :n, :k]

    def add_wgrad(self, grads: Turned, inputs: Turned, total: Tensor, groups: Groups) -> None:
        if any(size % TURNED_ALIGNED for size in total.shape[1:]):
            super().add_wgrad(grads, inputs, total, groups)
        else:
            products.wgrad(_columns(grads), _columns(inputs), groups, out=total, accumulate=True)


def _blocks(made: Quantised) -> Blocks:
    return Blocks(made.values, made.scales)


def _columns(made: Turned) -> Columns:
    return Columns(made.values, made.scales)
