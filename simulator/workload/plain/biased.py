"""Modules of gpt-oss where they differ: a norm whose weight is applied in FP32, halves rotated apart, experts with biases and
limits, a softmax over the chosen scores.

huggingface/transformers v5.17.0 src/transformers/models/gpt_oss/modeling_gpt_oss.py (GptOssRMSNorm, _apply_rotary_emb,
GptOssTopKRouter, GptOssExperts._apply_gate); integrations/moe.py (biases of sorted rows).
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario.model import MoeFfn
from simulator.workload.plain import functions as f
from simulator.workload.plain.tape import Arrived, Tape, Value


def rms_norm(t: Tape, x: Value) -> Value:
    """(weight * (x.float() * rsqrt(mean(x.float()^2) + eps))).to(x.dtype)."""
    exact = f.cast(t, x, "fp32")
    scales = f.inverse_root(t, f.mean(t, f.square(t, exact)))
    return f.cast(t, f.times_weight(t, f.times_rows(t, exact, scales)), x.dtype)


def rotary(t: Tape, x: Value) -> Value:
    """cat(first * cos - second * sin, second * cos + first * sin) of x.chunk(2, -1)."""
    first, second = f.split(t, x, x.width // 2, x.width // 2)
    one = f.plus(t, f.times_table(t, first), f.times_table(t, second))
    other = f.plus(t, f.times_table(t, second), f.times_table(t, first))
    return f.joined(t, one, other)


def router(t: Tape, logits: Value, m: MoeFfn) -> Value:
    """The best scores' softmax, in the scores' format."""
    few = logits.rows * m.top_k
    t.launch("topk", logits.elements, logits.num_bytes, 10 * few, 2, width=logits.width)
    t.launch("softmax", few, 2 * few, 2 * few, width=m.top_k)
    t.keep(t.value(few, m.top_k, "int64"), "chosen")

    def back(strided: bool) -> list[Arrived]:
        t.launch("softmax_bwd", few, 4 * few, 2 * few, width=m.top_k)
        t.launch("fill", logits.elements, 0, logits.num_bytes)
        t.launch("scatter_rows", few, 12 * few, 2 * few)
        return [(logits, False)]

    return t.put(t.value(few, 1), back)


def with_bias(t: Tape, x: Value, experts: int) -> Value:
    """x plus its expert's bias, a row of which is picked for each row."""
    return f.plus(t, x, f.picked(t, t.value(experts * x.width, x.width, is_weight=True), x.rows))


def gated(t: Tape, x: Value) -> Value:
    """(up + 1) * gate * sigmoid(1.702 * gate) of limited gate and up projections, which alternate in a row."""
    half = x.width // 2
    gate, up = _limited(t, f.sliced(t, x, half)), _limited(t, f.sliced(t, x, half))
    glu = f.times(t, gate, f.by_result(t, _by_number(t, gate), ("elementwise", "elementwise"), "sigmoid"))
    return f.times(t, _by_number(t, up, is_sum=True), glu)


def _limited(t: Tape, x: Value) -> Value:
    """x.clamp(…): its gradient where x is inside, by a mask of comparisons."""
    n = x.num_bytes
    t.launch("elementwise_strided", x.elements, n, n)
    t.keep(x, "limited")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("elementwise_strided", 2 * x.elements, n + n // 2, n // 2 + n, 2)
        yield x, False

    return t.put(t.value(x.elements, x.width, x.dtype), back)


def _by_number(t: Tape, x: Value, *, is_sum: bool = False) -> Value:
    """x times a number, or plus one, whose gradient is the result's."""
    n = x.num_bytes
    t.launch("elementwise", x.elements, n, n)

    def back(strided: bool) -> Iterator[Arrived]:
        if not is_sum:
            t.launch("elementwise", x.elements, n, n)
        yield x, strided

    return t.put(t.value(x.elements, x.width, x.dtype), back)
