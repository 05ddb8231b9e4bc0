"""Shapes and FLOP of the products that torch executes, by operator; FLOP by the formulas of torch's own counter.

torch.utils.flop_counter knows mm, addmm, bmm, baddbmm, _scaled_mm and the attention kernels of CUDA, these without their causal
mask. What it does not know stands here, in the form that `FlopCounterMode(custom_mapping=FORMULAS)` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
Shape = Sequence[int]
Sizes = tuple[int, int, int, int]
"""m, n, k and groups: groups products of (m, k) by (k, n); of a grouped product m, or for weight gradients k, is the sum."""


def grouped_flop(a: Shape, b: Shape, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """FLOP of a grouped product: every row meets one of the matrices; of weight gradients (both operands 2-D) the rows are the
    reduced dimension, and those of all groups make up the whole.
    """
    m, n, k, _ = _grouped(a, b)
    return 2 * m * n * k


def scaled_flop(a: Shape, b: Shape, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """FLOP of a product of scaled operands: the scales are not counted."""
    return 2 * a[0] * a[1] * b[1]


def core_flop(q: Shape, k: Shape, v: Shape, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """FLOP of an attention core forward, all pairs of queries and keys."""
    return int(sdpa_flop_count(q, k, v))


def core_backward_flop(
    grad: Shape, q: Shape, k: Shape, v: Shape, *rest: Any, out_shape: Any = None, **options: Any
) -> int:
    """The same backward: five products, q k^T again."""
    return int(sdpa_backward_flop_count(grad, q, k, v))


def _grouped(a: Shape, b: Shape) -> Sizes:
    """Rows (r, k) by (e, k, n); rows transposed (n, r) by (r, k): a weight gradient, whose number of groups no shape tells."""
    return (a[0], b[-1], a[1], b[0] if len(b) == 3 else 1)


def _matrices(a: Shape, b: Shape) -> Sizes:
    return a[0], b[1], a[1], 1


def _batches(a: Shape, b: Shape) -> Sizes:
    return a[1], b[2], a[2], a[0]


_UNKNOWN: Final[dict[str, Callable[..., int]]] = {
    "_grouped_mm": grouped_flop,
    "_scaled_grouped_mm": grouped_flop,
    "_scaled_grouped_mm_v2": grouped_flop,
    "_scaled_mm_v2": scaled_flop,
    "_scaled_dot_product_flash_attention_for_cpu": core_flop,
    "_scaled_dot_product_flash_attention_for_cpu_backward": core_backward_flop,
}  # fmt: skip

FORMULAS: Final = {
    packet: formula
    for name, formula in _UNKNOWN.items()
    if (packet := getattr(aten, name, None)) is not None and packet not in flop_registry
}
"""Operators that torch's counter does not know, where this torch has them."""

_SIZES: Final[dict[str, tuple[int, Callable[[Shape, Shape], Sizes]]]] = {
    "mm": (0, _matrices),
    "addmm": (1, _matrices),
    "bmm": (0, _batches),
    "baddbmm": (1, _batches),
    "_scaled_mm": (0, _matrices),
    "_scaled_mm_v2": (0, _matrices),
    "_grouped_mm": (0, _grouped),
    "_scaled_grouped_mm": (0, _grouped),
    "_scaled_grouped_mm_v2": (0, _grouped),
}
"""Operator → (place of its first operand, sizes from the shapes of both operands)."""


def name_of(func: Any) -> str:
    """Of an operator as a dispatch mode gets it, without its overload: "mm"."""
    return str(func._overloadpacket.__name__)


def operands(func: Any, args: Sequence[Any]) -> tuple[Any, Any] | None:
    """Both operands of a product of matrices; None: the operator is none."""
    known = _SIZES.get(name_of(func))
    return None if known is None else (args[known[0]], args[known[0] + 1])


def sizes(func: Any, args: Sequence[Any]) -> Sizes:
    """m, n, k, groups of a product of matrices."""
    first, of_shapes = _SIZES[name_of(func)]
    return of_shapes(args[first].shape, args[first + 1].shape)


def flop(func: Any, args: Sequence[Any], options: dict[str, Any], out: Any) -> int:
    """FLOP by torch's counter or the formulas here; 0 of what multiplies no matrices."""
    packet = func._overloadpacket
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **options, out_val=out))
    if packet in FORMULAS:
        return FORMULAS[packet](*(arg.shape if isinstance(arg, torch.Tensor) else arg for arg in args))
    return 0
