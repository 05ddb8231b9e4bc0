"""The functions of torch that modules without kernels of their own are made of, one launch each: by kind, in BF16 and FP32.

Library torch: calls of a kind together; torch-…: those that differ by much, by themselves.

elementwise, _mixed, _broadcast, _strided; casts; sums of rows and of columns; softmax; slices made contiguous; joined; filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch.nn import functional

from hwprofiles.calibration.rates.moved import COARSE, GRID, Kernel

FORMATS: Final = {"bf16": torch.bfloat16, "fp32": torch.float32}
HEAD_DIM: Final = 128
SCORES: Final = ((512, 2048), (2048, 4096), (8192, 4096), (16_384, 7168))

HEADS: Final = ((16_384, 128), (131_072, 128), (524_288, 128), (2_097_152, 128))
"""Rows of all heads, width of one."""
KEY: Final = (128, 64)
"""Of MLA: numbers of a key that a head has for itself, and that all heads share."""
KEYS: Final = ((1024, 3072), (4096, 3072), (4096, 24_576), (16_384, 3072))

Make = Callable[[Any, int, int], tuple[Any, ...]]


def numbers(device: Any, dtype: Any, *shape: int) -> Any:
    """Normally distributed."""
    return torch.randn(*shape, device=device, dtype=dtype)


def copied(to: Any, x: Any) -> Any:
    """Contiguous."""
    return to.copy_(x)


def doubled(x: Any) -> Any:
    """One operand."""
    return x * 2.0


def masked(x: Any, mask: Any) -> Any:
    """Under a mask of bytes."""
    return x.masked_fill(mask, 0.0)


def masked_rows(x: Any, mask: Any) -> Any:
    """A byte a row, in place."""
    return x.masked_fill_(mask, 0.0)


def weighed(x: Any, y: Any, z: Any) -> Any:
    """Three operands."""
    return torch.addcmul(x, y, z)


def mean_of_rows(x: Any) -> Any:
    """Along the last dimension, in FP32."""
    return x.mean(-1, keepdim=True, dtype=torch.float32)


def sum_of_columns(x: Any) -> Any:
    """Over all rows."""
    return x.sum(0)


def first_half(x: Any) -> Any:
    """Of each row, negated."""
    return -x[:, : x.shape[1] // 2]


def silu_of_half(x: Any) -> Any:
    """Of a gate that stands beside the up projection."""
    return functional.silu(x.chunk(2, dim=-1)[0])


def contiguous_half(x: Any) -> Any:
    """Of each row, copied out."""
    return x[:, : x.shape[1] // 2].contiguous()


def heads_first(x: Any) -> Any:
    """(s, n, d) to (n, s, d), copied."""
    return x.transpose(0, 1).contiguous()


def joined(x: Any, y: Any) -> Any:
    """Side by side."""
    return torch.cat((x, y), dim=-1)


def keys_joined(own: Any, shared: Any) -> Any:
    """Of all heads."""
    return torch.cat((own, shared), dim=-1)


def softmax(x: Any) -> Any:
    """Along the last dimension, in x's format."""
    return x.softmax(-1)


def _operands(dtype: Any, *kinds: str) -> Make:
    return partial(_made, dtype, kinds)


def _made(dtype: Any, kinds: tuple[str, ...], device: Any, rows: int, width: int) -> tuple[Any, ...]:
    """x: (r, w); wide: (r, w) in FP32; row: (w,); column: (r, 1); mask: (r, w) of bytes; double: (r, 2 w); half: (r, w / 2);
    heads: (r, w / 128, 128), and heads_first: the same as a view with heads in front; table: one head's (1, r, 128).
    """
    heads = max(width // HEAD_DIM, 1)
    shapes = {
        "x": (rows, width), "wide": (rows, width), "row": (width,), "column": (rows, 1), "mask": (rows, width),
        "double": (rows, 2 * width), "half": (rows, width // 2), "heads": (rows, heads, width // heads),
        "heads_first": (rows, heads, width // heads), "table": (1, rows, width // heads),
    }  # fmt: skip
    made = []
    for kind in kinds:
        x = numbers(device, torch.float32 if kind == "wide" else dtype, *shapes[kind])
        made.append(x > 0 if kind == "mask" else x.transpose(0, 1) if kind == "heads_first" else x)
    return tuple(made)


def _of_format(name: str) -> Iterator[Kernel]:
    """Those that come in both formats."""
    of = partial(_operands, FORMATS[name])
    wanted: tuple[tuple[str, str, Callable[..., Any], Make, tuple[tuple[int, int], ...]], ...] = (
        ("copy", "", copied, of("x", "x"), GRID),
        ("add", "", torch.add, of("x", "x"), GRID),
        ("elementwise", "unary", doubled, of("x"), GRID),
        ("elementwise", "silu", functional.silu, of("x"), COARSE),
        ("elementwise", "binary", torch.mul, of("x", "x"), COARSE),
        ("elementwise", "ternary", weighed, of("x", "x", "x"), COARSE),
        ("elementwise_broadcast", "column", torch.mul, of("x", "column"), COARSE),
        ("elementwise_broadcast", "row", torch.mul, of("x", "row"), COARSE),
        ("elementwise_strided", "half", first_half, of("double"), COARSE),
        ("elementwise_strided", "silu", silu_of_half, of("double"), COARSE),
        ("elementwise_strided", "heads", torch.mul, of("heads_first", "table"), COARSE),
        ("reduce", "mean", mean_of_rows, of("x"), GRID),
        ("reduce_columns", "sum", sum_of_columns, of("x"), COARSE),
        ("softmax", "", softmax, of("x"), SCORES),
        ("strided_copy", "half", contiguous_half, of("double"), COARSE),
        ("strided_copy", "heads", heads_first, of("heads"), COARSE),
        ("cat", "", joined, of("half", "half"), COARSE),
        ("fill", "", torch.zeros_like, of("x"), COARSE),
    )
    for op, variant, function, operands, shapes in wanted:
        per_number = float(FORMATS[name].itemsize) if op == "fill" else None
        yield Kernel(op, "torch", function, operands, per_number, variant=variant, dtype=name, shapes=shapes)
    yield Kernel("elementwise_mixed", "torch-mask", masked, of("x", "mask"), dtype=name, shapes=COARSE)
    yield Kernel("softmax_bwd", "torch", softmax, of("x"), wrt=(0,), dtype=name, shapes=SCORES)


def _of_two_formats() -> Iterator[Kernel]:
    narrow, wide = (partial(_operands, FORMATS[name]) for name in ("bf16", "fp32"))
    yield Kernel("elementwise_mixed", "torch", torch.mul, narrow("x", "wide"), variant="binary", shapes=GRID)
    to_fp32, to_bf16 = (partial(_converted, kind) for kind in (torch.float32, torch.bfloat16))
    yield Kernel("cast", "torch", to_fp32, narrow("x"), variant="to-fp32", shapes=COARSE)
    yield Kernel("cast", "torch", to_bf16, wide("x"), variant="to-bf16", dtype="fp32", shapes=COARSE)
    yield Kernel("cast", "torch-to-fp32", to_fp32, narrow("x"), shapes=GRID)
    yield Kernel("cast", "torch-to-bf16", to_bf16, wide("x"), dtype="fp32", shapes=GRID)
    yield Kernel("elementwise_broadcast", "torch-masked", masked_rows, _rows_masked, shapes=COARSE)
    yield Kernel("reduce", "torch-heads", mean_of_rows, wide("x"), dtype="fp32", shapes=HEADS)
    yield Kernel("reduce_columns", "torch-heads", sum_of_columns, narrow("x"), shapes=HEADS)
    yield Kernel("cat", "torch-heads", keys_joined, _keys, shapes=KEYS)


def _rows_masked(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return numbers(device, torch.bfloat16, rows, width), torch.rand(rows, 1, device=device) < 0.1


def _keys(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    """Of MLA, (1, s, n, 192) in all: a slice of keys beside values, and what the heads share."""
    heads = max(width // sum(KEY), 1)
    up = numbers(device, torch.bfloat16, 1, rows, heads, 2 * KEY[0])
    return up[..., : KEY[0]], numbers(device, torch.bfloat16, 1, rows, 1, KEY[1]).expand(-1, -1, heads, -1)


def _converted(dtype: Any, x: Any) -> Any:
    return x.to(dtype)


KERNELS: Final = (*_of_format("bf16"), *_of_format("fp32"), *_of_two_formats())
