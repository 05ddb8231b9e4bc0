"""torch's functions on a tape: bytes and kernels of each and of its derivative, and what autograd keeps.

Derivatives: pytorch tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp. Every operand is read and
written once by each kernel. Views launch nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from simulator.workload.plain.tape import SIZES, Arrived, Tape, Value

INDEX_KERNELS: Final = 8
"""Kernels of index_put_ as calibration counts them (calibration/rates/rows.py): indices wrapped and flattened (4), sorted by
few bits (4, fills left out), added."""
EMBEDDING_KERNELS: Final = 8
"""Of an embedding's gradient, its zeros left out: sorted, found again, rows added and scattered (calibration/rates/rows.py)."""


def cast(t: Tape, x: Value, dtype: str) -> Value:
    """x.to(dtype); nothing where it has it already."""
    if x.dtype == dtype:
        return x
    convert(t, x.elements, x.dtype, dtype)
    out = t.value(x.elements, x.width, dtype, is_strided=x.is_strided and not x.is_sliced, has_grad=x.has_grad)

    def back(strided: bool) -> Iterator[Arrived]:
        convert(t, x.elements, dtype, x.dtype)
        yield x, strided

    return t.put(out, back, temporary=x.num_bytes)


def convert(t: Tape, elements: int, source: str, target: str) -> None:
    """The kernel of a conversion: one that widens takes an element at a time, one that narrows several."""
    t.launch("cast", elements, elements * SIZES[source], elements * SIZES[target], library=f"torch-to-{target}")


def _pointwise(*operands: bool) -> str:
    return "elementwise_strided" if any(operands) else "elementwise"


HEAD: Final = 256
"""Width up to which rows are those of heads: sums along them, or over so few columns, are slower."""


def _of_heads(x: Value) -> str:
    return "torch-heads" if x.width <= HEAD else ""


def square(t: Tape, x: Value) -> Value:
    """x.pow(2). Backward: x to the power of 1, which copies, times 2, times the gradient."""
    n = x.num_bytes
    t.launch(_pointwise(x.is_strided), x.elements, n, n)
    t.keep(x, "squared")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("copy", x.elements, n, n)
        t.launch(_pointwise(x.is_strided), x.elements, n, n)
        t.launch(_pointwise(x.is_strided, strided), x.elements, 2 * n, n)
        yield x, False

    return t.put(t.value(x.elements, x.width, x.dtype), back)


def mean(t: Tape, x: Value) -> Value:
    """x.mean(-1, keepdim=True). Backward: the row's gradient divided and written to the whole row."""
    rows = x.rows * SIZES[x.dtype]
    t.launch("reduce", x.elements, x.num_bytes, rows, library=_of_heads(x), width=x.width)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("elementwise_broadcast", x.elements, rows, x.num_bytes)
        yield x, False

    return t.put(t.value(x.rows, 1, x.dtype), back, temporary=x.num_bytes)


def inverse_root(t: Tape, x: Value) -> Value:
    """torch.rsqrt(x + eps). Backward: result to the power of 3, times -1/2, times the gradient."""
    n = x.num_bytes
    t.launch("elementwise", 2 * x.elements, 2 * n, 2 * n, 2)
    out = t.value(x.elements, x.width, x.dtype)
    t.keep(out, "inverse_root")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("elementwise", 3 * x.elements, 4 * n, 3 * n, 3)
        yield x, False

    return t.put(out, back)


def _broadcast(is_strided: bool) -> str:
    return "elementwise_strided" if is_strided else "elementwise_broadcast"


def times_rows(t: Tape, x: Value, rows: Value) -> Value:
    """x times one number a row, of which a gradient is wanted too: the product summed over the row. In the wider format of
    both; the gradient of a narrower x is converted back.
    """
    is_mixed = rows.dtype != x.dtype
    wide, few = x.elements * SIZES[rows.dtype], rows.num_bytes
    scaling = "elementwise_mixed" if is_mixed else "elementwise_broadcast"
    t.launch(scaling, x.elements, x.num_bytes + few, wide)
    t.keep(x, "scaled")
    t.keep(rows, "scales")

    def back(strided: bool) -> Iterator[Arrived]:
        product = "elementwise_mixed" if is_mixed else _pointwise(strided, x.is_strided)
        t.launch(product, x.elements, wide + x.num_bytes, wide)
        t.launch("elementwise_broadcast", x.elements, wide + few, wide)
        t.launch("reduce", x.elements, wide, few, library=_of_heads(x), width=x.width)
        if is_mixed:
            convert(t, x.elements, rows.dtype, x.dtype)
        yield rows, False
        yield x, strided

    return t.put(t.value(x.elements, x.width, rows.dtype, is_strided=x.is_strided and not x.is_sliced), back)


def times_weight(t: Tape, x: Value) -> Value:
    """x times a parameter that is one row for all; its gradient is summed over the rows."""
    n = x.num_bytes
    t.launch("elementwise_broadcast", x.elements, n, n)
    t.keep(x, "normed")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("elementwise_broadcast", x.elements, n, n)
        t.launch(_pointwise(strided, x.is_strided), x.elements, 2 * n, n)
        t.launch("reduce_columns", x.elements, n, x.width * SIZES[x.dtype], 2, _of_heads(x))
        yield x, strided

    return t.put(t.value(x.elements, x.width, x.dtype, is_strided=x.is_strided), back)


def times_table(t: Tape, x: Value) -> Value:
    """x times numbers that all heads share and that want no gradient (cosines, sines)."""
    return _mapped(t, x, _broadcast)


def negated(t: Tape, x: Value) -> Value:
    """-x."""
    return _mapped(t, x, _pointwise)


def _mapped(t: Tape, x: Value, kernel: Callable[[bool], str]) -> Value:
    """Every number by itself, its gradient by the same kernel; nothing is kept. kernel: of whether x lies out of order."""
    n = x.num_bytes
    t.launch(kernel(x.is_strided), x.elements, n, n)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch(kernel(strided), x.elements, n, n)
        yield x, strided

    return t.put(t.value(x.elements, x.width, x.dtype, is_strided=x.is_strided and not x.is_sliced), back)


def by_result(t: Tape, x: Value, kernels: tuple[str, str], name: str, *, temporary: int = 0) -> Value:
    """A function whose gradient follows from its result, which is kept as `name`.

    kernels: forward, backward; temporary: as of Tape.put.
    """
    n, out = x.num_bytes, t.value(x.elements, x.width, x.dtype)
    width = x.width if kernels[0] == "softmax" else 0
    t.launch(kernels[0], x.elements, n, n, width=width)
    t.keep(out, name)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch(kernels[1], x.elements, 2 * n, n, width=width)
        yield x, False

    return t.put(out, back, temporary=temporary)


def times(t: Tape, a: Value, b: Value) -> Value:
    """Product of two tensors of one shape."""
    n = a.num_bytes
    t.launch(_pointwise(a.is_strided, b.is_strided), a.elements, 2 * n, n)
    t.keep(a, "factor")
    t.keep(b, "factor")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch(_pointwise(strided, a.is_strided), a.elements, 2 * n, n)
        t.launch(_pointwise(strided, b.is_strided), a.elements, 2 * n, n)
        yield b, False
        yield a, False

    return t.put(t.value(a.elements, a.width, a.dtype), back)


def plus(t: Tape, a: Value, b: Value) -> Value:
    """Sum (or difference) of two tensors of one shape."""
    n = a.num_bytes
    t.launch(_pointwise(a.is_strided, b.is_strided), a.elements, 2 * n, n)

    def back(strided: bool) -> Iterator[Arrived]:
        yield b, strided
        yield a, strided

    is_strided = a.is_strided and not a.is_sliced
    return t.put(t.value(a.elements, a.width, a.dtype, is_strided=is_strided), back, temporary=2 * n)


def activated(t: Tape, x: Value) -> Value:
    """silu(x), gelu(x)."""
    n = x.num_bytes
    t.launch(_pointwise(x.is_strided), x.elements, n, n)
    t.keep(x, "activated")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch(_pointwise(x.is_strided, strided), x.elements, 2 * n, n)
        yield x, False

    return t.put(t.value(x.elements, x.width, x.dtype), back)


def sliced(t: Tape, x: Value, width: int) -> Value:
    """x[..., first:first + width]. Backward: zeros of the whole, into which the gradient is copied."""
    part = t.view(x, elements=x.rows * width, width=width, is_strided=True, is_sliced=True)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("fill", x.elements, 0, x.num_bytes)
        t.launch("strided_copy", part.elements, part.num_bytes, part.num_bytes)
        yield x, False

    return t.put(part, back)


def split(t: Tape, x: Value, *widths: int) -> tuple[Value, ...]:
    """x.split(widths, -1). Backward: the parts' gradients put side by side, once."""
    parts = [t.view(x, elements=x.rows * width, width=width, is_strided=True, is_sliced=True) for width in widths]

    def first(strided: bool) -> Iterator[Arrived]:
        t.launch("cat", x.elements, x.num_bytes, x.num_bytes)
        yield x, False

    t.put(parts[0], first)
    for part in parts[1:]:
        t.put(part, lambda strided: iter(()))
    return tuple(parts)


def joined(t: Tape, *parts: Value, kernels: int = 1) -> Value:
    """torch.cat(parts, -1), or a copy of each part into its place (kernels: as many). Backward: views of the gradient. Parts
    that do not lie in order, such as slices of heads, take a slower kernel.
    """
    elements, width = sum(part.elements for part in parts), sum(part.width for part in parts)
    size = elements * SIZES[parts[0].dtype]
    is_strided = any(part.is_strided for part in parts)
    t.launch("cat", elements, size, size, kernels, "torch-heads" if is_strided else "")

    def back(strided: bool) -> Iterator[Arrived]:
        for part in parts:
            yield part, True

    return t.put(t.value(elements, width, parts[0].dtype), back)


def transposed(t: Tape, x: Value) -> Value:
    """Tokens and heads exchanged: what lay in order does no longer, and the other way round."""
    is_strided = x.is_sliced or not x.is_strided

    def back(strided: bool) -> Iterator[Arrived]:
        yield x, not strided

    return t.put(t.view(x, is_strided=is_strided, is_sliced=x.is_sliced), back)


def contiguous(t: Tape, x: Value) -> Value:
    """A copy in order, where it is not; backward the same of the gradient."""
    if not x.is_strided:
        return x
    n = x.num_bytes
    t.launch("strided_copy", x.elements, n, n)

    def back(strided: bool) -> Iterator[Arrived]:
        yield x, strided

    return t.put(t.value(x.elements, x.width, x.dtype), back)


def masked(t: Tape, x: Value) -> Value:
    """x.masked_fill(rows, 0): a copy, and the fill of it; the gradient alike."""
    n = x.num_bytes

    def work() -> None:
        t.launch("copy", x.elements, n, n)
        t.launch("elementwise_broadcast", x.elements, n + x.rows, n, library="torch-masked")

    def back(strided: bool) -> Iterator[Arrived]:
        work()
        yield x, False

    work()
    return t.put(t.value(x.elements, x.width, x.dtype), back, temporary=n)


def masked_in_place(t: Tape, x: Value) -> Value:
    """x.masked_fill_(rows, 0); its gradient is copied and filled."""
    n = x.num_bytes
    t.launch("elementwise_broadcast", x.elements, n + x.rows, n, library="torch-masked")

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("copy", x.elements, n, n)
        t.launch("elementwise_broadcast", x.elements, n + x.rows, n, library="torch-masked")
        yield x, False

    return t.put(t.view(x, is_strided=x.is_strided), back)


def picked(t: Tape, x: Value, rows: int) -> Value:
    """x[index]: rows of it. Backward: zeros; rows of the gradient, by the sorted index, added to where they came from; of
    single numbers the sort is all that takes time.
    """
    size, is_wide = rows * x.width * SIZES[x.dtype], x.width > 1
    t.launch("gather_rows" if is_wide else "elementwise", rows * x.width, size + 8 * rows, size)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("fill", x.elements, 0, x.num_bytes)
        if is_wide:
            t.launch("index_put", rows * x.width, 2 * size, size, INDEX_KERNELS)
        else:
            t.launch("sort", rows, 16 * rows, 8 * rows, library="torch-flat")
        yield x, False

    return t.put(t.value(rows * x.width, x.width, x.dtype), back)


def summed(t: Tape, x: Value, terms: int) -> Value:
    """x.view(-1, terms, width).sum(1). Backward: the gradient written to each term."""
    out = t.value(x.elements // terms, x.width, x.dtype)
    t.launch("reduce", x.elements, x.num_bytes, out.num_bytes)

    def back(strided: bool) -> Iterator[Arrived]:
        t.launch("strided_copy", x.elements, out.num_bytes, x.num_bytes)
        yield x, False

    return t.put(out, back, temporary=x.num_bytes)
