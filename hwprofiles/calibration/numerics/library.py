"""FP8 products of the library, torch.nn.functional.scaled_mm and torch._scaled_grouped_mm, and what they want of operands.

Both operands lie with the summed dimension innermost. cuBLAS takes block-wise scales on compute capability 9.0 alone: of tiles
1x128 as (rows, k / 128) with the rows innermost, rows a multiple of 4; of blocks 128x128 as (k / 128, n / 128) with k innermost
and padded to a multiple of 4. A block-wise grouped product does not exist there: one launch an expert.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8, TILE
from hwprofiles.problem import Problem

Probe = Callable[[torch.device], None]
"""The smallest products of a recipe on a device; raises RuntimeError where that has them not."""
ALIGNED: Final = 16
"""Bytes, and so FP8 numbers, to which rows of operands are aligned; also rows of a group where they are summed over."""
SCALE_ALIGNED: Final = 4
"""FP32 numbers to which rows of scales are aligned."""


def tiles_by_blocks(left: Tensor, left_scales: Tensor, right: Tensor, right_scales: Tensor) -> Tensor:
    """left (m, K) in tiles 1x128 times right (N, K) in blocks transposed: (m, N) in BF16; m a multiple of 4.

    left_scales (m, K / 128), any strides; right_scales (N / 128, K / 128 rounded up to 4), contiguous.
    """
    kinds = functional.ScalingType
    return _scaled_mm(
        left, right, rows_innermost(left_scales), kinds.BlockWise1x128, right_scales.t(), kinds.BlockWise128x128,
        torch.bfloat16,
    )  # fmt: skip


def tiles_by_tiles(left: Tensor, left_scales: Tensor, right: Tensor, right_scales: Tensor) -> Tensor:
    """left (n, M) times right (k, M) transposed, both in tiles 1x128: (n, k) in FP32; n and k multiples of 16.

    Both may be columns of wider matrices whose rows are aligned to 16.

    Scales (n, M / 128) and (k, M / 128), rows innermost.
    """
    kind = functional.ScalingType.BlockWise1x128
    return _scaled_mm(left, right, left_scales, kind, right_scales, kind, torch.float32)


def rows_by_rows(left: Tensor, left_scales: Tensor, right: Tensor, right_scales: Tensor) -> Tensor:
    """left (m, k) times right (n, k) transposed, a scale a row of each, (m,) and (n,): (m, n) in BF16."""
    kind = functional.ScalingType.RowWise
    scales = left_scales.unsqueeze(1).contiguous(), right_scales.unsqueeze(0).contiguous()
    return _scaled_mm(left, right, scales[0], kind, scales[1], kind, torch.bfloat16)


def grouped_rows(left: Tensor, left_scales: Tensor, right: Tensor, right_scales: Tensor, groups: Groups) -> Tensor:
    """left (r, k), sorted by group, times right (e, n, k) of its group transposed: (r, n) in BF16. Scales (r,) and (e, n)."""
    ends = groups.ends(left.device)
    result: Tensor = torch._scaled_grouped_mm(
        left, right.transpose(1, 2), left_scales.contiguous(), right_scales.contiguous(), ends, out_dtype=torch.bfloat16
    )
    return result


def grouped_columns(left: Tensor, left_scales: Tensor, right: Tensor, right_scales: Tensor, groups: Groups) -> Tensor:
    """Of each group, left (n, r) times right (k, r) transposed: (e, n, k) in BF16. Scales (e, n) and (e, k).

    groups: multiples of 16 rows, none of them 0 (what a group without rows would get is not said).
    """
    ends = groups.ends(left.device)
    result: Tensor = torch._scaled_grouped_mm(
        left, right.t(), left_scales.flatten(), right_scales.flatten(), ends, out_dtype=torch.bfloat16
    )
    return result


def rows_innermost(scales: Tensor) -> Tensor:
    """The same numbers (r, c) with strides (1, r)."""
    rows, columns = scales.shape
    if scales.stride() == (1, rows):
        return scales
    return torch.empty_strided((rows, columns), (1, rows), dtype=scales.dtype, device=scales.device).copy_(scales)


def require(recipe: str, device: torch.device, probe: Probe) -> None:
    """Raises CalibrationError where the device, or the installed torch, has not the products that `probe` runs."""
    if why := reason_against(device, probe):
        raise CalibrationError([Problem(
            "", "gemms", f"'library': {device.type} has no FP8 products for recipe {recipe!r} with torch {torch.__version__} "
            f"({why}); use 'emulated', or 'auto', which takes what there is",
        )])  # fmt: skip


@cache
def reason_against(device: torch.device, probe: Probe) -> str:
    """Why the device cannot run `probe`'s products; empty where it can."""
    if device.type != "cuda":
        return "needs a CUDA GPU"
    if not torch.cuda.is_available():
        return "this torch sees no CUDA GPU"
    if not (hasattr(functional, "scaled_mm") and hasattr(functional, "ScalingType")):
        return "torch.nn.functional.scaled_mm is missing; torch 2.11 has it"
    try:
        probe(device)
    except (RuntimeError, ValueError, AttributeError) as error:
        major, minor = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}: {str(error).splitlines()[0]}"
    return ""


def probe_block_wise(device: torch.device) -> None:
    """The smallest products of the recipe fp8-blockwise."""
    values, scales = _ones(device, TILE, TILE), torch.ones(TILE, 1, device=device)
    tiles_by_blocks(values, scales, values, torch.ones(1, SCALE_ALIGNED, device=device))
    tiles_by_tiles(values, rows_innermost(scales), values, rows_innermost(scales))


def probe_row_wise(device: torch.device) -> None:
    """The smallest products of the recipe fp8-row."""
    values, scales = _ones(device, ALIGNED, ALIGNED), torch.ones(ALIGNED, device=device)
    rows_by_rows(values, scales, values, scales)
    grouped_rows(values, scales, values.unsqueeze(0), scales.unsqueeze(0), Groups((ALIGNED,)))
    grouped_columns(values, scales.unsqueeze(0), values, scales.unsqueeze(0), Groups((ALIGNED,)))


def _ones(device: torch.device, *shape: int) -> Tensor:
    return torch.ones(shape, device=device).to(FP8)


def _scaled_mm(
    left: Tensor,
    right: Tensor,
    left_scales: Tensor,
    left_kind: Any,
    right_scales: Tensor,
    right_kind: Any,
    dtype: torch.dtype,
) -> Tensor:
    """left (m, k) times right (n, k) transposed: (m, n) in dtype."""
    result: Tensor = functional.scaled_mm(
        left, right.t(), left_scales, left_kind, right_scales, right_kind, output_dtype=dtype
    )
    return result
