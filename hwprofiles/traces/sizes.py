"""From an operator's inputs to a row of kernels.csv: which kernel of the catalogue it is, and its sizes.

A rule is a function of one operator's call that gives the cells of a row, or raises Unsized with the reason. Bytes: every
operand read once, every result written once, as the measured kernels count them (what is repeated along a dimension once).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, Final

from hwprofiles.traces.calls import TimedCall
from hwprofiles.traces.trace import Operator

ITEM_BYTES: Final[Mapping[str, int]] = {
    "float": 4, "double": 8, "c10::BFloat16": 2, "c10::Half": 2, "c10::Float8_e4m3fn": 1, "c10::Float8_e5m2": 1, "bool": 1,
    "unsigned char": 1, "signed char": 1, "short int": 2, "int": 4, "long int": 8, "long": 8,
}  # fmt: skip
"""Types as the profiler writes them → bytes of a number."""
DTYPES: Final[Mapping[str, str]] = {"float": "fp32", "c10::BFloat16": "bf16", "c10::Half": "fp16"}
WIDEST: Final = ("c10::Half", "c10::BFloat16", "float", "double")
"""Of two formats in one operator the result has the later one."""
EIGHT_BITS: Final = "c10::Float8"
ATTENTION_KERNELS: Final = (
    ("cudnn", re.compile(r"cudnn.*(sdpa|flash)")),
    ("fa3", re.compile(r"FlashAttn(Fwd|Bwd)|compute_attn")),
    ("fa2", re.compile(r"flash_(fwd|bwd)")),
)
"""Library (a key of kernels.attention_libraries) → names of its kernels."""
Cells = dict[str, Any]
Rule = Callable[[TimedCall], Cells]


class Unsized(ValueError):
    """Why a call gives no row."""


def cells_of(call: TimedCall) -> Cells:
    """Cells of a row: op, variant, dtype and sizes. Raises Unsized."""
    operator = call.operator
    rule = RULES.get(operator.name)
    if rule is None:
        raise Unsized("no kernel of the catalogue stands for the operator")
    if not operator.dims:
        raise Unsized("the trace has no sizes of it")
    try:
        return rule(call)
    except (IndexError, TypeError, ZeroDivisionError):
        raise Unsized("its sizes are not as this operator has them") from None


def _dims(operator: Operator, place: int, rank: int | None = None) -> tuple[int, ...]:
    """Of a tensor. Raises Unsized where it has another number of dimensions than `rank`."""
    dims = operator.dims[place]
    if not all(isinstance(size, int) for size in dims) or rank not in (None, len(dims)):
        raise Unsized("its sizes are not as this operator has them")
    return tuple(dims)


def _dtype(operator: Operator, place: int) -> str:
    kind = operator.types[place]
    if kind not in DTYPES:
        raise Unsized(f"operands of {kind or 'no type'}")
    return DTYPES[kind]


# GEMMs


def _dense(call: TimedCall, first: int) -> Cells:
    operator = call.operator
    (m, k), (same, n) = _dims(operator, first, 2), _dims(operator, first + 1, 2)
    if k != same:
        raise Unsized("its sizes are not as this operator has them")
    return {"op": "gemm", "variant": _variant(call, first, m, n, k), "dtype": _dtype(operator, first),
            "m": m, "n": n, "k": k, "groups": 1}  # fmt: skip


def _variant(call: TimedCall, first: int, m: int, n: int, k: int) -> str:
    """A backward's GEMM over the rows of the gradient is the weight's gradient, over its columns the input's."""
    if call.of is None:
        return "fprop"
    gradient: tuple[int, ...] = _dims(call.of, 0) if call.of.dims else ()
    columns, rows = max(gradient[-1:], default=0), prod(gradient[:-1])
    if k == rows != columns and (m == columns or n == columns):
        return "wgrad"
    strides: tuple[Any, ...] = call.operator.strides[first] if len(call.operator.strides) > first else ()
    if rows != columns and k == columns:
        return "dgrad"
    return "wgrad" if len(strides) == 2 and strides[0] == 1 and strides[1] >= m > 1 else "dgrad"


def _scaled(call: TimedCall) -> Cells:
    operator = call.operator
    (m, k), (_, n) = _dims(operator, 0, 2), _dims(operator, 1, 2)
    return {"op": "gemm", "variant": _variant(call, 0, m, n, k), "dtype": _scaling(operator, m, 2),
            "m": m, "n": n, "k": k, "groups": 1}  # fmt: skip


def _scaling(operator: Operator, m: int, place: int) -> str:
    """Operands of 8 bits by the number of their scales: one, one a row, or one a block."""
    if not operator.types[0].startswith(EIGHT_BITS):
        raise Unsized(f"operands of {operator.types[0] or 'no type'}")
    scales = operator.dims[place]
    while scales and isinstance(scales[0], tuple):
        scales = scales[0]
    count = prod(scales)
    if count == 1:
        return "fp8-tensor"
    return "fp8-row" if count == m else "fp8-block"


def _grouped(call: TimedCall, offsets: int = 2) -> Cells:
    """m rows over all groups times a weight a group; both of two dimensions: the weights' gradients."""
    operator = call.operator
    one, other = _dims(operator, 0), _dims(operator, 1)
    groups = _dims(operator, offsets, 1)[0] if operator.dims[offsets] else 0
    is_scaled = operator.types[0].startswith(EIGHT_BITS)
    dtype = "fp8-row" if is_scaled else _dtype(operator, 0)
    if len(one) == 2 and len(other) == 2 and groups:
        return {"op": "grouped_gemm", "variant": "wgrad", "dtype": dtype,
                "m": one[0], "n": other[1], "k": one[1], "groups": groups}  # fmt: skip
    if len(one) == 2 and len(other) == 3:
        variant = "fprop" if call.of is None else "dgrad"
        return {"op": "grouped_gemm", "variant": variant, "dtype": dtype,
                "m": one[0], "n": other[2], "k": one[1], "groups": other[0]}  # fmt: skip
    raise Unsized("its sizes are not as this operator has them")


# Attention


def _attention(call: TimedCall, op: str, causal: int, mask: int | None, heads_first: bool) -> Cells:
    """causal: place of the flag; mask: of an additive mask; heads_first: (batch, heads, seq, size), else sequence first. The
    library by the kernels' names; "": one that the catalogue has no name for.
    """
    operator = call.operator
    first = 0 if op == "attention_fwd" else 1
    query, key, value = (_dims(operator, first + place, 4) for place in range(3))
    if mask is not None and operator.dims[mask]:
        raise Unsized("attention under a mask that is given as numbers")
    if len(operator.values) <= causal or operator.values[causal] not in ("True", "False", "0", "1"):
        raise Unsized("whether its mask is causal is not recorded")
    seq, heads = (2, 1) if heads_first else (1, 2)
    if query[seq] != key[seq]:
        raise Unsized("attention of other numbers of queries than keys")
    return {
        "op": op, "variant": "", "dtype": _dtype(operator, first), "batch": query[0], "seq": query[seq],
        "heads": query[heads], "kv_heads": key[heads], "head_dim_qk": query[3], "head_dim_v": value[3],
        "causal": "true" if operator.values[causal] in ("True", "1") else "false",
        "library": next((name for name, pattern in ATTENTION_KERNELS if pattern.search(" ".join(call.kernels))), ""),
    }  # fmt: skip


# Kernels bound by memory


def _operand(operator: Operator, place: int) -> tuple[int, int]:
    """(numbers, bytes) of a tensor, numbers that a stride of 0 repeats counted once. Raises Unsized: a type without a size."""
    dims = _dims(operator, place)
    strides = operator.strides[place] if len(operator.strides) > place else ()
    kept = dims if len(strides) != len(dims) else [size for size, step in zip(dims, strides, strict=True) if step]
    kind = operator.types[place]
    if kind not in ITEM_BYTES:
        raise Unsized(f"operands of {kind or 'no type'}")
    return prod(dims), prod(kept) * ITEM_BYTES[kind]


def _tensors(operator: Operator) -> list[int]:
    """Places of the inputs that are tensors of more than one number."""
    return [place for place, kind in enumerate(operator.types)
            if kind in ITEM_BYTES and operator.dims[place] and prod(operator.dims[place]) > 1]  # fmt: skip


def _is_dense(operator: Operator, place: int) -> bool:
    """Whether a tensor lies in memory without holes, in the order of its dimensions; unknown strides count as such."""
    dims = operator.dims[place]
    strides = operator.strides[place] if len(operator.strides) > place else ()
    if len(strides) != len(dims):
        return True
    step = 1
    for size, stride in zip(reversed(dims), reversed(strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _pointwise(call: TimedCall) -> Cells:
    operator = call.operator
    places = _tensors(operator)
    if not places:
        raise Unsized("an operator on single numbers")
    is_in_place = operator.name.endswith("_")
    most = max(places, key=lambda place: (place == 0 and is_in_place, prod(operator.dims[place])))
    elements, read = prod(operator.dims[most]), sum(_operand(operator, place)[1] for place in places)
    kinds = {operator.types[place] for place in places}
    floats = [kind for kind in WIDEST if kind in kinds]
    result = operator.types[most] if is_in_place or not floats else floats[-1]
    if any(not _is_dense(operator, place) and not _is_repeated(operator, place) for place in places):
        op = "elementwise_strided"
    elif any(prod(operator.dims[place]) != elements or _is_repeated(operator, place) for place in places):
        op = "elementwise_broadcast"
    else:
        op = "elementwise_mixed" if len(kinds) > 1 else "elementwise"
    if op == "elementwise" and len(places) == 2 and operator.name in ("aten::add", "aten::add_"):
        op = "add"
    return _moved(op, result, elements, read + elements * ITEM_BYTES[result])


def _is_repeated(operator: Operator, place: int) -> bool:
    strides = operator.strides[place] if len(operator.strides) > place else ()
    return any(step == 0 and size > 1 for size, step in zip(operator.dims[place], strides, strict=False))


def _moved(op: str, kind: str, elements: int, num_bytes: int) -> Cells:
    return {"op": op, "variant": "", "dtype": DTYPES.get(kind, ""), "m": elements, "n": 1, "bytes": num_bytes}


def _copy(call: TimedCall) -> Cells:
    operator = call.operator
    elements, written = _operand(operator, 0)
    _, read = _operand(operator, 1)
    if operator.types[0] != operator.types[1]:
        op = "cast"
    else:
        op = "copy" if _is_dense(operator, 0) and _is_dense(operator, 1) else "strided_copy"
    return _moved(op, operator.types[1], elements, read + written)


def _fill(call: TimedCall) -> Cells:
    elements, written = _operand(call.operator, 0)
    return _moved("fill", call.operator.types[0], elements, written)


def _reduce(call: TimedCall) -> Cells:
    """Over the last dimension, or over all but the last."""
    operator = call.operator
    dims = _dims(operator, 0)
    over = (
        {int(text) % len(dims) for text in re.findall(r"-?\d+", operator.values[1])}
        if len(operator.values) > 1
        else set()
    )
    last = len(dims) - 1
    if over == {last}:
        op, kept = "reduce", prod(dims[:-1])
    elif over == set(range(last)) and last:
        op, kept = "reduce_columns", dims[-1]
    else:
        raise Unsized("a sum over other dimensions than the last or all before it")
    elements, read = _operand(operator, 0)
    return _moved(op, operator.types[0], elements, read + kept * ITEM_BYTES[operator.types[0]])


def _softmax(call: TimedCall, op: str, operands: int) -> Cells:
    elements, read = _operand(call.operator, 0)
    return _moved(op, call.operator.types[0], elements, read * (operands + 1))


def _rows(call: TimedCall, table: int, index: int, width_from: int) -> Cells:
    """Rows of a table by an index."""
    operator = call.operator
    width = prod(_dims(operator, table)[width_from:])
    count, read = _operand(operator, index)
    item = ITEM_BYTES[operator.types[table]]
    return _moved("gather_rows", operator.types[table], count * width, read + 2 * count * width * item)


def _adamw(call: TimedCall) -> Cells:
    """Gradient read; weight and both moments read and written; all of the format that the kernel's name tells."""
    kind = _of_name(call.kernels, r"MathFunctor<(float|double|c10::BFloat16|c10::Half)")
    count = sum(prod(dims) for dims in call.operator.dims[0])
    if not count or not all(isinstance(dims, tuple) for dims in call.operator.dims[0]):
        raise Unsized("the trace has no sizes of its lists")
    return _moved("adamw", kind, count, 7 * count * ITEM_BYTES[kind])


def _cat(call: TimedCall) -> Cells:
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


POINTWISE: Final = (
    "add", "sub", "mul", "div", "addcmul", "addcdiv", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "pow", "silu",
    "silu_backward", "sigmoid", "sigmoid_backward", "gelu", "gelu_backward", "relu", "tanh", "tanh_backward",
    "threshold_backward", "masked_fill", "clamp", "clamp_min", "where",
)  # fmt: skip

RULES: Final[Mapping[str, Rule]] = {
    "aten::mm": partial(_dense, first=0),
    "aten::addmm": partial(_dense, first=1),
    "aten::_addmm_activation": partial(_dense, first=1),
    "aten::_scaled_mm": _scaled,
    "aten::_scaled_mm_v2": _scaled,
    "aten::_grouped_mm": _grouped,
    "aten::_scaled_grouped_mm": partial(_grouped, offsets=4),
    "aten::_flash_attention_forward": partial(_attention, op="attention_fwd", causal=8, mask=None, heads_first=False),
    "aten::_flash_attention_backward": partial(_attention, op="attention_bwd", causal=11, mask=None, heads_first=False),
    "aten::_scaled_dot_product_flash_attention": partial(
        _attention, op="attention_fwd", causal=4, mask=None, heads_first=True
    ),
    "aten::_scaled_dot_product_flash_attention_backward": partial(
        _attention, op="attention_bwd", causal=11, mask=None, heads_first=True
    ),
    "aten::_cudnn_attention_forward": partial(_attention, op="attention_fwd", causal=10, mask=3, heads_first=True),
    "aten::_cudnn_attention_backward": partial(_attention, op="attention_bwd", causal=14, mask=8, heads_first=True),
    "aten::_scaled_dot_product_cudnn_attention": partial(
        _attention, op="attention_fwd", causal=6, mask=3, heads_first=True
    ),
    "aten::_scaled_dot_product_cudnn_attention_backward": partial(
        _attention, op="attention_bwd", causal=14, mask=8, heads_first=True
    ),
    "aten::_efficient_attention_forward": partial(_attention, op="attention_fwd", causal=9, mask=3, heads_first=False),
    "aten::_efficient_attention_backward": partial(
        _attention, op="attention_bwd", causal=14, mask=4, heads_first=False
    ),
    **{f"aten::{name}{end}": _pointwise for name in POINTWISE for end in ("", "_")},
    "aten::copy_": _copy,
    "aten::fill_": _fill,
    "aten::zero_": _fill,
    "aten::sum": _reduce,
    "aten::mean": _reduce,
    "aten::_softmax": partial(_softmax, op="softmax", operands=1),
    "aten::_log_softmax": partial(_softmax, op="softmax", operands=1),
    "aten::_softmax_backward_data": partial(_softmax, op="softmax_bwd", operands=2),
    "aten::_log_softmax_backward_data": partial(_softmax, op="softmax_bwd", operands=2),
    "aten::index_select": partial(_rows, table=0, index=2, width_from=1),
    "aten::embedding": partial(_rows, table=0, index=1, width_from=1),
    "aten::_fused_adamw_": _adamw,
    "aten::_fused_adam_": _adamw,
    "aten::cat": _cat,
}
"""Operator → its rule. One entry here is all that another operator needs."""
