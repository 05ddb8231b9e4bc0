"""Rules of operators that the memory bounds: which kernel of the catalogue a call is, its elements and bytes.

Bytes: every operand read once, every result written once, as the measured kernels count them (what is repeated along a
dimension once).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Final

from hwprofiles.traces.calls import TimedCall
from hwprofiles.traces.operands import (
    DTYPES,
    ITEM_BYTES,
    WIDEST,
    Cells,
    Unsized,
    dims_of,
    is_dense,
    is_repeated,
    operand,
    tensors,
)

POINTWISE: Final = (
    "add", "sub", "mul", "div", "addcmul", "addcdiv", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "pow", "silu",
    "silu_backward", "sigmoid", "sigmoid_backward", "gelu", "gelu_backward", "relu", "tanh", "tanh_backward",
    "threshold_backward", "masked_fill", "clamp", "clamp_min", "where",
)  # fmt: skip

"""Operators on tensors element by element, without "aten::" and the underscore of those that work in place."""


def pointwise(call: TimedCall) -> Cells:
    """By the operands: of one size and format, of two formats, broadcast, or not laid out densely."""
    operator = call.operator
    places = tensors(operator)
    if not places:
        raise Unsized("an operator on single numbers")
    is_in_place = operator.name.endswith("_")
    most = max(places, key=lambda place: (place == 0 and is_in_place, prod(operator.dims[place])))
    elements, read = prod(operator.dims[most]), sum(operand(operator, place)[1] for place in places)
    kinds = {operator.types[place] for place in places}
    floats = [kind for kind in WIDEST if kind in kinds]
    result = operator.types[most] if is_in_place or not floats else floats[-1]
    if any(not is_dense(operator, place) and not is_repeated(operator, place) for place in places):
        op = "elementwise_strided"
    elif any(prod(operator.dims[place]) != elements or is_repeated(operator, place) for place in places):
        op = "elementwise_broadcast"
    else:
        op = "elementwise_mixed" if len(kinds) > 1 else "elementwise"
    if op == "elementwise" and len(places) == 2 and operator.name in ("aten::add", "aten::add_"):
        op = "add"
    return _moved(op, result, elements, read + elements * ITEM_BYTES[result])


def _moved(op: str, kind: str, elements: int, num_bytes: int, width: int = 1) -> Cells:
    """width: of the rows of a kernel that works by rows."""
    sizes = {"m": elements // max(width, 1), "n": width, "bytes": num_bytes}
    return {"op": op, "variant": "", "dtype": DTYPES.get(kind, ""), **sizes}


def copied(call: TimedCall) -> Cells:
    """Between formats, between layouts, or plain."""
    operator = call.operator
    elements, written = operand(operator, 0)
    _, read = operand(operator, 1)
    if operator.types[0] != operator.types[1]:
        op = "cast"
    else:
        op = "copy" if is_dense(operator, 0) and is_dense(operator, 1) else "strided_copy"
    return _moved(op, operator.types[1], elements, read + written)


def filled(call: TimedCall) -> Cells:
    """Written alone."""
    elements, written = operand(call.operator, 0)
    return _moved("fill", call.operator.types[0], elements, written)


def reduced(call: TimedCall) -> Cells:
    """Over the last dimension, or over all but the last."""
    operator = call.operator
    dims = dims_of(operator, 0)
    over = (
        {int(text) % len(dims) for text in re.findall(r"-?\d+", operator.values[1])}
        if len(operator.values) > 1
        else set()
    )
    last = len(dims) - 1
    if over == {last}:
        op, kept, width = "reduce", prod(dims[:-1]), dims[-1]
    elif over == set(range(last)) and last:
        op, kept, width = "reduce_columns", dims[-1], dims[-1]
    else:
        raise Unsized("a sum over other dimensions than the last or all before it")
    elements, read = operand(operator, 0)
    return _moved(op, operator.types[0], elements, read + kept * ITEM_BYTES[operator.types[0]], width)


def softmax(call: TimedCall, op: str, operands: int) -> Cells:
    """operands: tensors that are read, of the result's size."""
    elements, read = operand(call.operator, 0)
    width = dims_of(call.operator, 0)[-1]
    return _moved(op, call.operator.types[0], elements, read * (operands + 1), width)


def gathered(call: TimedCall, table: int, index: int, width_from: int) -> Cells:
    """Rows of a table by an index."""
    operator = call.operator
    width = prod(dims_of(operator, table)[width_from:])
    count, read = operand(operator, index)
    item = ITEM_BYTES[operator.types[table]]
    return _moved("gather_rows", operator.types[table], count * width, read + 2 * count * width * item)


def adamw(call: TimedCall) -> Cells:
    """Gradient read; weight and both moments read and written; all of the format that the kernel's name tells."""
    kind = _of_name(call.kernels, r"MathFunctor<(float|double|c10::BFloat16|c10::Half)")
    count = sum(prod(dims) for dims in call.operator.dims[0])
    if not count or not all(isinstance(dims, tuple) for dims in call.operator.dims[0]):
        raise Unsized("the trace has no sizes of its lists")
    return _moved("adamw", kind, count, 7 * count * ITEM_BYTES[kind])


def joined(call: TimedCall) -> Cells:
    """Numbers of the size that the kernel's name tells."""
    found = re.search(r"CatArrayBatchedCopy\w*<.*?OpaqueType<(\d+)u?>", " ".join(call.kernels))
    count = sum(prod(dims) for dims in call.operator.dims[0] if isinstance(dims, tuple))
    if found is None or not count:
        raise Unsized("the trace has no sizes of its lists")
    return _moved("cat", "", count, 2 * count * int(found[1]))


def _of_name(kernels: Sequence[str], pattern: str) -> str:
    found = re.search(pattern, " ".join(kernels))
    if found is None:
        raise Unsized("the kernel's name does not tell its format")
    return found[1]
