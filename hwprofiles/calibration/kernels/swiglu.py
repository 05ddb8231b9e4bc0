"""SwiGLU between two FP8 products: the down projection's operand in FP8 at once, and the gradient of gate and up, in FP8 too.

x (r, 2 f) in BF16 is gate beside up; the product silu(gate) up, times a weight a row, is FP32, rounded to BF16 as the recipe
has activations between products, and then quantised. Gradients likewise.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from hwprofiles.calibration.kernels.stream_operands import BF16, FP32, INDICES, are_tensors, multiple, require, tensor
from hwprofiles.calibration.kernels.streams import row_outputs, store_both, turned_outputs
from hwprofiles.calibration.kernels.tiles import Tile, largest_along, nearest_bf16, octets, scale_of, sigmoid
from hwprofiles.calibration.numerics.quantise import TILE
from hwprofiles.problem import Problem

FORWARD = Tile(8, 128, 4)
BACKWARD = Tile(4, 512, 4)
BACKWARD_BOTH = Tile(128, 128, 8, 80)


@triton.jit  # type: ignore[untyped-decorator]
def _forward_kernel(
    x: tl.tensor, row_weights: tl.tensor, values: tl.tensor, scales: tl.tensor, num_rows: tl.tensor, width: tl.tensor,
    stride: tl.tensor, padded_columns: tl.tensor, pitch: tl.tensor, is_weighted: tl.constexpr, power_of_two: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """Values (r, F) and scales (F / 128, r), `pitch` apart."""
    across = tl.cdiv(padded_columns, columns)
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = (tl.program_id(0) % across) * columns + tl.arange(0, columns)
    is_row = (row < num_rows)[:, None]
    is_there = is_row & (column < width)[None, :]
    at = x + row[:, None] * stride + column[None, :]
    gate = tl.load(at, mask=is_there, other=0).to(tl.float32)
    up = tl.load(at + width, mask=is_there, other=0).to(tl.float32)
    product = gate * sigmoid(gate) * up
    if is_weighted:
        product *= tl.load(row_weights + row, mask=row < num_rows, other=0)[:, None]
    tiles = tl.reshape(nearest_bf16(product).to(tl.float32), (rows, columns // 128, 128))
    scale = scale_of(largest_along(tiles, 2), power_of_two)
    made = tl.reshape(octets(tiles, scale[:, :, None]), (rows, columns))
    is_kept = is_row & (column < padded_columns)[None, :]
    tl.store(values + row[:, None] * padded_columns + column[None, :], made, mask=is_kept)
    tile = (tl.program_id(0) % across) * (columns // 128) + tl.arange(0, columns // 128)
    is_scale = is_row & (tile < padded_columns // 128)[None, :]
    tl.store(scales + tile.to(tl.int64)[None, :] * pitch + row[:, None], scale, mask=is_scale)


@triton.jit  # type: ignore[untyped-decorator]
def _gradients(
    x: tl.tensor, grad: tl.tensor, row_weights: tl.tensor, partial: tl.tensor, row: tl.tensor, column: tl.tensor,
    is_row: tl.tensor, width: tl.tensor, stride: tl.tensor, grad_stride: tl.tensor, is_weighted: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """Gradients of gate and up, FP32; and of the row's weight what these columns give of it, to `partial`."""
    is_there = is_row[:, None] & (column < width)[None, :]
    at = x + row[:, None] * stride + column[None, :]
    gate = tl.load(at, mask=is_there, other=0).to(tl.float32)
    up = tl.load(at + width, mask=is_there, other=0).to(tl.float32)
    of_product = tl.load(grad + row[:, None] * grad_stride + column[None, :], mask=is_there, other=0).to(tl.float32)
    chance = sigmoid(gate)
    up_times_grad, of_up = up * of_product, gate * chance * of_product
    of_gate = tl.fma(tl.fma(-gate, chance, gate), chance, chance) * up_times_grad
    if is_weighted:
        tl.store(partial + row, tl.sum(gate * chance * up_times_grad, 1), mask=is_row)
        weight = tl.load(row_weights + row, mask=is_row, other=0)[:, None]
        of_gate, of_up = of_gate * weight, of_up * weight
    return of_gate, of_up


@triton.jit  # type: ignore[untyped-decorator]
def _backward_kernel(
    x: tl.tensor, grad: tl.tensor, row_weights: tl.tensor, x_grad: tl.tensor, partial: tl.tensor, num_rows: tl.tensor,
    width: tl.tensor, stride: tl.tensor, grad_stride: tl.tensor, is_weighted: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:  # fmt: skip
    """x_grad (r, 2 f) in BF16; partial (f / columns, r)."""
    across = tl.cdiv(width, columns)
    part = tl.program_id(0) % across
    row = (tl.program_id(0) // across).to(tl.int64) * rows + tl.arange(0, rows)
    column = part * columns + tl.arange(0, columns)
    gate_grad, up_grad = _gradients(
        x, grad, row_weights, partial + part.to(tl.int64) * num_rows, row, column, row < num_rows, width, stride,
        grad_stride, is_weighted,
    )  # fmt: skip
    to = x_grad + row[:, None] * (2 * width) + column[None, :]
    is_there = (row < num_rows)[:, None] & (column < width)[None, :]
    tl.store(to, nearest_bf16(gate_grad), mask=is_there)
    tl.store(to + width, nearest_bf16(up_grad), mask=is_there)


@triton.jit  # type: ignore[untyped-decorator]
def _half_gradient(
    x: tl.tensor, grad: tl.tensor, row_weights: tl.tensor, partial: tl.tensor, row: tl.tensor, column: tl.tensor,
    is_up: tl.tensor, width: tl.tensor, stride: tl.tensor, grad_stride: tl.tensor, is_weighted: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """As `_gradients` that of up, or of the gate and the rows' weights: in BF16."""
    is_row = row >= 0
    at = x + row[:, None] * stride + column[None, :]
    gate = tl.load(at, mask=is_row[:, None], other=0).to(tl.float32)
    of_product = tl.load(grad + row[:, None] * grad_stride + column[None, :], mask=is_row[:, None], other=0).to(
        tl.float32
    )
    chance = sigmoid(gate)
    if is_up:
        made = gate * chance * of_product
    else:
        up_times_grad = tl.load(at + width, mask=is_row[:, None], other=0).to(tl.float32) * of_product
        if is_weighted:
            tl.store(partial + row, tl.sum(gate * chance * up_times_grad, 1), mask=is_row)
        made = tl.fma(tl.fma(-gate, chance, gate), chance, chance) * up_times_grad
    if is_weighted:
        made *= tl.load(row_weights + row, mask=is_row, other=0)[:, None]
    return nearest_bf16(made)


@triton.jit  # type: ignore[untyped-decorator]
def _backward_both_kernel(
    x: tl.tensor, grad: tl.tensor, row_weights: tl.tensor, sources: tl.tensor, of_rows: tl.tensor, row_scales: tl.tensor,
    values: tl.tensor, scales: tl.tensor, partial: tl.tensor, num_rows: tl.tensor, width: tl.tensor,
    padded_rows: tl.tensor, stride: tl.tensor, grad_stride: tl.tensor, pitch: tl.tensor, is_weighted: tl.constexpr,
    power_of_two: tl.constexpr, side_by_side: tl.constexpr,
) -> None:  # fmt: skip
    """The gradient (r, 2 f) by rows, and of rows `sources` transposed; width a multiple of 128.

    Neighbouring programs have the gate's and up's gradient of the same columns: what both read comes from the level-2 cache.
    """
    across, is_up = width // 128, tl.program_id(0) % 2 == 1
    program = tl.program_id(0) // 2
    tile, begin = program // across, (program % across) * 128
    source = sources + tile.to(tl.int64) * 128
    column = tl.max_contiguous(begin + tl.arange(0, 128), side_by_side)
    fours = tl.arange(0, 32) * 4
    partial += (begin // 128).to(tl.int64) * num_rows
    first = _half_gradient(
        x, grad, row_weights, partial, tl.load(source + fours), column, is_up, width, stride, grad_stride, is_weighted
    )  # fmt: skip
    second = _half_gradient(
        x, grad, row_weights, partial, tl.load(source + fours + 1), column, is_up, width, stride, grad_stride, is_weighted
    )  # fmt: skip
    third = _half_gradient(
        x, grad, row_weights, partial, tl.load(source + fours + 2), column, is_up, width, stride, grad_stride, is_weighted
    )  # fmt: skip
    fourth = _half_gradient(
        x, grad, row_weights, partial, tl.load(source + fours + 3), column, is_up, width, stride, grad_stride, is_weighted
    )  # fmt: skip
    begin += tl.where(is_up, width, 0)
    store_both(
        first, second, third, fourth, of_rows, row_scales, values, scales, source, tile, begin, 2 * width, padded_rows,
        pitch, power_of_two, side_by_side,
    )  # fmt: skip


def swiglu_quantise(
    x: Tensor, row_weights: Tensor | None = None, *, power_of_two: bool = False
) -> tuple[Tensor, Tensor]:
    """Tiles 1x128 of the product (r, f) of x (r, 2 f): values (r, F) and scales (r, F / 128), as `streams.quantise_rows`.

    row_weights: (r,) FP32. Raises CalibrationError, as all these, for operands that do not fit.
    """
    are_tensors({"row_weights": row_weights}, x=x)
    require(_operands(x, None, row_weights))
    x = x if x.stride(1) == 1 else x.contiguous()
    num_rows, width = x.shape[0], x.shape[1] // 2
    values, scales = row_outputs(num_rows, width, x.device)
    if num_rows:
        across = triton.cdiv(values.shape[1], FORWARD.columns)
        with torch.cuda.device_of(x):
            _forward_kernel[(triton.cdiv(num_rows, FORWARD.rows) * across,)](
                x, x if row_weights is None else row_weights.contiguous(), values.view(torch.uint8), scales, num_rows, width,
                x.stride(0), values.shape[1], scales.stride(1), is_weighted=row_weights is not None,
                power_of_two=power_of_two, rows=FORWARD.rows, columns=FORWARD.columns, num_warps=FORWARD.warps,
            )  # fmt: skip
    return values, scales


def swiglu_backward(x: Tensor, grad: Tensor, row_weights: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Of x (r, 2 f) and the product's gradient (r, f), both BF16: x's gradient, BF16, and that of the rows' weights (r,)."""
    are_tensors({"row_weights": row_weights}, x=x, grad=grad)
    require(_operands(x, grad, row_weights))
    x, grad = (each if each.stride(1) == 1 else each.contiguous() for each in (x, grad))
    num_rows, width = grad.shape
    x_grad = torch.empty(num_rows, 2 * width, dtype=x.dtype, device=x.device)
    across = triton.cdiv(width, BACKWARD.columns)
    partial = torch.empty(across, num_rows if row_weights is not None else 0, device=x.device)
    if num_rows:
        with torch.cuda.device_of(x):
            _backward_kernel[(triton.cdiv(num_rows, BACKWARD.rows) * across,)](
                x, grad, x if row_weights is None else row_weights.contiguous(), x_grad, partial, num_rows, width, x.stride(0),
                grad.stride(0), is_weighted=row_weights is not None, rows=BACKWARD.rows, columns=BACKWARD.columns,
                num_warps=BACKWARD.warps,
            )  # fmt: skip
    return x_grad, None if row_weights is None else partial.sum(0)


def swiglu_backward_quantise(
    x: Tensor, grad: Tensor, sources: Tensor, row_weights: Tensor | None = None, *, power_of_two: bool = False
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor | None]:
    """`swiglu_backward`, whose gradient (r, 2 f) is quantised by rows, and of rows `sources` transposed; f a multiple of 128.

    sources: as in `streams.quantise_both`.
    """
    are_tensors({"row_weights": row_weights}, x=x, grad=grad, sources=sources)
    require(
        _operands(x, grad, row_weights), multiple("grad", "a width", grad.shape[-1]),
        tensor("sources", sources, INDICES, (None,), x), multiple("sources", "a number", len(sources)),
    )  # fmt: skip
    x, grad = (each if each.stride(1) == 1 else each.contiguous() for each in (x, grad))
    num_rows, width = grad.shape
    values, scales = row_outputs(num_rows, 2 * width, x.device)
    turned, turned_scales = turned_outputs(2 * width, len(sources), x.device)
    partial = torch.empty(width // TILE, num_rows if row_weights is not None else 0, device=x.device)
    if len(sources):
        with torch.cuda.device_of(x):
            _backward_both_kernel[(len(sources) // TILE * (width // TILE) * 2,)](
                x, grad, x if row_weights is None else row_weights.contiguous(), sources.contiguous(),
                values.view(torch.uint8), scales,
                turned.view(torch.int32), turned_scales, partial, num_rows, width, len(sources), x.stride(0),
                grad.stride(0), scales.stride(1), is_weighted=row_weights is not None, power_of_two=power_of_two,
                side_by_side=BACKWARD_BOTH.side_by_side, num_warps=BACKWARD_BOTH.warps, maxnreg=BACKWARD_BOTH.registers,
            )  # fmt: skip
    return (values, scales), (turned, turned_scales), None if row_weights is None else partial.sum(0)


def _operands(x: Tensor, grad: Tensor | None, row_weights: Tensor | None) -> Iterator[Problem]:
    """What is wrong with gate beside up (r, 2 f), the product's gradient (r, f) and the rows' weights (r,)."""
    yield from tensor("x", x, BF16, (None, None))
    if x.dim() == 2:
        yield from multiple("x", "gate beside up", x.shape[1], 2)
        if grad is not None:
            yield from tensor("grad", grad, BF16, (len(x), x.shape[1] // 2), x)
        if row_weights is not None:
            yield from tensor("row_weights", row_weights, FP32, (len(x),), x)
