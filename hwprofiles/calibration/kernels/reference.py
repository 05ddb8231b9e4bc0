"""The products plainly: literally as the recipe sums them, and in float64 as the truth about their operands.

Slow: group by group and, with promotion, 128 of the summed dimension at a time. Values may be on any device.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hwprofiles.calibration.kernels.operands import Blocks, Columns, Rows, ends_of, num_groups_of
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import TILE, to_float32


def product(left: Rows, right: Blocks, groups: Tensor | Groups | None = None) -> Tensor:
    """fprop or dgrad with promotion: (R, N) in FP32. A tile's sum is FP32, without scales; scaled, it joins an FP32 sum."""
    num_rows, k = left.values.shape
    result = torch.zeros(num_rows, right.values.shape[1], device=left.values.device)
    values, matrices = to_float32(left.values), to_float32(right.values)
    for group, rows in enumerate(_parts(groups, num_rows, left.values.device)):
        of_columns = right.scales[group].repeat_interleave(TILE, dim=0)  # (N, K / 128)
        for tile in range(k // TILE):
            part = slice(tile * TILE, (tile + 1) * TILE)
            sums = values[rows, part] @ matrices[group, :, part].t()
            result[rows] += sums * (left.scales[rows, tile, None] * of_columns[None, :, tile])
    return result


def wgrad(left: Columns, right: Columns, groups: Tensor | Groups | None = None, out: Tensor | None = None) -> Tensor:
    """(e, N, K) in FP32, with promotion, added to `out` (which stays as it is) where that is given."""
    (n, num_tokens), (k, _) = left.values.shape, right.values.shape
    result = torch.zeros(num_groups_of(groups), n, k, device=left.values.device)
    of_left, of_right = to_float32(left.values), to_float32(right.values)
    for group, tokens in enumerate(_parts(groups, num_tokens, left.values.device, TILE)):
        for tile in range(tokens.start // TILE, tokens.stop // TILE):
            part = slice(tile * TILE, (tile + 1) * TILE)
            sums = of_left[:, part] @ of_right[:, part].t()
            result[group] += sums * (left.scales[tile, :, None] * right.scales[tile, None, :])
    return result if out is None else out + result


def exact_product(left: Rows, right: Blocks, groups: Tensor | Groups | None = None) -> Tensor:
    """fprop or dgrad of what the operands stand for: (R, N) in float64."""
    rows = _numbers(left.values, left.scales.repeat_interleave(TILE, dim=1))
    of_blocks = right.scales.repeat_interleave(TILE, dim=1).repeat_interleave(TILE, dim=2)
    matrices = _numbers(right.values, of_blocks)
    result = rows.new_zeros(len(rows), matrices.shape[1])
    for group, part in enumerate(_parts(groups, len(rows), rows.device)):
        result[part] = rows[part] @ matrices[group].t()
    return result


def exact_wgrad(
    left: Columns, right: Columns, groups: Tensor | Groups | None = None, out: Tensor | None = None
) -> Tensor:
    """wgrad of what the operands stand for: (e, N, K) in float64, added to `out` where that is given."""
    of_left, of_right = (
        _numbers(side.values, side.scales.t().repeat_interleave(TILE, dim=1)) for side in (left, right)
    )
    parts = _parts(groups, left.values.shape[1], left.values.device, TILE)
    result = torch.stack([of_left[:, part] @ of_right[:, part].t() for part in parts])
    return result if out is None else out.double() + result


def _numbers(values: Tensor, scales: Tensor) -> Tensor:
    return to_float32(values).double() * scales.double()


def _parts(groups: Tensor | Groups | None, num_rows: int, device: torch.device, multiple: int = 1) -> Iterator[slice]:
    start = 0
    for given in ends_of(groups, num_rows, device, multiple).tolist():
        end = max(start, min(given, num_rows))
        yield slice(start, end)
        start = end
