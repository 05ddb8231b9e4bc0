"""Functions whose kernels are counted elsewhere, as GEMMs and attention cores: what they keep, and how their operands lie."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.workload.plain.functions import contiguous
from simulator.workload.plain.tape import Arrived, Tape, Value


def linear(t: Tape, x: Value, width: int, *, name: str = "input", rows: int | None = None) -> Value:
    """The product with a parameter, whose kernels are counted elsewhere: x in order, and the gradient before it is used."""
    x = contiguous(t, x)
    t.keep(x, name)
    out = t.value((x.rows if rows is None else rows) * width, width, x.dtype)

    def back(strided: bool) -> Iterator[Arrived]:
        if strided:
            t.launch("strided_copy", out.elements, out.num_bytes, out.num_bytes)
        yield x, False

    return t.put(out, back)


def attended(t: Tape, q: Value, k: Value, v: Value) -> Value:
    """The attention core, whose kernels are counted elsewhere: keeps its operands, its result and one FP32 number a query and
    head. Gradients lie as the operands do, tokens in front of heads.
    """
    for each, name in ((q, "q"), (k, "k"), (v, "v")):
        t.keep(each, name)
    out = t.value(q.rows * v.width, v.width, q.dtype, is_strided=True)
    t.keep(out, "out")
    t.keep(t.value(q.rows, 1, "fp32"), "log_sum_exp")

    def back(strided: bool) -> Iterator[Arrived]:
        yield v, True
        yield k, True
        yield q, True

    return t.put(out, back)
