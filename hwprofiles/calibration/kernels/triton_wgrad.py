"""wgrad in Triton: of each group's tokens left (N, P) times right (K, P) transposed, in FP32, written or added.

A persistent grid: all groups have the same tiles of results, one behind another, and differ in how many tokens they sum.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from hwprofiles.calibration.kernels.operands import Columns
from hwprofiles.calibration.kernels.triton_gemm import Tuned, place, tiles_of
from hwprofiles.calibration.numerics.quantise import TILE

DEFAULT: Final = Tuned(stages=4, rows_together=16)


@triton.jit  # type: ignore[untyped-decorator]
def _tokens(
    ends: tl.tensor, group: tl.tensor, num_tokens: tl.tensor, tile: tl.constexpr, padded_groups: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """First token and end of a group, held into the tokens that there are, in tiles; and whether these are whole.

    A group begins behind all before it, so that no token is in two of them whatever the ends are.
    """
    before = tl.arange(0, padded_groups)
    start = tl.max(tl.load(ends + before, mask=before < group, other=0), 0)
    start = tl.minimum(tl.maximum(start, 0), num_tokens)
    stop = tl.maximum(tl.minimum(tl.load(ends + group), num_tokens), start)
    return start // tile, stop // tile, (start | stop) % tile == 0


@triton.jit  # type: ignore[untyped-decorator]
def _wgrad_kernel(
    left: tl.tensor, right: tl.tensor, left_scales: tl.tensor, right_scales: tl.tensor, out: tl.tensor,
    ends: tl.tensor, num_tokens: tl.tensor, n: tl.tensor, k: tl.tensor, left_pitch: tl.tensor,
    right_pitch: tl.tensor, num_groups: tl.tensor, accumulate: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr, tile_tokens: tl.constexpr, rows_together: tl.constexpr, padded_groups: tl.constexpr,
) -> None:  # fmt: skip
    """left, right: tiles of (N, P) and (K, P), fetched by the copy engine; scales (P / 128, N) and (P / 128, K)."""
    row_tiles, column_tiles = tl.cdiv(n, rows), tl.cdiv(k, columns)
    of_group = row_tiles * column_tiles
    for tile in tl.range(tl.program_id(0), num_groups * of_group, tl.num_programs(0)):
        group = tile // of_group
        row_tile, column_tile = place(tile % of_group, row_tiles, column_tiles, rows_together)
        first_row, first_column = row_tile * rows, column_tile * columns
        start, stop, is_whole = _tokens(ends, group, num_tokens, tile_tokens, padded_groups)
        row, column = first_row + tl.arange(0, rows), first_column + tl.arange(0, columns)
        of_rows = left_scales + start.to(tl.int64) * left_pitch + row
        of_columns = right_scales + start.to(tl.int64) * right_pitch + column
        is_row, is_column = row < n, column < k
        next_of_row = tl.load(of_rows, mask=is_row & (start < stop), other=0)
        next_of_column = tl.load(of_columns, mask=is_column & (start < stop), other=0)
        result = tl.zeros((rows, columns), tl.float32)
        for at in tl.range(start, stop):
            of_row, of_column = next_of_row, next_of_column
            of_rows += left_pitch
            of_columns += right_pitch
            is_more = at + 1 < stop
            next_of_row = tl.load(of_rows, mask=is_row & is_more, other=0)
            next_of_column = tl.load(of_columns, mask=is_column & is_more, other=0)
            a = left.load([first_row, at * tile_tokens])
            b = right.load([first_column, at * tile_tokens])
            result += tl.dot(a, b.T) * of_row[:, None] * of_column[None, :]
        # A group whose ends are no multiples of a tile has no product, and says so.
        result = tl.where(is_whole, result, float("nan"))
        places = out + (group * n + row).to(tl.int64)[:, None] * k + column[None, :]
        is_inside = is_row[:, None] & is_column[None, :]
        if accumulate:
            result += tl.load(places, mask=is_inside, other=0)
        tl.store(places, result, mask=is_inside)


def wgrad(
    left: Columns,
    right: Columns,
    ends: Tensor,
    out: Tensor,
    accumulate: bool,
    num_sms: int,
    tuned: Tuned | None = None,
) -> None:
    """Writes into out (e, N, K), or adds to it, each group's product."""
    tuned = tuned or DEFAULT
    num_groups, n, k = out.shape
    num_tokens = left.values.shape[1]
    if not num_tokens:
        out.zero_()
        return
    options: dict[str, Any] = {} if tuned.registers is None else {"maxnreg": tuned.registers}
    tiles = num_groups * triton.cdiv(n, tuned.rows) * triton.cdiv(k, tuned.columns)
    with torch.cuda.device_of(out):
        _wgrad_kernel[(min(num_sms * tuned.programs, tiles),)](
            tiles_of(left.values, tuned.rows, TILE), tiles_of(right.values, tuned.columns, TILE), left.scales,
            right.scales, out, ends, num_tokens, n, k, left.scales.stride(0), right.scales.stride(0), num_groups,
            accumulate, tuned.rows, tuned.columns, TILE, tuned.rows_together, triton.next_power_of_2(num_groups),
            num_warps=tuned.warps, num_stages=tuned.stages, **options,
        )  # fmt: skip
