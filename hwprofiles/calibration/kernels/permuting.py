"""Rows from tokens to experts and back: copied to their places, quantised on the way, and summed up by token.

places (t, k) int64: where in the experts' order each of a token's k rows stands; below 0: on no expert of this process. A
token is read once, whatever k; each row of the experts' order has one token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hwprofiles.calibration.kernels.stream_operands import (
    BF16,
    FP32,
    INDICES,
    NUMBERS,
    are_tensors,
    quantised,
    require,
    tensor,
)
from hwprofiles.calibration.kernels.streams import row_outputs
from hwprofiles.calibration.kernels.tiles import Tile, largest_along, nearest_bf16, octets, scale_of

QUANTISE = Tile(2, 1024, 4)
COPY = Tile(2, 1024, 4)
SUM = Tile(1, 1024, 2)
SUM_BACKWARD = Tile(1, 1024, 4)


@triton.jit  # type: ignore[untyped-decorator]
def _quantise_kernel(
    x: tl.tensor, places: tl.tensor, values: tl.tensor, scales: tl.tensor, num_tokens: tl.tensor, num_columns: tl.tensor,
    stride: tl.tensor, padded_columns: tl.tensor, pitch: tl.tensor, top_k: tl.constexpr, power_of_two: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """Of x (t, c): values (r, C), and scales (C / 128, r), `pitch` apart."""
    across = tl.cdiv(padded_columns, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = (tl.program_id(0) % across) * columns + tl.arange(0, columns)
    is_there = (row < num_tokens)[:, None] & (column < num_columns)[None, :]
    numbers = tl.load(x + row[:, None] * stride + column[None, :], mask=is_there, other=0).to(tl.float32)
    tiles = tl.reshape(numbers, (rows, columns // 128, 128))
    scale = scale_of(largest_along(tiles, 2), power_of_two)
    made = tl.reshape(octets(tiles, scale[:, :, None]), (rows, columns))
    tile = (tl.program_id(0) % across) * (columns // 128) + tl.arange(0, columns // 128)
    for idx in tl.static_range(top_k):
        place = tl.load(places + row * top_k + idx, mask=row < num_tokens, other=-1)
        is_kept = (place >= 0)[:, None] & (column < padded_columns)[None, :]
        tl.store(values + place[:, None] * padded_columns + column[None, :], made, mask=is_kept)
        is_scale = (place >= 0)[:, None] & (tile < padded_columns // 128)[None, :]
        tl.store(scales + tile.to(tl.int64)[None, :] * pitch + place[:, None], scale, mask=is_scale)


@triton.jit  # type: ignore[untyped-decorator]
def _copy_kernel(
    x: tl.tensor, x_scales: tl.tensor, places: tl.tensor, values: tl.tensor, scales: tl.tensor, num_tokens: tl.tensor,
    num_columns: tl.tensor, stride: tl.tensor, scale_row: tl.tensor, scale_tile: tl.tensor, pitch: tl.tensor,
    top_k: tl.constexpr, with_scales: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """Rows of x (t, c) as they are, with_scales those of their tiles too."""
    across = tl.cdiv(num_columns, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = (tl.program_id(0) % across) * columns + tl.arange(0, columns)
    is_there = (row < num_tokens)[:, None] & (column < num_columns)[None, :]
    numbers = tl.load(x + row[:, None] * stride + column[None, :], mask=is_there, other=0)
    if with_scales:
        tile = ((tl.program_id(0) % across) * (columns // 128) + tl.arange(0, columns // 128)).to(tl.int64)
        is_tile = (row < num_tokens)[:, None] & (tile < num_columns // 128)[None, :]
        scale = tl.load(x_scales + row[:, None] * scale_row + tile[None, :] * scale_tile, mask=is_tile, other=0)
    for idx in tl.static_range(top_k):
        place = tl.load(places + row * top_k + idx, mask=row < num_tokens, other=-1)
        to = values + place[:, None] * num_columns + column[None, :]
        tl.store(to, numbers, mask=is_there & (place >= 0)[:, None])
        if with_scales:
            tl.store(scales + tile[None, :] * pitch + place[:, None], scale, mask=is_tile & (place >= 0)[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def _sum_kernel(
    rows_of: tl.tensor, places: tl.tensor, weights: tl.tensor, sums: tl.tensor, num_tokens: tl.tensor,
    num_columns: tl.tensor, stride: tl.tensor, top_k: tl.constexpr, is_weighted: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:  # fmt: skip
    """sums (t, c): of each token its rows, in the order of its experts, in FP32."""
    across = tl.cdiv(num_columns, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = (tl.program_id(0) % across) * columns + tl.arange(0, columns)
    total = tl.zeros((rows, columns), tl.float32)
    for idx in tl.static_range(top_k):
        place = tl.load(places + row * top_k + idx, mask=row < num_tokens, other=-1)
        is_there = (place >= 0)[:, None] & (column < num_columns)[None, :]
        part = tl.load(rows_of + place[:, None] * stride + column[None, :], mask=is_there, other=0).to(tl.float32)
        if is_weighted:
            part *= tl.load(weights + row * top_k + idx, mask=row < num_tokens, other=0)[:, None]
        total += part
    is_kept = (row < num_tokens)[:, None] & (column < num_columns)[None, :]
    tl.store(sums + row[:, None] * num_columns + column[None, :], nearest_bf16(total), mask=is_kept)


@triton.jit  # type: ignore[untyped-decorator]
def _sum_backward_kernel(
    grad: tl.tensor, rows_of: tl.tensor, places: tl.tensor, weights: tl.tensor, rows_grad: tl.tensor, partial: tl.tensor,
    num_tokens: tl.tensor, num_columns: tl.tensor, grad_stride: tl.tensor, stride: tl.tensor, top_k: tl.constexpr,
    padded_k: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """A program has columns of one token: rows_grad (r, c), its gradient times each weight; partial (c / columns, t, k), the
    gradient's products with the rows.
    """
    across = tl.cdiv(num_columns, columns)
    token, part = (tl.program_id(0) // across).to(tl.int64), tl.program_id(0) % across
    slot, column = tl.arange(0, padded_k), part * columns + tl.arange(0, columns)
    place = tl.load(places + token * top_k + slot, mask=slot < top_k, other=-1)
    weight = tl.load(weights + token * top_k + slot, mask=slot < top_k, other=0)
    is_there = (place >= 0)[:, None] & (column < num_columns)[None, :]
    given = tl.load(grad + token * grad_stride + column, mask=column < num_columns, other=0).to(tl.float32)
    rows = tl.load(rows_of + place[:, None] * stride + column[None, :], mask=is_there, other=0).to(tl.float32)
    made = nearest_bf16(weight[:, None] * given[None, :])
    tl.store(rows_grad + place[:, None] * num_columns + column[None, :], made, mask=is_there)
    to = partial + (part * num_tokens + token) * top_k + slot
    tl.store(to, tl.sum(rows * given[None, :], 1), mask=slot < top_k)


def permute_quantise(x: Tensor, places: Tensor, num_rows: int, *, power_of_two: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of x (t, c) at `places`, in tiles 1x128: values (r, C) and scales (r, C / 128), as `streams.quantise_rows`.

    Raises CalibrationError, as all these, for operands that do not fit.
    """
    are_tensors({}, x=x, places=places)
    require(tensor("x", x, NUMBERS, (None, None)), tensor("places", places, INDICES, (len(x), None), x))
    x = x if x.stride(1) == 1 else x.contiguous()
    num_tokens, num_columns = x.shape
    values, scales = row_outputs(num_rows, num_columns, x.device)
    if num_tokens:
        across = triton.cdiv(values.shape[1], QUANTISE.columns)
        with torch.cuda.device_of(x):
            _quantise_kernel[(triton.cdiv(num_tokens, QUANTISE.rows) * across,)](
                x, places.contiguous(), values.view(torch.uint8), scales, num_tokens, num_columns, x.stride(0),
                values.shape[1], scales.stride(1), top_k=places.shape[1], power_of_two=power_of_two, rows=QUANTISE.rows,
                columns=QUANTISE.columns, num_warps=QUANTISE.warps,
            )  # fmt: skip
    return values, scales


def permute_quantised(values: Tensor, scales: Tensor, places: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Rows of FP8 values (t, C) at `places`, and their scales (t, C / 128): (r, C) and (r, C / 128), rows innermost."""
    are_tensors({}, values=values, scales=scales, places=places)
    require(quantised(values, scales), tensor("places", places, INDICES, (len(values), None), values))
    made, made_scales = row_outputs(num_rows, values.shape[1], values.device)
    _copy(values.view(torch.uint8), scales, places, made.view(torch.uint8), made_scales)
    return made, made_scales


def permute(x: Tensor, places: Tensor, num_rows: int) -> Tensor:
    """Rows of x (t, c) at `places`: (r, c)."""
    are_tensors({}, x=x, places=places)
    require(tensor("x", x, NUMBERS, (None, None)), tensor("places", places, INDICES, (len(x), None), x))
    made = torch.empty(num_rows, x.shape[1], dtype=x.dtype, device=x.device)
    _copy(x if x.stride(1) == 1 else x.contiguous(), None, places, made, made)
    return made


def _copy(x: Tensor, scales: Tensor | None, places: Tensor, values: Tensor, of_values: Tensor) -> None:
    num_tokens, num_columns = x.shape
    if num_tokens:
        strides = (0, 0, 0) if scales is None else (*scales.stride(), of_values.stride(1))
        with torch.cuda.device_of(x):
            _copy_kernel[(triton.cdiv(num_tokens, COPY.rows) * triton.cdiv(num_columns, COPY.columns),)](
                x, of_values if scales is None else scales, places.contiguous(), values, of_values, num_tokens, num_columns,
                x.stride(0), *strides, top_k=places.shape[1], with_scales=scales is not None, rows=COPY.rows,
                columns=COPY.columns, num_warps=COPY.warps,
            )  # fmt: skip


def unpermute(rows: Tensor, places: Tensor, weights: Tensor | None = None) -> Tensor:
    """(t, c): of each token the sum, in FP32, of its rows (r, c), times its weights (t, k) FP32 if given; in BF16."""
    are_tensors({"weights": weights}, rows=rows, places=places)
    require(
        tensor("rows", rows, BF16, (None, None)), tensor("places", places, INDICES, (None, None), rows),
        iter(()) if weights is None else tensor("weights", weights, FP32, tuple(places.shape), rows),
    )  # fmt: skip
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    num_tokens, num_columns = len(places), rows.shape[1]
    sums = torch.empty(num_tokens, num_columns, dtype=rows.dtype, device=rows.device)
    if num_tokens:
        with torch.cuda.device_of(rows):
            _sum_kernel[(triton.cdiv(num_tokens, SUM.rows) * triton.cdiv(num_columns, SUM.columns),)](
                rows, places.contiguous(), rows if weights is None else weights.contiguous(), sums, num_tokens,
                num_columns, rows.stride(0),
                top_k=places.shape[1], is_weighted=weights is not None, rows=SUM.rows, columns=SUM.columns,
                num_warps=SUM.warps,
            )  # fmt: skip
    return sums


def unpermute_backward(grad: Tensor, rows: Tensor, places: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Of a weighted `unpermute`, given the sums' gradient (t, c): the rows' (r, c), and the weights' (t, k) in FP32.

    Without weights the rows' gradient is `permute` of the sums', or `permute_quantise`.
    """
    are_tensors({}, grad=grad, rows=rows, places=places, weights=weights)
    require(
        tensor("rows", rows, BF16, (None, None)), tensor("places", places, INDICES, (None, None), rows),
        tensor("weights", weights, FP32, tuple(places.shape), rows),
        tensor("grad", grad, BF16, (len(places), rows.shape[-1]), rows),
    )  # fmt: skip
    grad, rows = (each if each.stride(1) == 1 else each.contiguous() for each in (grad, rows))
    rows_grad = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    across = triton.cdiv(grad.shape[1], SUM_BACKWARD.columns)
    partial = torch.empty(across, *places.shape, device=rows.device)
    if len(grad):
        with torch.cuda.device_of(rows):
            _sum_backward_kernel[(len(grad) * across,)](
                grad, rows, places.contiguous(), weights.contiguous(), rows_grad, partial, *grad.shape, grad.stride(0),
                rows.stride(0),
                top_k=places.shape[1], padded_k=triton.next_power_of_2(places.shape[1]), columns=SUM_BACKWARD.columns,
                num_warps=SUM_BACKWARD.warps,
            )  # fmt: skip
    return rows_grad, partial.sum(0)
