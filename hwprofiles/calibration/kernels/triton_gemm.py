"""fprop and dgrad in Triton: a persistent grid, operands by the copy engine (TMA), all groups in one launch.

A program takes tiles of the result in turn. Which group a tile is of, it finds among all groups' numbers of tiles at once, by
comparing and summing. Operands of rows behind a group's end are of the next group: they are multiplied and not written.
(Annotations of a kernel are names that Triton knows: it refuses others.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from hwprofiles.calibration.kernels.operands import Blocks, Rows
from hwprofiles.calibration.numerics.quantise import TILE


@dataclass(frozen=True)
class Tuned:
    """Of a class of shapes: rows and columns of a tile, warps, operand tiles under way, programs an SM, registers a thread.

    columns: of fprop and dgrad a part of 128, so that a tile has one scale of the blocks. rows_together: so many rows of tiles
    are gone through column by column, and share what they read in the level-2 cache.
    """

    rows: int = 64
    columns: int = 128
    warps: int = 4
    stages: int = 3
    programs: int = 2
    registers: int | None = None
    rows_together: int = 8


TUNED: Final = ((2048, Tuned(rows_together=32)), (8192, Tuned(rows_together=16)))
"""By the largest K, else Tuned(): of 11 tiles one was fastest on an H100 (docs/kernels.md), in another order by K."""


@triton.jit  # type: ignore[untyped-decorator]
def larger(left: tl.tensor, right: tl.tensor) -> tl.tensor:
    return tl.maximum(left, right)


@triton.jit  # type: ignore[untyped-decorator]
def group_rows(
    ends: tl.tensor, num_rows: tl.tensor, num_groups: tl.tensor, padded_groups: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """First row and end of each group, held into the rows that there are; groups up to the next power of two are empty."""
    group = tl.arange(0, padded_groups)
    end = tl.load(ends + group, mask=group < num_groups, other=0)
    start = tl.load(ends + group - 1, mask=(group > 0) & (group <= num_groups), other=0)
    end, start = tl.minimum(tl.maximum(end, 0), num_rows), tl.minimum(tl.maximum(start, 0), num_rows)
    return tl.associative_scan(start, 0, larger), tl.associative_scan(end, 0, larger)


@triton.jit  # type: ignore[untyped-decorator]
def place(
    tile: tl.tensor, num_row_tiles: tl.tensor, num_column_tiles: tl.tensor, rows_together: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Row and column of a group's tile: `rows_together` rows of tiles at a time, within them column by column."""
    in_strip = rows_together * num_column_tiles
    first = tile // in_strip * rows_together
    height = tl.minimum(num_row_tiles - first, rows_together)
    return first + tile % in_strip % height, tile % in_strip // height


@triton.jit  # type: ignore[untyped-decorator]
def _gemm_kernel(
    left: tl.tensor, right: tl.tensor, out_tiles: tl.tensor, left_scales: tl.tensor, right_scales: tl.tensor,
    out: tl.tensor, ends: tl.tensor, num_rows: tl.tensor, n: tl.tensor, k: tl.tensor, scale_pitch: tl.tensor,
    out_pitch: tl.tensor, num_groups: tl.tensor, padded_groups: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr, tile_k: tl.constexpr, rows_together: tl.constexpr,
) -> None:  # fmt: skip
    """left, right, out_tiles: tiles of (R, K), (e N, K), (R, N), fetched and stored by the copy engine."""
    starts, stops = group_rows(ends, num_rows, num_groups, padded_groups)
    column_tiles = tl.cdiv(n, columns)
    row_tiles = tl.cdiv(stops - starts, rows)
    behind = tl.cumsum(row_tiles, 0) * column_tiles  # of each group: its tiles and those of all before it
    k_tiles = k // tile_k
    for tile in tl.range(tl.program_id(0), tl.sum(row_tiles) * column_tiles, tl.num_programs(0)):
        is_before = behind <= tile
        group = tl.sum(is_before.to(tl.int32))
        is_group = tl.arange(0, padded_groups) == group
        start, stop = tl.sum(tl.where(is_group, starts, 0)), tl.sum(tl.where(is_group, stops, 0))
        within = tile - tl.max(tl.where(is_before, behind, 0))
        row_tile, column_tile = place(within, tl.cdiv(stop - start, rows), column_tiles, rows_together)
        first_row, first_column = start + row_tile * rows, column_tile * columns
        row = first_row + tl.arange(0, rows)
        of_rows = left_scales + row
        of_columns = right_scales + (group * (n // tile_k) + first_column // tile_k).to(tl.int64) * k_tiles
        # A step ahead, and multiplied only in the next step: a product made here would wait for both loads.
        next_of_row, next_of_columns = tl.load(of_rows, mask=row < stop, other=0), tl.load(of_columns)
        result = tl.zeros((rows, columns), tl.float32)
        for at in tl.range(0, k_tiles):
            scale = next_of_row * next_of_columns
            is_more = at + 1 < k_tiles
            of_rows += scale_pitch
            of_columns += 1
            next_of_row = tl.load(of_rows, mask=(row < stop) & is_more, other=0)
            next_of_columns = tl.load(of_columns, mask=is_more, other=0)
            a = left.load([first_row, at * tile_k])
            b = right.load([group * n + first_column, at * tile_k])
            result += tl.dot(a, b.T) * scale[:, None]
        made = result.to(out.dtype.element_ty)
        if first_row + rows <= stop:
            out_tiles.store([first_row, first_column], made)
        else:
            column = first_column + tl.arange(0, columns)
            places = out + row.to(tl.int64)[:, None] * out_pitch + column[None, :]
            tl.store(places, made, mask=(row < stop)[:, None])


def tuned_for(k: int) -> Tuned:
    return next((tuned for largest, tuned in TUNED if k <= largest), Tuned())


def product(left: Rows, right: Blocks, ends: Tensor, out: Tensor, num_sms: int, tuned: Tuned | None = None) -> None:
    """Writes rows of each group times its matrix transposed into out (R, N)."""
    tuned = tuned or tuned_for(right.values.shape[2])
    (num_groups, n, k), num_rows = right.values.shape, len(left.values)
    matrices = right.values.view(num_groups * n, k)
    tiles = triton.cdiv(num_rows, tuned.rows) + num_groups
    options: dict[str, Any] = {} if tuned.registers is None else {"maxnreg": tuned.registers}
    with torch.cuda.device_of(out):
        _gemm_kernel[(min(num_sms * tuned.programs, tiles * triton.cdiv(n, tuned.columns)),)](
            tiles_of(left.values, tuned.rows, TILE), tiles_of(matrices, tuned.columns, TILE),
            tiles_of(out, tuned.rows, tuned.columns), left.scales, right.scales, out, ends, num_rows, n, k,
            left.scales.stride(1), out.stride(0), num_groups, triton.next_power_of_2(num_groups), tuned.rows,
            tuned.columns, TILE, tuned.rows_together, num_warps=tuned.warps, num_stages=tuned.stages, **options,
        )  # fmt: skip


def tiles_of(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    pitch = matrix.stride(0) if len(matrix) > 1 else matrix.shape[1]
    return TensorDescriptor(matrix, list(matrix.shape), [pitch, 1], [rows, columns])
