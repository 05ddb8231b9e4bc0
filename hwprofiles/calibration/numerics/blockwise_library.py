"""The recipe fp8-blockwise by library products, on a GPU that has them: one launch an expert."""

from __future__ import annotations

import torch
from torch import Tensor

from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.numerics.blockwise import COLUMNS, BlockWeight, Blockwise
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, TILE, Quantised, padded, quantise, transposed


class LibraryBlockwise(Blockwise[Quantised]):
    """Sizes that do not fit are padded with zeros: rows of an expert to 4, tokens of wgrad to 128, n and k to 128."""

    def gradient(self, rows: Tensor) -> Quantised:
        return self.operand(rows)

    def columns(self, rows: Tensor, groups: Groups) -> Quantised:
        rows = groups.spread(padded(rows, (1, library.ALIGNED)), groups.padded(TILE))
        return quantise(rows, COLUMNS, power_of_two=self.power_of_two)

    def fprop(self, operand: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        return _by_groups(operand, *weight.forward, groups)[:, : weight.sizes[0]]

    def dgrad(self, gradient: Quantised, weight: BlockWeight, groups: Groups) -> Tensor:
        return _by_groups(gradient, *weight.backward, groups)[:, : weight.sizes[1]]

    def wgrad(self, grads: Quantised, inputs: Quantised, sizes: tuple[int, int], groups: Groups) -> Tensor:
        n, k = sizes
        result = grads.scales.new_zeros(len(groups.counts), n, k)
        within = groups.padded(TILE)
        for idx, part in enumerate(within.slices(within)):
            if groups.counts[idx]:
                tiles = slice(part.start // TILE, part.stop // TILE)
                left, right = transposed(grads.values[part]), transposed(inputs.values[part])
                product = library.tiles_by_tiles(left, grads.scales[tiles].t(), right, inputs.scales[tiles].t())[:n, :k]
                if len(groups.counts) == 1:
                    return product.unsqueeze(0)
                result[idx] = product
        return result


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
