"""Attention cores: t = t0 + FLOP * (1 + c / seq) / rate, anchored on measured rows of the same pass and format.

Constants: `attention.<dtype>.<fwd|bwd>[.d<head_dim_qk>].<t0_s | c_tokens | rate_share | residual>`; the rate is a share of the
datasheet's dense peak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from hwprofiles.kernels.anchoring import GENERIC_RESIDUAL, Formula, KernelCost, anchored, unanchored
from hwprofiles.kernels.parameters import GpuLike, Range, StackLike, find, missing, need, overlap_ratio, peak_flop_per_s
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.units import MICRO


@dataclass(frozen=True, slots=True)
class AttentionConstants:
    """t = t0_s + FLOP * (1 + c_tokens / seq) / (rate_share * peak)."""

    t0_s: float
    c_tokens: float
    rate_share: float

    def seconds(self, flop: float, seq: float, peak: float) -> float:
        """Seconds of an attention core of `flop` FLOP at sequence length seq on a dense peak in FLOP/s."""
        return self.t0_s + flop * (1.0 + self.c_tokens / seq) / (self.rate_share * peak)


GENERIC_ATTENTION = AttentionConstants(t0_s=20.0 * MICRO, c_tokens=680.0, rate_share=0.65)
"""Form of the formula for a stack that has rows but no constants: the FlashAttention-3 fit on H100 in round figures."""


def attention_constants(
    stack: StackLike, dtype: str, direction: str, head_dim_qk: int
) -> tuple[AttentionConstants, Range] | None:
    """Constants of attention forward ("fwd") or backward ("bwd") for a head size and their residual range, or None.

    Keys of the head size (`attention.bf16.fwd.d192.rate_share`) go before those without one.
    """
    stem = f"attention.{dtype}.{direction}"

    def keys(name: str) -> tuple[str, str]:
        return f"{stem}.d{head_dim_qk}.{name}", f"{stem}.{name}"

    share = find(stack, *keys("rate_share"))
    if share is None:
        return None
    constants = AttentionConstants(need(stack, *keys("t0_s")).value, need(stack, *keys("c_tokens")).value, share.value)
    spread = need(stack, *keys("residual"))
    low, high = spread.low * share.value / share.high, spread.high * share.value / share.low
    return constants, Range(1.0, low, high, share.basis, share.source)


def attention_cost(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    """An attention core by the formula, anchored on `rows` (of the regime). Raises MissingKernelError."""
    peak = peak_flop_per_s(gpu, shape.dtype)
    direction = shape.op.removeprefix("attention_")
    found = attention_constants(stack, shape.dtype, direction, shape.head_dim_qk)
    if found is None and not rows:
        raise missing(stack, shape, f"attention.{shape.dtype}.{direction}.*")
    constants, residual = found or (GENERIC_ATTENTION, GENERIC_RESIDUAL)
    formula: Formula = partial(_attention_formula, constants, peak)
    if not rows:
        return unanchored(formula(shape), residual)
    unanchored_s = None if found is None else formula(shape) / overlap_ratio(stack, "attention", regime)
    return anchored(shape, rows, formula, _attention_place, _attention_extents, residual, unanchored_s)


def _length(shape: KernelShape) -> float:
    """Tokens of a sequence with as many keys a query: twice the mean under a causal mask, less than seq with a window.

    What a block of queries costs besides its keys (c_tokens) is spread over those that it has.
    """
    return shape.seq * (shape.flop / shape.attention_flop if shape.flop else 1.0)


def _attention_formula(constants: AttentionConstants, peak: float, shape: KernelShape) -> float:
    return constants.seconds(shape.flop or shape.attention_flop, _length(shape), peak)


def _attention_place(shape: KernelShape) -> tuple[float, ...]:
    """Half the log2 of the sequence and of batch * heads (long known to the formula), head sizes, key sharing, mask."""
    sharing = math.log2(shape.heads / (shape.kv_heads or shape.heads))
    return (
        0.5 * math.log2(_length(shape)),
        0.5 * math.log2(shape.batch * shape.heads),
        2.0 * math.log2(shape.head_dim_qk),
        2.0 * math.log2(shape.head_dim_v),
        0.25 * sharing,
        0.0 if shape.causal else 1.0,
    )


def _attention_extents(shape: KernelShape) -> tuple[float, ...]:
    return math.log2(_length(shape)), float(shape.head_dim_qk), float(shape.head_dim_v)
