"""Conversions to FP8 and back, by rows, tiles and tensors, what finds their scales, and transposes."""

from __future__ import annotations

from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.numerics.blockwise_library import fused_kernels
from hwprofiles.calibration.numerics.quantise import FP8, FP8_MAX, TILE, Quantised, quantise, transposed
from hwprofiles.calibration.rates.moved import COARSE, COMPILED, GRID, Kernel

ROWS, COLUMNS, BLOCKS = (1, TILE), (TILE, 1), (TILE, TILE)
IN_FP8: Final = 1.0 + 4.0 / TILE
"""Bytes of a number in FP8 with an FP32 scale for each 128."""
WEIGHTS: Final = ((2048, 2048), (4096, 7168), (24_576, 1536), (36_864, 7168))
WHOLE_TILES: Final = tuple(shape for shape in GRID if shape[0] % TILE == 0)


def tiles_of_rows(x: Any) -> Any:
    """1x128, as the torch model casts activations: one kernel where Triton is."""
    if kernels := _kernels(x):
        return kernels.quantise_rows(x, power_of_two=False)
    made = quantise(x, ROWS)
    return made.values, made.scales


def tiles_of_columns(x: Any, scales: Any, sources: Any) -> Any:
    """128x1 and transposed, operand of a weight gradient; scales: of tiles 1x128 where x is in FP8."""
    if kernels := _kernels(x):
        return kernels.quantise_columns(x, scales, x.shape[1], sources, 1, power_of_two=False)
    made = quantise(x if scales is None else Quantised(x, scales, ROWS).numbers, COLUMNS)
    return transposed(made.values), made.scales


def rows_by_torch(x: Any) -> Any:
    """A scale a row, as the torch model does it: a function behind another."""
    made = quantise(x, (1, x.shape[1]))
    return made.values, made.scales


def blocks_by_torch(x: Any) -> Any:
    """A scale for 128x128, of weights."""
    made = quantise(x, BLOCKS)
    return made.values, made.scales


def row_scaled(x: Any) -> Any:
    """The same as one kernel."""
    wide = x.to(torch.float32)
    scale = wide.abs().amax(1, keepdim=True).clamp(min=1e-12) / FP8_MAX
    return (wide / scale).to(FP8), scale


def tensor_scaled(x: Any, scale: Any) -> Any:
    """By a scale that is known."""
    return (x.to(torch.float32) * scale).clamp(-FP8_MAX, FP8_MAX).to(FP8)


def largest(x: Any) -> Any:
    """Of a tensor."""
    return x.abs().amax()


def to_bf16(values: Any, scales: Any) -> Any:
    """Numbers of tiles 1x128."""
    wide = values.to(torch.float32).unflatten(1, (-1, TILE)) * scales.unsqueeze(2)
    return wide.flatten(1).to(torch.bfloat16)


def turned(values: Any) -> Any:
    """FP8, contiguous."""
    return transposed(values)


def _kernels(x: Any) -> Any:
    return fused_kernels(x.device) if x.is_cuda else None


def _x(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (random_bf16(device, rows, width),)


def _wide(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (torch.randn(rows, width, device=device),)


def _columns(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    rows = max(rows, TILE)
    return random_bf16(device, rows, width), None, torch.arange(rows, device=device)


def _columns_of_fp8(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    x, _, sources = _columns(device, rows, width)
    return *tiles_of_rows(x), sources


def _scaled(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), torch.full((), FP8_MAX / 5.0, device=device)


def _values(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (random_bf16(device, rows, width).to(FP8),)


def _tiles(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    made = quantise(random_bf16(device, rows, width), ROWS)
    return made.values, made.scales


KERNELS: Final = (
    Kernel("quantise", "triton", tiles_of_rows, _x, 2.0 + IN_FP8, dtype="fp8-block"),
    Kernel("quantise", "torch-row", rows_by_torch, _x, dtype="fp8-row", shapes=COARSE),
    Kernel("quantise", "torch", blocks_by_torch, _wide, variant="weight", dtype="fp8-block", shapes=WEIGHTS),
    Kernel("quantise", "compiled", row_scaled, _x, 3.0, dtype="fp8-row", shapes=COMPILED),
    Kernel("quantise", "compiled", tensor_scaled, _scaled, 3.0, dtype="fp8-tensor", shapes=COMPILED[1:]),
    Kernel("quantise_transpose", "triton", tiles_of_columns, _columns, 2.0 + IN_FP8, dtype="fp8-block", shapes=WHOLE_TILES),
    Kernel(
        "quantise_transpose", "triton-of-fp8", tiles_of_columns, _columns_of_fp8, 2.0 * IN_FP8, dtype="fp8-block",
        shapes=COARSE,
    ),
    Kernel("dequantise", "torch", to_bf16, _tiles, dtype="fp8-block", shapes=COARSE),
    Kernel("amax", "torch", largest, _x, shapes=COARSE),
    Kernel("transpose", "torch", turned, _values, 2.0, dtype="fp8-row"),
)  # fmt: skip
