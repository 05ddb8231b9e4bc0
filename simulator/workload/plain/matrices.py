"""Attention by matrices of all queries and keys, in functions of plain torch: where the softmax has scores that are no key's
(sinks), for which scaled_dot_product_attention has no kernel.

huggingface/transformers v5.17.0 src/transformers/models/gpt_oss/modeling_gpt_oss.py, eager_attention_forward: keys and values
repeated to a head of queries each, scores, scale, mask (causal, with the layer's window), sinks put behind, the row's maximum
taken off, softmax in BF16, sinks cut off, values. No pair is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.workload.plain import functions as f
from simulator.workload.plain.tape import Arrived, Tape, Value


def attended(t: Tape, q: Value, k: Value, v: Value, seq: int) -> Value:
    """q, k, v: (batch, heads, seq, head size), of fewer heads of k and v."""
    keys, values = _repeated(t, k, q.elements), _repeated(t, v, q.elements)
    scores = _masked(t, _scaled(t, _product(t, q, keys, seq, seq)))
    sinks = t.value(scores.rows, 1, is_strided=True, has_grad=False, is_weight=True)
    rows = f.joined(t, scores, sinks)
    below = _less_maximum(t, rows)
    shares = f.by_result(t, below, ("softmax", "softmax_bwd"), "shares", temporary=2 * below.num_bytes)
    shares = f.sliced(t, shares, seq)
    return _product(t, shares, values, v.width, seq)


def _repeated(t: Tape, x: Value, elements: int) -> Value:
    """A head of keys for every head of queries, copied; backward the copies' gradients summed."""
    if x.elements == elements:
        return x
    wide = t.value(elements, x.width)
    t.launch("strided_copy", elements, x.num_bytes, wide.num_bytes)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("reduce", elements, wide.num_bytes, x.num_bytes)
        yield x, False

    return t.put(wide, back)


def _product(t: Tape, a: Value, b: Value, width: int, seq: int) -> Value:
    """a b of each head: (rows, a's width) times (a's width, width); a's rows over seq are the heads of all sequences."""
    out = t.value(a.rows * width, width, a.dtype)
    t.multiply(a.rows, width, a.width)
    t.keep(a, "left")
    t.keep(b, "right")

    def back(strided: bool) -> Iterator[Arrived]:
        if strided:
            t.launch("strided_copy", out.elements, out.num_bytes, out.num_bytes)
        t.multiply(a.rows, a.width, width)
        t.multiply(a.rows // seq * a.width, width, seq)
        yield b, False
        yield a, False

    return t.put(out, back)


def _scaled(t: Tape, x: Value) -> Value:
    """x times a number."""
    n = x.num_bytes
    t.launch("elementwise", x.elements, n, n)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("elementwise_strided" if strided else "elementwise", x.elements, n, n)
        yield x, False

    return t.put(t.value(x.elements, x.width, x.dtype), back)


def _masked(t: Tape, x: Value) -> Value:
    """x plus a mask that all heads share."""
    n = x.num_bytes
    t.launch("elementwise_broadcast", x.elements, n, n)

    def back(strided: bool) -> Iterator[Arrived]:
        yield x, strided

    return t.put(t.value(x.elements, x.width, x.dtype), back)


def _less_maximum(t: Tape, x: Value) -> Value:
    """x - x.max(-1): the gradient of the maximum is the sum of a row's, put where it stood."""
    n, few = x.num_bytes, 2 * x.rows
    t.launch("reduce", x.elements, n, 5 * few, width=x.width)
    t.launch("elementwise_broadcast", x.elements, n + few, n)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("elementwise", x.elements, n, n)
        t.launch("reduce", x.elements, n, few, width=x.width)
        t.launch("fill", x.elements, 0, n)
        t.launch("scatter_rows", x.rows, 5 * few, few)
        t.launch("elementwise", x.elements, 2 * n, n)
        t.needs(3 * n)
        yield x, False

    return t.put(t.value(x.elements, x.width, x.dtype), back, temporary=2 * n)
