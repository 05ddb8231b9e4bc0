"""Quantising in one pass over memory, by rows, along the rows and transposed, both of one reading, and weights in blocks.

Values and scales are to the bit what `numerics.quantise` makes of the same numbers. A tile that is written transposed is taken
as four tiles of every fourth row, packed four octets to a word before words change places (`tiles.words`).
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from hwprofiles.calibration.kernels.stream_operands import (
    INDICES,
    NUMBERS,
    are_tensors,
    at_most,
    multiple,
    quantised,
    require,
    tensor,
)
from hwprofiles.calibration.kernels.tiles import Tile, as_fp32, largest_along, largest_of, octets, scale_of, words
from hwprofiles.calibration.numerics.quantise import FP8, TILE

PITCH: Final = 4
"""FP32 numbers to which a row of scales is rounded up in memory: TMA's 16 bytes."""
ROWS = Tile(8, 256, 4)
COLUMNS = Tile(128, 64, 4)
COLUMNS_OF_FP8 = Tile(128, 64, 4, side_by_side=8)
BOTH = Tile(128, 128, 4)
BLOCKS = Tile(128, 128, 8)


@triton.jit  # type: ignore[untyped-decorator]
def _rows_kernel(
    x: tl.tensor, values: tl.tensor, scales: tl.tensor, num_rows: tl.tensor, num_columns: tl.tensor, stride: tl.tensor,
    padded_columns: tl.tensor, pitch: tl.tensor, power_of_two: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """Of x (r, c): values (r, C), and scales (C / 128, r), `pitch` apart. Programs of a row of tiles are neighbours."""
    across = tl.cdiv(padded_columns, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = (tl.program_id(0) % across) * columns + tl.arange(0, columns)
    is_row = (row < num_rows)[:, None]
    is_there = is_row & (column < num_columns)[None, :]
    numbers = tl.load(x + row[:, None] * stride + column[None, :], mask=is_there, other=0).to(tl.float32)
    tiles = tl.reshape(numbers, (rows, columns // 128, 128))
    scale = scale_of(largest_along(tiles, 2), power_of_two)
    made = tl.reshape(octets(tiles, scale[:, :, None]), (rows, columns))
    is_kept = is_row & (column < padded_columns)[None, :]
    tl.store(values + row[:, None] * padded_columns + column[None, :], made, mask=is_kept)
    tile = (tl.program_id(0) % across) * (columns // 128) + tl.arange(0, columns // 128)
    is_scale = is_row & (tile < padded_columns // 128)[None, :]
    tl.store(scales + tile.to(tl.int64)[None, :] * pitch + row[:, None], scale, mask=is_scale)


@triton.jit  # type: ignore[untyped-decorator]
def _numbers(
    x: tl.tensor, x_scales: tl.tensor, source: tl.tensor, column: tl.tensor, is_column: tl.tensor, stride: tl.tensor,
    scale_row: tl.tensor, scale_tile: tl.tensor, is_fp8: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Rows `source` of x, zeros for those below 0; of FP8 with scales, times them."""
    is_there = (source >= 0)[:, None] & is_column[None, :]
    numbers = tl.load(x + source[:, None] * stride + column[None, :], mask=is_there, other=0)
    if is_fp8:
        of_row = tl.load(x_scales + source * scale_row + scale_tile, mask=source >= 0, other=0)
        return numbers.to(tl.float8e4nv, bitcast=True).to(tl.float32) * of_row[:, None]
    return numbers.to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _store_turned(
    first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor, values: tl.tensor, scales: tl.tensor,
    column: tl.tensor, tile: tl.tensor, padded_columns: tl.tensor, padded_rows: tl.tensor, power_of_two: tl.constexpr,
) -> None:  # fmt: skip
    """128 rows of `column`, as four of every fourth row, (32, c): values (C, R) and scales (R / 128, C)."""
    largest = largest_of(as_fp32(first), as_fp32(second), as_fp32(third), as_fp32(fourth))
    scale = scale_of(largest_along(largest, 0), power_of_two)
    made = words(as_fp32(first), as_fp32(second), as_fp32(third), as_fp32(fourth), scale[None, :])
    is_column, word = column < padded_columns, tile * 32 + tl.arange(0, 32)
    to = values + column.to(tl.int64)[:, None] * (padded_rows // 4) + word[None, :]
    tl.store(to, tl.trans(made), mask=is_column[:, None])
    tl.store(scales + tile.to(tl.int64) * padded_columns + column, scale, mask=is_column)


@triton.jit  # type: ignore[untyped-decorator]
def _columns_kernel(
    x: tl.tensor, x_scales: tl.tensor, sources: tl.tensor, values: tl.tensor, scales: tl.tensor, num_columns: tl.tensor,
    padded_columns: tl.tensor, padded_rows: tl.tensor, stride: tl.tensor, scale_row: tl.tensor, scale_tile: tl.tensor,
    is_fp8: tl.constexpr, power_of_two: tl.constexpr, columns: tl.constexpr, side_by_side: tl.constexpr,
) -> None:  # fmt: skip
    """Of rows x[sources] (R, c), a source below 0 being zeros: values (C, R / 4 words) and scales (R / 128, C)."""
    across = tl.cdiv(padded_columns, columns)
    tile, begin = tl.program_id(0) // across, (tl.program_id(0) % across) * columns
    row = tile.to(tl.int64) * 128 + tl.arange(0, 32) * 4
    column = tl.max_contiguous(begin + tl.arange(0, columns), side_by_side)
    is_column, of_tile = column < num_columns, (begin // 128) * scale_tile
    first = _numbers(x, x_scales, tl.load(sources + row), column, is_column, stride, scale_row, of_tile, is_fp8)
    second = _numbers(x, x_scales, tl.load(sources + row + 1), column, is_column, stride, scale_row, of_tile, is_fp8)
    third = _numbers(x, x_scales, tl.load(sources + row + 2), column, is_column, stride, scale_row, of_tile, is_fp8)
    fourth = _numbers(x, x_scales, tl.load(sources + row + 3), column, is_column, stride, scale_row, of_tile, is_fp8)
    _store_turned(first, second, third, fourth, values, scales, column, tile, padded_columns, padded_rows, power_of_two)


@triton.jit  # type: ignore[untyped-decorator]
def _store_rows(
    numbers: tl.tensor, row: tl.tensor, column: tl.tensor, values: tl.tensor, scales: tl.tensor, padded_columns: tl.tensor,
    power_of_two: tl.constexpr,
) -> None:  # fmt: skip
    """Numbers (r, 128) of a tile: octets, and scales at `scales`; nothing of rows below 0."""
    numbers = as_fp32(numbers)
    scale = scale_of(largest_along(numbers, 1), power_of_two)
    made = octets(numbers, scale[:, None])
    tl.store(values + row[:, None] * padded_columns + column[None, :], made, mask=(row >= 0)[:, None])
    tl.store(scales + row, scale, mask=row >= 0)


@triton.jit  # type: ignore[untyped-decorator]
def store_both(
    first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor, of_rows: tl.tensor, row_scales: tl.tensor,
    values: tl.tensor, scales: tl.tensor, source: tl.tensor, tile: tl.tensor, begin: tl.tensor, padded_columns: tl.tensor,
    padded_rows: tl.tensor, pitch: tl.tensor, power_of_two: tl.constexpr, side_by_side: tl.constexpr,
) -> None:  # fmt: skip
    """A tile of 128 x 128 from `begin`, as four of every fourth row: by rows to rows `source` of (r, C), and transposed.

    source points at the 128 numbers of rows.
    """
    column, fours = begin + tl.arange(0, 128), tl.arange(0, 32) * 4
    beside = tl.max_contiguous(column, side_by_side)
    row_scales += (begin // 128).to(tl.int64) * pitch
    _store_rows(first, tl.load(source + fours), beside, of_rows, row_scales, padded_columns, power_of_two)
    _store_rows(second, tl.load(source + fours + 1), beside, of_rows, row_scales, padded_columns, power_of_two)
    _store_rows(third, tl.load(source + fours + 2), beside, of_rows, row_scales, padded_columns, power_of_two)
    _store_rows(fourth, tl.load(source + fours + 3), beside, of_rows, row_scales, padded_columns, power_of_two)
    _store_turned(first, second, third, fourth, values, scales, column, tile, padded_columns, padded_rows, power_of_two)


@triton.jit  # type: ignore[untyped-decorator]
def _both_kernel(
    x: tl.tensor, sources: tl.tensor, of_rows: tl.tensor, row_scales: tl.tensor, values: tl.tensor, scales: tl.tensor,
    num_columns: tl.tensor, padded_columns: tl.tensor, padded_rows: tl.tensor, stride: tl.tensor, pitch: tl.tensor,
    power_of_two: tl.constexpr, side_by_side: tl.constexpr,
) -> None:  # fmt: skip
    """Of x (r, c): by rows (r, C), and of x[sources] transposed (C, R / 4 words)."""
    across = padded_columns // 128
    tile, begin = tl.program_id(0) // across, (tl.program_id(0) % across) * 128
    source = sources + tile.to(tl.int64) * 128
    fours, column = tl.arange(0, 32) * 4, tl.max_contiguous(begin + tl.arange(0, 128), side_by_side)
    is_column = column < num_columns
    first = _numbers(x, x, tl.load(source + fours), column, is_column, stride, 0, 0, False)
    second = _numbers(x, x, tl.load(source + fours + 1), column, is_column, stride, 0, 0, False)
    third = _numbers(x, x, tl.load(source + fours + 2), column, is_column, stride, 0, 0, False)
    fourth = _numbers(x, x, tl.load(source + fours + 3), column, is_column, stride, 0, 0, False)
    store_both(
        first, second, third, fourth, of_rows, row_scales, values, scales, source, tile, begin, padded_columns, padded_rows,
        pitch, power_of_two, side_by_side,
    )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _quarter(
    x: tl.tensor, row: tl.tensor, column: tl.tensor, num_rows: tl.tensor, num_columns: tl.tensor, stride: tl.tensor
) -> tl.tensor:
    is_there = (row < num_rows)[:, None] & (column < num_columns)[None, :]
    return tl.load(x + row.to(tl.int64)[:, None] * stride + column[None, :], mask=is_there, other=0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _blocks_kernel(
    x: tl.tensor, values: tl.tensor, turned: tl.tensor, scales: tl.tensor, num_rows: tl.tensor, num_columns: tl.tensor,
    matrix_stride: tl.tensor, stride: tl.tensor, padded_rows: tl.tensor, padded_columns: tl.tensor,
    with_turned: tl.constexpr, power_of_two: tl.constexpr,
) -> None:  # fmt: skip
    """Of x (e, n, k): values (e, N, K), the same transposed (e, K, N / 4 words), scales (e, N / 128, K / 128)."""
    across, down = padded_columns // 128, padded_rows // 128
    begin_column, begin_row = (tl.program_id(0) % across) * 128, (tl.program_id(0) // across % down) * 128
    matrix = (tl.program_id(0) // (across * down)).to(tl.int64)
    row, column = begin_row + tl.arange(0, 32) * 4, begin_column + tl.arange(0, 128)
    x += matrix * matrix_stride
    first = _quarter(x, row, column, num_rows, num_columns, stride)
    second = _quarter(x, row + 1, column, num_rows, num_columns, stride)
    third = _quarter(x, row + 2, column, num_rows, num_columns, stride)
    fourth = _quarter(x, row + 3, column, num_rows, num_columns, stride)
    scale = scale_of(tl.max(largest_along(largest_of(first, second, third, fourth), 1), 0), power_of_two)
    tl.store(scales + tl.program_id(0), scale)
    scale = scale + tl.zeros((1, 1), tl.float32)
    to = values + (matrix * padded_rows + row)[:, None] * padded_columns + column[None, :]
    tl.store(to, octets(first, scale))
    tl.store(to + padded_columns, octets(second, scale))
    tl.store(to + 2 * padded_columns, octets(third, scale))
    tl.store(to + 3 * padded_columns, octets(fourth, scale))
    if with_turned:
        word = begin_row // 4 + tl.arange(0, 32)
        to = turned + (matrix * padded_columns + column)[:, None] * (padded_rows // 4) + word[None, :]
        tl.store(to, tl.trans(words(first, second, third, fourth, scale)))


def quantise_rows(x: Tensor, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """Tiles 1x128 of x (r, c): values (r, C), C the multiple of 128 above c, and scales (r, C / 128), rows innermost.

    Scales have strides (1, pitch), the pitch a multiple of 4.
    Raises CalibrationError, as all these, for operands that do not fit.
    """
    are_tensors({}, x=x)
    require(tensor("x", x, NUMBERS, (None, None)))
    x = x if x.stride(1) == 1 else x.contiguous()
    num_rows, num_columns = x.shape
    values, scales = row_outputs(num_rows, num_columns, x.device)
    if num_rows:
        across = triton.cdiv(values.shape[1], ROWS.columns)
        with torch.cuda.device_of(x):
            _rows_kernel[(triton.cdiv(num_rows, ROWS.rows) * across,)](
                x, values.view(torch.uint8), scales, num_rows, num_columns, x.stride(0), values.shape[1], scales.stride(1),
                power_of_two=power_of_two, rows=ROWS.rows, columns=ROWS.columns, num_warps=ROWS.warps,
            )  # fmt: skip
    return values, scales


def quantise_columns(
    x: Tensor, scales: Tensor | None, num_columns: int, sources: Tensor, aligned: int, *, power_of_two: bool = False
) -> tuple[Tensor, Tensor]:
    """Tiles of 128 rows of x[sources] (R, num_columns), transposed: values (C, R) and scales (R / 128, C).

    x: BF16 or FP32, or FP8 with `scales` of tiles 1x128; sources: int64, below 0 for a row of zeros; R a multiple of 128; C the
    multiple of `aligned` above num_columns.
    """
    are_tensors({"scales": scales}, x=x, sources=sources)
    require(
        tensor("x", x, NUMBERS, (None, None)) if scales is None else quantised(x, scales),
        tensor("sources", sources, INDICES, (None,), x), multiple("sources", "a number", len(sources)),
        at_most("num_columns", num_columns, "x's columns", x.shape[-1]),
    )  # fmt: skip
    values, of_values = turned_outputs(num_columns + -num_columns % aligned, len(sources), x.device)
    padded_columns, padded_rows = values.shape
    if padded_rows:
        is_fp8 = scales is not None
        of = COLUMNS_OF_FP8 if is_fp8 else COLUMNS
        x = x.view(torch.uint8) if is_fp8 else x if x.stride(1) == 1 else x.contiguous()
        strides = (0, 0) if scales is None else scales.stride()
        with torch.cuda.device_of(x):
            _columns_kernel[(padded_rows // TILE * triton.cdiv(padded_columns, of.columns),)](
                x, of_values if scales is None else scales, sources.contiguous(), values.view(torch.int32), of_values,
                num_columns, padded_columns, padded_rows, x.stride(0), *strides,
                is_fp8=is_fp8, power_of_two=power_of_two, columns=of.columns,
                side_by_side=of.side_by_side, num_warps=of.warps, maxnreg=of.registers,
            )  # fmt: skip
    return values, of_values


def quantise_both(
    x: Tensor, sources: Tensor, aligned: int = TILE, *, power_of_two: bool = False
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of one reading of x (r, c): `quantise_rows(x)`, and `quantise_columns` of x[sources], as views of all whole tiles.

    sources: as there, with every row of x once.
    """
    are_tensors({}, x=x, sources=sources)
    require(
        tensor("x", x, NUMBERS, (None, None)),
        tensor("sources", sources, INDICES, (None,), x), multiple("sources", "a number", len(sources)),
    )  # fmt: skip
    x = x if x.stride(1) == 1 else x.contiguous()
    num_rows, num_columns = x.shape
    values, scales = row_outputs(num_rows, num_columns, x.device)
    turned, turned_scales = turned_outputs(values.shape[1], len(sources), x.device)
    if len(sources):
        with torch.cuda.device_of(x):
            _both_kernel[(len(sources) // TILE * (values.shape[1] // TILE),)](
                x, sources.contiguous(), values.view(torch.uint8), scales, turned.view(torch.int32), turned_scales, num_columns,
                values.shape[1], len(sources), x.stride(0), scales.stride(1),
                power_of_two=power_of_two, side_by_side=BOTH.side_by_side, num_warps=BOTH.warps, maxnreg=BOTH.registers,
            )  # fmt: skip
    kept = num_columns + -num_columns % aligned
    return (values, scales), (turned[:kept], turned_scales[:, :kept])


def quantise_blocks(
    x: Tensor, *, with_turned: bool = True, power_of_two: bool = False
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Blocks of 128x128 of x (e, n, k): values (e, N, K), the same transposed (e, K, N), scales (e, N / 128, K / 128)."""
    are_tensors({}, x=x)
    require(tensor("x", x, NUMBERS, (None, None, None)))
    x = x if x.stride(2) == 1 else x.contiguous()
    num, down, across = len(x), triton.cdiv(x.shape[1], TILE), triton.cdiv(x.shape[2], TILE)
    values = torch.empty(num, down * TILE, across * TILE, dtype=FP8, device=x.device)
    turned = torch.empty(num, across * TILE, down * TILE, dtype=FP8, device=x.device) if with_turned else None
    scales = torch.empty(num, down, across, device=x.device)
    if values.numel():
        with torch.cuda.device_of(x):
            _blocks_kernel[(num * down * across,)](
                x, values.view(torch.uint8), (values if turned is None else turned).view(torch.int32), scales,
                *x.shape[1:], x.stride(0), x.stride(1), down * TILE, across * TILE,
                with_turned=with_turned, power_of_two=power_of_two, num_warps=BLOCKS.warps,
            )  # fmt: skip
    return values, turned, scales


def row_outputs(num_rows: int, num_columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Memory for tiles 1x128 of (r, c): values (r, C), and scales (r, C / 128) of strides (1, pitch), a multiple of 4."""
    num_tiles = triton.cdiv(num_columns, TILE)
    values = torch.empty(num_rows, num_tiles * TILE, dtype=FP8, device=device)
    pitch = num_rows + -num_rows % PITCH
    return values, torch.empty(num_tiles, pitch, device=device)[:, :num_rows].t()


def turned_outputs(num_columns: int, num_rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Memory for tiles of 128 rows of (r, c), transposed: values (c, r) and scales (r / 128, c)."""
    values = torch.empty(num_columns, num_rows, dtype=FP8, device=device)
    return values, torch.empty(num_rows // TILE, num_columns, device=device)
