"""Quantising on a GPU in one pass: Triton kernels, to the bit what `quantise` makes of the same numbers.

A number is read once and written once in FP8; for wgrad it is written transposed. Only `fused_kernels` imports this:
Triton is not everywhere. (Annotations of a kernel are names that Triton knows: it refuses others.)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hwprofiles.calibration.numerics.quantise import FP8, TILE

ROWS, COLUMNS = 16, 64
"""Rows, and columns, of one program."""


@triton.jit  # type: ignore[untyped-decorator]
def _scale(largest: tl.tensor, num_nan: tl.tensor, power_of_two: tl.constexpr) -> tl.tensor:
    """As `quantise.scale_of`; the maximum of a tile does not tell that a number is NaN, the count does."""
    scale = tl.maximum(tl.div_rn(largest, tl.zeros_like(largest) + 448.0), 1.1754943508222875e-38)
    if power_of_two:
        bits = scale.to(tl.int32, bitcast=True)
        rounded_up = ((bits + 0x007FFFFF) & 0x7F800000).to(tl.float32, bitcast=True)
        scale = tl.where(scale < float("inf"), rounded_up, scale)
    return tl.where(num_nan > 0, float("nan"), scale)


@triton.jit  # type: ignore[untyped-decorator]
def _octets(quotients: tl.tensor) -> tl.tensor:
    """The nearest of E4M3, as by `quantise.nearest_fp8_`: the conversion has nothing left to round, whatever way it goes."""
    powers = (quotients.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    shifts = tl.maximum(powers, 0.015625) * 1572864.0  # 2^-6; 1.5 x 2^(23 - 3)
    return ((quotients + shifts) - shifts).to(tl.float8e4nv).to(tl.uint8, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator]
def _rows_kernel(
    x: tl.tensor, values: tl.tensor, scales: tl.tensor, num_rows: tl.tensor, num_columns: tl.tensor, stride: tl.tensor,
    padded_columns: tl.tensor, power_of_two: tl.constexpr, rows: tl.constexpr, tile: tl.constexpr,
) -> None:  # fmt: skip
    """Of x (r, c): values (r, C) and scales, a tile after another, (C / 128, r). A program has `rows` of one tile."""
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * tile + tl.arange(0, tile)
    is_row = (row < num_rows)[:, None]
    numbers = tl.load(
        x + row[:, None] * stride + column[None, :], mask=is_row & (column < num_columns)[None, :], other=0
    )
    numbers = numbers.to(tl.float32)
    scale = _scale(tl.max(tl.abs(numbers), 1), tl.sum((numbers != numbers).to(tl.int32), 1), power_of_two)
    quotients = tl.div_rn(numbers, tl.zeros_like(numbers) + scale[:, None])
    octets = _octets(quotients)
    tl.store(values + row[:, None] * padded_columns + column[None, :], octets, mask=is_row)
    tl.store(scales + tl.program_id(1).to(tl.int64) * num_rows + row, scale, mask=row < num_rows)


@triton.jit  # type: ignore[untyped-decorator]
def _columns_kernel(
    x: tl.tensor, x_scales: tl.tensor, sources: tl.tensor, values: tl.tensor, scales: tl.tensor, num_columns: tl.tensor,
    padded_columns: tl.tensor, padded_rows: tl.tensor, stride: tl.tensor, scale_row: tl.tensor, scale_tile: tl.tensor,
    is_fp8: tl.constexpr, power_of_two: tl.constexpr, columns: tl.constexpr, tile: tl.constexpr,
) -> None:  # fmt: skip
    """Of rows x[sources] (R, c), a source below 0 being zeros: values (C, R) and scales (R / 128, C).

    is_fp8: x is FP8 with x_scales (row, column / 128). A program has `columns` of one tile of 128 rows.
    """
    row = tl.program_id(0).to(tl.int64) * tile + tl.arange(0, tile)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    source = tl.load(sources + row)
    is_there = (source >= 0)[:, None] & (column < num_columns)[None, :]
    numbers = tl.load(x + source[:, None] * stride + column[None, :], mask=is_there, other=0)
    if is_fp8:
        of_row = tl.load(
            x_scales + source * scale_row + (tl.program_id(1) * columns // tile) * scale_tile, mask=source >= 0, other=0
        )
        numbers = numbers.to(tl.float8e4nv, bitcast=True).to(tl.float32) * of_row[:, None]
        numbers = tl.where(is_there, numbers, 0.0)
    else:
        numbers = numbers.to(tl.float32)
    scale = _scale(tl.max(tl.abs(numbers), 0), tl.sum((numbers != numbers).to(tl.int32), 0), power_of_two)
    quotients = tl.div_rn(numbers, tl.zeros_like(numbers) + scale[None, :])
    octets = tl.trans(_octets(quotients))
    is_column = column < padded_columns
    tl.store(values + column.to(tl.int64)[:, None] * padded_rows + row[None, :], octets, mask=is_column[:, None])
    tl.store(scales + tl.program_id(0).to(tl.int64) * padded_columns + column, scale, mask=is_column)


def quantise_rows(x: Tensor, *, power_of_two: bool) -> tuple[Tensor, Tensor]:
    """Tiles 1x128 of x (r, c): values (r, C), C the multiple of 128 above c, and scales (r, C / 128), rows innermost."""
    num_rows, num_columns = x.shape
    num_tiles = triton.cdiv(num_columns, TILE)
    values = torch.empty(num_rows, num_tiles * TILE, dtype=FP8, device=x.device)
    scales = torch.empty(num_tiles, num_rows, device=x.device)
    if num_rows:
        x = x if x.stride(1) == 1 else x.contiguous()
        with torch.cuda.device_of(x):
            _rows_kernel[(triton.cdiv(num_rows, ROWS), num_tiles)](
                x, values.view(torch.uint8), scales, num_rows, num_columns, x.stride(0), num_tiles * TILE,
                power_of_two=power_of_two, rows=ROWS, tile=TILE,
            )  # fmt: skip
    return values, scales.t()


def quantise_columns(
    x: Tensor, scales: Tensor | None, num_columns: int, sources: Tensor, aligned: int, *, power_of_two: bool
) -> tuple[Tensor, Tensor]:
    """Tiles of 128 rows of x[sources] (R, num_columns), transposed: values (C, R) and scales (R / 128, C).

    x: BF16 or FP32, or FP8 with `scales` of tiles 1x128; sources: int64, below 0 for a row of zeros; R a multiple of 128; C the
    multiple of `aligned` above num_columns.
    """
    padded_columns, padded_rows = num_columns + -num_columns % aligned, len(sources)
    values = torch.empty(padded_columns, padded_rows, dtype=FP8, device=x.device)
    of_values = torch.empty(padded_rows // TILE, padded_columns, device=x.device)
    if padded_rows:
        is_fp8 = scales is not None
        x = x.view(torch.uint8) if is_fp8 else x if x.stride(1) == 1 else x.contiguous()
        scale_strides = (0, 0) if scales is None else scales.stride()
        with torch.cuda.device_of(x):
            _columns_kernel[(padded_rows // TILE, triton.cdiv(padded_columns, COLUMNS))](
                x, of_values if scales is None else scales, sources, values.view(torch.uint8), of_values, num_columns,
                padded_columns, padded_rows, x.stride(0), *scale_strides,
                is_fp8=is_fp8, power_of_two=power_of_two, columns=COLUMNS, tile=TILE,
            )  # fmt: skip
    return values, of_values
