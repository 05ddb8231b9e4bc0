"""FP8 E4M3 with FP32 scales: a scale for each tile of a matrix, such that the tile's largest number becomes 448.

DeepSeek-V3 report 3.3.2: activations and gradients in tiles of 1x128, weights in blocks of 128x128; "online": the scale is of
the numbers themselves, not of earlier ones. E4M3 has 3 bits of mantissa: where a tile's largest number is 448, a number of at
least 2^-6 is off by at most 1/16 of itself, a smaller one by at most 2^-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

FP8: Final = torch.float8_e4m3fn
FP8_MAX: Final = 448.0
"""The largest number of E4M3 (arXiv:2209.05433, table 1)."""
TILE: Final = 128
SMALLEST_SCALE: Final = 2.0**-126
"""The smallest normal FP32 number: with it zeros stay zeros, and tiny tiles do not divide by zero."""
_EXPONENT: Final = 0x7F800000
_MANTISSA: Final = 0x007FFFFF
_SHIFT: Final = 1.5 * 2.0 ** (23 - 3)
"""Where FP32, with 23 bits of mantissa, has the steps of a number with 3."""


@dataclass(frozen=True)
class Quantised:
    """values (..., r, c) in FP8 and scales (..., r / tile[0], c / tile[1]) in FP32; number = value x scale of its tile."""

    values: Tensor
    scales: Tensor
    tile: tuple[int, int]

    @cached_property
    def numbers(self) -> Tensor:
        """(..., r, c) in FP32."""
        tiles = tiled(to_float32(self.values), self.tile)
        return tiles.mul_(self.scales.unsqueeze(-2).unsqueeze(-1)).view(self.values.shape)


def quantise(x: Tensor, tile: tuple[int, int], *, power_of_two: bool = False) -> Quantised:
    """x (..., r, c), with zeros up to a multiple of the tile, in FP8. power_of_two: scales are rounded up to one.

    A NaN or an infinite number makes its tile's scale so, and with it every number of the tile.
    """
    x = padded(x, tile)
    quotients, scales = _quotients(x, tile, power_of_two)
    return Quantised(quotients.to(FP8).view(x.shape), scales.squeeze(-1).squeeze(-2), tile)


def quantised_numbers(x: Tensor, tile: tuple[int, int], *, power_of_two: bool = False) -> Tensor:
    """What `quantise(x, tile).numbers` are, in half the time on a CPU: where nothing has to be kept in FP8."""
    x = padded(x, tile)
    quotients, scales = _quotients(x, tile, power_of_two)
    return nearest_fp8_(quotients).mul_(scales).view(x.shape)


def _quotients(x: Tensor, tile: tuple[int, int], power_of_two: bool) -> tuple[Tensor, Tensor]:
    """Tiles of x over their scales, FP32, in memory of their own; and the scales, with both dimensions of a tile as 1."""
    tiles = tiled(x, tile)
    sizes = tiles.abs()
    scales = scale_of(sizes.amax((-3, -1), keepdim=True), power_of_two=power_of_two)
    return torch.div(tiles, scales, out=sizes if sizes.dtype is torch.float32 else None), scales


def nearest_fp8_(x: Tensor) -> Tensor:
    """x, FP32 and at most 448, becomes the nearest number of E4M3 (ties to even), in place.

    A number so large that FP32's step there is E4M3's at x, added and taken away again, leaves x rounded to that step: 2^-3 of
    x's power of two, but not below 2^-9.
    """
    powers = (x.view(torch.int32) & _EXPONENT).view(torch.float32)
    shifts = powers.clamp_(min=2.0**-6).mul_(_SHIFT)
    return x.add_(shifts).sub_(shifts)


def scale_of(largest: Tensor, *, power_of_two: bool) -> Tensor:
    """The scale, FP32, of tiles whose largest absolute number is `largest`."""
    largest = largest.to(torch.float32)
    # By a tensor: by a number torch divides on a GPU as if by its reciprocal, and scales that are off by a last bit turn ties,
    # which are frequent where numbers are BF16.
    scales = (largest / torch.full_like(largest, FP8_MAX)).clamp(min=SMALLEST_SCALE)
    if not power_of_two:
        return scales
    rounded_up = ((scales.view(torch.int32) + _MANTISSA) & _EXPONENT).view(torch.float32)
    return torch.where(scales.isfinite(), rounded_up, scales)


def to_float32(values: Tensor) -> Tensor:
    """FP8 as FP32. On a CPU, where torch takes a table's time for it, by shifting bits; NaN's code becomes 480 there, which
    changes nothing for numbers: the scale of its tile is NaN or infinite.
    """
    if values.is_cuda:
        return values.to(torch.float32)
    bits = values.view(torch.int8).to(
        torch.int16
    )  # sign in front; FP16 has one bit of exponent more, and 7 of mantissa
    halves = bits.bitwise_left_shift_(7).bitwise_and_(-0x4080).view(torch.float16)
    return halves.to(torch.float32).mul_(256.0)  # the exponents' biases: 2^(15 - 7)


def transposed(values: Tensor) -> Tensor:
    """FP8 (..., r, c) as contiguous (..., c, r)."""
    return values.view(torch.uint8).transpose(-1, -2).contiguous().view(FP8)


def padded(x: Tensor, multiples: tuple[int, int]) -> Tensor:
    """x with zeros after its last two dimensions, up to multiples; x itself where nothing is missing."""
    rows, columns = (-size % multiple for size, multiple in zip(x.shape[-2:], multiples, strict=True))
    return functional.pad(x, (0, columns, 0, rows)) if rows or columns else x


def tiled(x: Tensor, tile: tuple[int, int]) -> Tensor:
    """x (..., r, c) as (..., r / tile[0], tile[0], c / tile[1], tile[1])."""
    rows, columns = x.shape[-2] // tile[0], x.shape[-1] // tile[1]
    return x.reshape(*x.shape[:-2], rows, tile[0], columns, tile[1])
