"""What the streaming kernels share: FP32 numbers of a tile to FP8, to the bit as by `quantise`; four rows packed in words.

(Annotations of a kernel are names that Triton knows: it refuses others.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import triton
import triton.language as tl

INTERPRETED: Final = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""Triton's interpreter rounds an FMA twice, and FP8 and BF16 as no GPU does: there it is divided, and rounded by arithmetic."""


@dataclass(frozen=True)
class Tile:
    """Rows and columns of one program, its warps of 32 threads, the most registers of a thread.

    side_by_side: FP8 numbers of a row that a thread has at most, in kernels that transpose.
    """

    rows: int
    columns: int
    warps: int
    registers: int | None = None
    side_by_side: int = 16


@triton.jit  # type: ignore[untyped-decorator]
def sizes(numbers: tl.tensor) -> tl.tensor:
    """Bits of FP32 numbers without the sign: ordered as the sizes are, infinity above all numbers and NaN above infinity."""
    return numbers.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit  # type: ignore[untyped-decorator]
def _larger(left: tl.tensor, right: tl.tensor) -> tl.tensor:
    return tl.maximum(left, right, propagate_nan=tl.PropagateNan.ALL)


@triton.jit  # type: ignore[untyped-decorator]
def largest_along(numbers: tl.tensor, axis: tl.constexpr) -> tl.tensor:
    """The largest of the `sizes` along an axis. (The interpreter is slow at combining by a function.)"""
    if INTERPRETED:
        return tl.max(sizes(numbers), axis)
    else:
        return sizes(tl.reduce(tl.abs(numbers), axis, _larger))


@triton.jit  # type: ignore[untyped-decorator]
def scale_of(largest: tl.tensor, power_of_two: tl.constexpr) -> tl.tensor:
    """The scale of tiles by the largest of their `sizes`, as `quantise.scale_of`."""
    number = largest.to(tl.float32, bitcast=True)
    if INTERPRETED:
        scale = tl.div_rn(number, tl.zeros_like(number) + 448.0)
    else:  # by the inverse, and by it what the rough quotient leaves: a division's rounding (Markstein 1990)
        inverse = tl.zeros_like(number) + 0.002232142857142857
        rough = number * inverse
        scale = tl.fma(tl.fma(-rough, tl.zeros_like(number) + 448.0, number), inverse, rough)
    scale = tl.maximum(scale, 1.1754943508222875e-38)
    if power_of_two:
        bits = scale.to(tl.int32, bitcast=True)
        scale = ((bits + 0x007FFFFF) & 0x7F800000).to(tl.float32, bitcast=True)
    return tl.where(largest < 0x7F800000, scale, number)


@triton.jit  # type: ignore[untyped-decorator]
def _quotients(numbers: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """FP32 numbers over their scale (which may be broadcast), rounded to FP32.

    By an inverse of twice FP32's digits, in two parts, which a scale has once: then a number takes a product and an FMA. A
    division rounds otherwise only where the exact quotient is as near to the middle of two FP32 numbers as 2^-23 of their
    distance: of no BF16 number over a BF16 number's 448th part. Over an infinite scale numbers become 0 and infinity NaN.
    """
    if INTERPRETED:
        return tl.div_rn(numbers, scale + tl.zeros_like(numbers))
    else:
        inverse = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [scale], dtype=tl.float32, is_pure=True, pack=1
        )
        rest = tl.where(scale == float("inf"), 0.0, tl.fma(-scale, inverse, 1.0) * inverse)
        return tl.fma(numbers, tl.broadcast_to(inverse, numbers.shape), numbers * rest)


@triton.jit  # type: ignore[untyped-decorator]
def octets(numbers: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """FP32 numbers over their scale (which may be broadcast) in E4M3; a zero may lose its sign."""
    quotients = _quotients(numbers, scale)
    if INTERPRETED:
        powers = (quotients.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
        shifts = tl.maximum(powers, 0.015625) * 1572864.0  # 2^-6; 1.5 x 2^(23 - 3)
        nearest = ((quotients + shifts) - shifts).to(tl.float8e4nv).to(tl.uint8, bitcast=True)
        return tl.where(quotients != quotients, 0x7F, nearest).to(tl.uint8)
    else:
        return quotients.to(tl.float8e4nv).to(tl.uint8, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator]
def words(first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """`octets` of four rows that lie one behind another, as one word of 32 bits a column: a transpose moves these."""
    if INTERPRETED:
        low = octets(first, scale).to(tl.int32) | (octets(second, scale).to(tl.int32) << 8)
        return low | (octets(third, scale).to(tl.int32) << 16) | (octets(fourth, scale).to(tl.int32) << 24)
    else:
        return tl.inline_asm_elementwise(
            """{
            .reg .b16 low, high;
            cvt.rn.satfinite.e4m3x2.f32 low, $2, $1;
            cvt.rn.satfinite.e4m3x2.f32 high, $4, $3;
            mov.b32 $0, {low, high};
            }""",
            "=r,f,f,f,f",
            [_quotients(first, scale), _quotients(second, scale), _quotients(third, scale), _quotients(fourth, scale)],
            dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def nearest_bf16(numbers: tl.tensor) -> tl.tensor:
    """FP32 numbers in BF16, ties to even. On a GPU two are converted at once."""
    if INTERPRETED:
        bits = numbers.to(tl.int32, bitcast=True)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1) & -65536).to(tl.float32, bitcast=True)
        return tl.where(numbers == numbers, rounded, numbers).to(tl.bfloat16)
    else:
        return tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [numbers], dtype=tl.bfloat16, is_pure=True, pack=2
        )


@triton.jit  # type: ignore[untyped-decorator]
def unpacked(numbers: tl.tensor) -> tl.tensor:
    """FP32 numbers of BF16 ones, made where they stand and not kept from an earlier place: half the registers until then."""
    if INTERPRETED:
        return numbers.to(tl.float32)
    else:
        bits = tl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xFFFF0000;",
            "=r,=r,r",
            [numbers],
            dtype=tl.int32,
            is_pure=False,
            pack=2,
        )
        return bits.to(tl.float32, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator]
def as_fp32(numbers: tl.tensor) -> tl.tensor:
    """FP32 numbers, `unpacked` of BF16."""
    if numbers.dtype == tl.bfloat16:
        return unpacked(numbers)
    else:
        return numbers


@triton.jit  # type: ignore[untyped-decorator]
def sigmoid(numbers: tl.tensor) -> tl.tensor:
    """Of FP32 numbers, to about 2^-22 of itself; on a GPU without the steps that serve subnormal results."""
    if INTERPRETED:
        return 1.0 / (1.0 + tl.exp(-numbers))
    else:
        return tl.inline_asm_elementwise(
            """{
            .reg .f32 power;
            mul.ftz.f32 power, $1, 0fBFB8AA3B;
            ex2.approx.ftz.f32 power, power;
            add.ftz.f32 power, power, 0f3F800000;
            rcp.approx.ftz.f32 $0, power;
            }""",  # 0fBFB8AA3B: -log2 e; 0f3F800000: 1
            "=f,f", [numbers], dtype=tl.float32, is_pure=True, pack=1,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def largest_of(first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor) -> tl.tensor:
    """The largest of four tensors by size, place by place; NaN above all."""
    low, high = _larger(tl.abs(first), tl.abs(second)), _larger(tl.abs(third), tl.abs(fourth))
    return _larger(low, high)
