"""Attention cores: blocks of queries over the SMs, anchored on measured rows of the same library, pass and format.

    t     = t0 + busy
    block = rows * (keys + edge + fixed) * pair     rows of one SM's block (backward: rows of keys, and queries for keys)
    pair  = FLOP of a pair / (rate_share * peak / SMs) + softmax_clocks / clock
    busy  = blocks / SMs * block, and `tail` of the longest block until the last SM is done; at least the longest block

Packed documents have the blocks of each (a short one's are not full); the longest block is that of the longest document, on the
mean of calls where numbers of documents are means.
Under a causal mask the diagonal's blocks are computed whole (edge = (rows + key block) / 2 more keys), of a window both ends.
c_tokens / 2 = edge + fixed of a causal call, so that with many blocks t = t0 + FLOP * (1 + c_tokens / seq) / rate.

A library that writes the scores to memory computes the whole square; its softmax_clocks are a pair's bytes.

Constants: `attention.<dtype>.<fwd|bwd>[.<library>][.d<head_dim_qk>].<name>`, the names t0_s, c_tokens, tail, rate_share,
softmax_clocks and residual; the rate is a share of the datasheet's dense peak, that without a head size of heads of 128;
between two sizes that were measured it is interpolated. A shape without a library is the stack's own: keys without one, else
those of the newest library that was measured on the GPU's family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from hwprofiles.kernels.anchoring import ANCHOR, FAR, GENERIC_RESIDUAL, Formula, KernelCost, anchored, unanchored
from hwprofiles.kernels.attention_libraries import LIBRARIES, block_rows, key_block, serving, writes_scores
from hwprofiles.kernels.parameters import GpuLike, Range, StackLike, find, missing, need, overlap_ratio, peak_flop_per_s
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape, Regime
from hwprofiles.units import GIGA, MICRO

TAIL = 0.3
"""`tail` of a stack that has none: between kernels that start long blocks first and those that do not."""
PLAIN_HEAD = 128
"""Head size of the keys that name none."""
HEADS = (64, 96, 128, 192, 256)
"""Head sizes that a stack may have keys of."""
TYPICAL_CLOCK_HZ = 1.9 * GIGA
"""Of a GPU whose datasheet gives no clock."""
WINDOWED = 0.999
"""A call of less than this share of its dimensions' FLOP has a window (or a slice)."""


@dataclass(frozen=True, slots=True)
class AttentionConstants:
    """Constants of one library, format, pass and head size; softmax_clocks: of an SM, for one pair of query and key.

    tail: share of the longest block by which the last SM ends behind the mean.
    """

    t0_s: float
    c_tokens: float
    rate_share: float
    softmax_clocks: float = 0.0
    tail: float = TAIL


@dataclass(frozen=True, slots=True)
class CoreLimits:
    """What of GPU and library the formula needs. peak: dense FLOP/s of the chip; rows, keys: of a block, of its steps; whole:
    masked pairs are computed too.
    """

    peak: float
    num_sms: int
    clock_hz: float
    rows: int
    keys: int
    whole: bool = False


GENERIC_ATTENTION = AttentionConstants(t0_s=20.0 * MICRO, c_tokens=680.0, rate_share=0.65)
"""Form of the formula for a stack that has rows but no constants: the FlashAttention-3 fit on H100 in round figures."""


def attention_constants(
    stack: StackLike, shape: KernelShape, family: str = ""
) -> tuple[str, AttentionConstants, Range] | None:
    """Library, constants and residual range of a call, or None where the stack has none.

    Keys of the head size (`attention.bf16.fwd.d192.rate_share`) go before those without one.
    """
    for library in (shape.library,) if shape.library else ("", *serving(family)):
        stem = _stem(shape, library)
        share = _rate_share(stack, stem, computed_head(shape, library))
        if share is not None:
            return library, *_of_stem(stack, stem, computed_head(shape, library), share)
    return None


def has_rates(stack: StackLike, dtype: str, direction: str, library: str) -> bool:
    """Whether the stack has constants of a library for "fwd" or "bwd"."""
    return any(True for _ in _measured_shares(stack, f"attention.{dtype}.{direction}.{library}"))


def _stem(shape: KernelShape, library: str) -> str:
    stem = f"attention.{shape.dtype}.{_direction(shape)}"
    return f"{stem}.{library}" if library else stem


def _direction(shape: KernelShape) -> str:
    return shape.op.removeprefix("attention_")


def computed_head(shape: KernelShape, library: str) -> int:
    """The head size that the library's kernel computes."""
    known = LIBRARIES.get(library)
    return known.computed_as(shape.head_dim_qk) if known else shape.head_dim_qk


def _of_stem(stack: StackLike, stem: str, head_dim: int, share: Range) -> tuple[AttentionConstants, Range]:
    def keys(name: str) -> tuple[str, str]:
        return f"{stem}.d{head_dim}.{name}", f"{stem}.{name}"

    softmax, tail = find(stack, *keys("softmax_clocks")), find(stack, *keys("tail"))
    constants = AttentionConstants(
        need(stack, *keys("t0_s")).value, need(stack, *keys("c_tokens")).value, share.value,
        softmax.value if softmax else 0.0, tail.value if tail else TAIL,
    )  # fmt: skip
    spread = need(stack, *keys("residual"))
    low, high = spread.low * share.value / share.high, spread.high * share.value / share.low
    return constants, Range(1.0, low, high, share.basis, share.source, share.state)


def _rate_share(stack: StackLike, stem: str, head_dim: int) -> Range | None:
    """The share of a head size: its own, else by seconds a pair between its measured neighbours, else the nearest one's."""
    own = find(stack, f"{stem}.d{head_dim}.rate_share", *([f"{stem}.rate_share"] if head_dim == PLAIN_HEAD else ()))
    if own is not None:
        return own
    known = dict(_measured_shares(stack, stem))
    if not known:
        return None
    below = max((size for size in known if size < head_dim), default=None)
    above = min((size for size in known if size > head_dim), default=None)
    if below is None or above is None:
        return known[min(known, key=lambda size: abs(size - head_dim))]
    a, b = known[below], known[above]
    weight = (head_dim - below) / (above - below)
    value = head_dim / (below / a.value + weight * (above / b.value - below / a.value))
    return Range(value, min(a.low, b.low, value), max(a.high, b.high, value), a.basis, a.source)


def _measured_shares(stack: StackLike, stem: str) -> Iterator[tuple[int, Range]]:
    for size in HEADS:
        keys = (f"{stem}.d{size}.rate_share", *([f"{stem}.rate_share"] if size == PLAIN_HEAD else ()))
        found = find(stack, *keys)
        if found is not None:
            yield size, found


def attention_cost(
    shape: KernelShape, stack: StackLike, gpu: GpuLike, rows: tuple[KernelRow, ...], regime: Regime
) -> KernelCost:
    """An attention core by the formula, anchored on `rows` (of the regime). Raises MissingKernelError."""
    found = attention_constants(stack, shape, gpu.family)
    if found is None and not rows:
        raise missing(stack, shape, f"{_stem(shape, shape.library)}.*")
    library, constants, residual = found or (shape.library, GENERIC_ATTENTION, GENERIC_RESIDUAL)
    formula: Formula = partial(
        core_seconds, constants, core_limits(gpu, shape.dtype, _direction(shape), library), library
    )
    if not rows:
        return unanchored(formula(shape), residual)
    unanchored_s = None if found is None else formula(shape) / overlap_ratio(stack, "attention", regime)
    far = find(stack, f"{_stem(shape, library)}.{ANCHOR}")
    return anchored(
        shape, rows, formula, _attention_place, _attention_extents, residual, unanchored_s, far.value if far else FAR
    )


def core_limits(gpu: GpuLike, dtype: str, direction: str, library: str) -> CoreLimits:
    """A library's blocks on a GPU. Raises MissingKernelError where the GPU lacks the format."""
    return CoreLimits(
        peak_flop_per_s(gpu, dtype), gpu.num_sms, gpu.boost_clock_hz or TYPICAL_CLOCK_HZ,
        block_rows(library, gpu.family, direction), key_block(library), writes_scores(library),
    )  # fmt: skip


def core_seconds(constants: AttentionConstants, limits: CoreLimits, library: str, shape: KernelShape) -> float:
    """Seconds of an attention core alone: see the module's text."""
    wider = computed_head(shape, library) / shape.head_dim_qk
    pair = wider * shape.flop_per_pair * limits.num_sms / (constants.rate_share * limits.peak)
    pair += constants.softmax_clocks / limits.clock_hz
    waves, keys, longest = _blocks(constants, limits, shape)
    busy = longest * max(waves + constants.tail * (math.ceil(waves) - waves), 1.0)
    if longest > keys:  # and never slower than with all blocks as long as the longest
        busy = min(busy, max(waves * keys + constants.tail * longest, longest))
    return constants.t0_s + busy * limits.rows * pair


def _blocks(constants: AttentionConstants, limits: CoreLimits, shape: KernelShape) -> tuple[float, float, float]:
    """Blocks over SMs; keys of a block, on the mean and of the longest one, what a block costs besides them counted as keys."""
    if not shape.documents:
        share = shape.flop / shape.attention_flop if shape.flop else 1.0
        sides = shape.seq, shape.keys or shape.seq
        waves = shape.batch * shape.heads * math.ceil(_sides(shape, *sides)[0] / limits.rows) / limits.num_sms
        return waves, *_keys(constants, limits, shape, sides, share)
    waves = keys = longest = 0.0
    missing = 1.0  # share of calls whose longest document is still to come
    for each in sorted(shape.documents, reverse=True):
        own = each.number * shape.heads * math.ceil(_sides(shape, *each.sides)[0] / limits.rows) / limits.num_sms
        mean, most = _keys(constants, limits, shape, each.sides, each.attended / each.attended_by(causal=shape.causal))
        waves, keys, longest = waves + own, keys + own * mean, longest + min(missing, each.number) * most
        missing = max(0.0, missing - each.number)
    return waves, keys / waves, longest


def _keys(
    constants: AttentionConstants, limits: CoreLimits, shape: KernelShape, sides: tuple[float, float], share: float
) -> tuple[float, float]:
    """Keys of a block of one sequence or document, on the mean and of the longest one. sides: its queries and keys; share: of
    the pairs that these and the mask say.
    """
    edge = (limits.rows + limits.keys) / 2.0
    fixed = max(constants.c_tokens / 2.0 - edge, 0.0)
    rows, length = _sides(shape, *sides)
    if limits.whole:
        return length + fixed, length + fixed
    if not shape.causal:
        whole = length + fixed
        inside = min(share * length + 2.0 * edge + fixed, whole) if share < WINDOWED else whole
        return inside, inside
    queries, keys = sides
    mean = queries * (keys - queries / 2.0) / rows
    most = min(mean + constants.c_tokens / 2.0 - fixed, length) + fixed
    if share < WINDOWED:
        inside = min(share * mean + 2.0 * edge + fixed, most)
        return inside, inside
    return most, max(length + fixed, most)


def _sides(shape: KernelShape, queries: float, keys: float) -> tuple[float, float]:
    """What is cut into blocks, and what a block goes along: queries and keys, in a backward keys and queries."""
    return (queries, keys) if _direction(shape) == "fwd" else (keys, queries)


def _length(shape: KernelShape) -> float:
    """Tokens of a sequence with as many keys a query: twice the mean under a causal mask, less than seq with a window or with
    packed documents.
    """
    if shape.documents:
        pairs = math.fsum(each.number * each.queries * each.attended for each in shape.documents)
        return pairs / _queries(shape) * (2.0 if shape.causal else 1.0)
    mean = shape.attention_flop / (shape.flop_per_pair * shape.batch * shape.heads * shape.seq)
    length = mean * (2.0 if shape.causal else 1.0) if shape.keys else shape.seq
    return length * (shape.flop / shape.attention_flop if shape.flop else 1.0)


def _queries(shape: KernelShape) -> float:
    return math.fsum(each.number * each.queries for each in shape.documents)


def _calls(shape: KernelShape) -> float:
    """Sequences of a call, or documents of the length that most of its tokens have."""
    if not shape.documents:
        return float(shape.batch)
    squares = math.fsum(each.number * each.queries**2 for each in shape.documents)
    return _queries(shape) ** 2 / squares


def _attention_place(shape: KernelShape) -> tuple[float, ...]:
    """Half the log2 of the sequence and of batch * heads (long known to the formula), head sizes, key sharing, mask."""
    sharing = math.log2(shape.heads / (shape.kv_heads or shape.heads))
    return (
        0.5 * math.log2(_length(shape)),
        0.5 * math.log2(_calls(shape) * shape.heads),
        2.0 * math.log2(shape.head_dim_qk),
        2.0 * math.log2(shape.head_dim_v),
        0.25 * sharing,
        0.0 if shape.causal else 1.0,
    )


def _attention_extents(shape: KernelShape) -> tuple[float, ...]:
    return math.log2(_length(shape)), float(shape.head_dim_qk), float(shape.head_dim_v)
