"""From an operator's inputs to a row of kernels.csv: which kernel of the catalogue it is, and its sizes.

A rule is a function of one operator's call that gives the cells of a row, or raises Unsized with the reason. Here those of
GEMMs and attention, and the table of all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any, Final

from hwprofiles.traces.calls import TimedCall
from hwprofiles.traces.memory_sizes import (
    POINTWISE,
    adamw,
    copied,
    filled,
    gathered,
    joined,
    pointwise,
    reduced,
    softmax,
)
from hwprofiles.traces.operands import Cells, Unsized, dims_of, dtype_of
from hwprofiles.traces.trace import Operator

EIGHT_BITS: Final = "c10::Float8"
ATTENTION_KERNELS: Final = (
    ("cudnn", re.compile(r"cudnn.*(sdpa|flash)")),
    ("fa3", re.compile(r"FlashAttn(Fwd|Bwd)|compute_attn")),
    ("fa2", re.compile(r"flash_(fwd|bwd)")),
)
"""Library (a key of kernels.attention_libraries) → names of its kernels."""
Rule = Callable[[TimedCall], Cells]


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


# GEMMs


def _dense(call: TimedCall, first: int) -> Cells:
    operator = call.operator
    (m, k), (same, n) = dims_of(operator, first, 2), dims_of(operator, first + 1, 2)
    if k != same:
        raise Unsized("its sizes are not as this operator has them")
    return {"op": "gemm", "variant": _variant(call, first, m, n, k), "dtype": dtype_of(operator, first),
            "m": m, "n": n, "k": k, "groups": 1}  # fmt: skip


def _variant(call: TimedCall, first: int, m: int, n: int, k: int) -> str:
    """A backward's GEMM over the rows of the gradient is the weight's gradient, over its columns the input's."""
    if call.of is None:
        return "fprop"
    gradient: tuple[int, ...] = dims_of(call.of, 0) if call.of.dims else ()
    columns, rows = max(gradient[-1:], default=0), prod(gradient[:-1])
    if k == rows != columns and (m == columns or n == columns):
        return "wgrad"
    strides: tuple[Any, ...] = call.operator.strides[first] if len(call.operator.strides) > first else ()
    if rows != columns and k == columns:
        return "dgrad"
    return "wgrad" if len(strides) == 2 and strides[0] == 1 and strides[1] >= m > 1 else "dgrad"


def _scaled(call: TimedCall) -> Cells:
    operator = call.operator
    (m, k), (_, n) = dims_of(operator, 0, 2), dims_of(operator, 1, 2)
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
    one, other = dims_of(operator, 0), dims_of(operator, 1)
    groups = dims_of(operator, offsets, 1)[0] if operator.dims[offsets] else 0
    is_scaled = operator.types[0].startswith(EIGHT_BITS)
    dtype = "fp8-row" if is_scaled else dtype_of(operator, 0)
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
    query, key, value = (dims_of(operator, first + place, 4) for place in range(3))
    if mask is not None and operator.dims[mask]:
        raise Unsized("attention under a mask that is given as numbers")
    if len(operator.values) <= causal or operator.values[causal] not in ("True", "False", "0", "1"):
        raise Unsized("whether its mask is causal is not recorded")
    seq, heads = (2, 1) if heads_first else (1, 2)
    if query[seq] != key[seq]:
        raise Unsized("attention of other numbers of queries than keys")
    return {
        "op": op, "variant": "", "dtype": dtype_of(operator, first), "batch": query[0], "seq": query[seq],
        "heads": query[heads], "kv_heads": key[heads], "head_dim_qk": query[3], "head_dim_v": value[3],
        "causal": "true" if operator.values[causal] in ("True", "1") else "false",
        "library": next((name for name, pattern in ATTENTION_KERNELS if pattern.search(" ".join(call.kernels))), ""),
    }  # fmt: skip


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
    **{f"aten::{name}{end}": pointwise for name in POINTWISE for end in ("", "_")},
    "aten::copy_": copied,
    "aten::fill_": filled,
    "aten::zero_": filled,
    "aten::sum": reduced,
    "aten::mean": reduced,
    "aten::_softmax": partial(softmax, op="softmax", operands=1),
    "aten::_log_softmax": partial(softmax, op="softmax", operands=1),
    "aten::_softmax_backward_data": partial(softmax, op="softmax_bwd", operands=2),
    "aten::_log_softmax_backward_data": partial(softmax, op="softmax_bwd", operands=2),
    "aten::index_select": partial(gathered, table=0, index=2, width_from=1),
    "aten::embedding": partial(gathered, table=0, index=1, width_from=1),
    "aten::_fused_adamw_": adamw,
    "aten::_fused_adam_": adamw,
    "aten::cat": joined,
}
"""Operator → its rule. One entry here is all that another operator needs."""
