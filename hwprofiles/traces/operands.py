"""What an operator was called with, in numbers: sizes, formats, bytes and layout of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Final

from hwprofiles.traces.trace import Operator

ITEM_BYTES: Final[Mapping[str, int]] = {
    "float": 4, "double": 8, "c10::BFloat16": 2, "c10::Half": 2, "c10::Float8_e4m3fn": 1, "c10::Float8_e5m2": 1, "bool": 1,
    "unsigned char": 1, "signed char": 1, "short int": 2, "int": 4, "long int": 8, "long": 8,
}  # fmt: skip
"""Types as the profiler writes them → bytes of a number."""
DTYPES: Final[Mapping[str, str]] = {"float": "fp32", "c10::BFloat16": "bf16", "c10::Half": "fp16"}
WIDEST: Final = ("c10::Half", "c10::BFloat16", "float", "double")
"""Of two formats in one operator the result has the later one."""
Cells = dict[str, Any]
"""Of a row of kernels.csv, by column."""


class Unsized(ValueError):
    """Why a call gives no row."""


def dims_of(operator: Operator, place: int, rank: int | None = None) -> tuple[int, ...]:
    """Of a tensor. Raises Unsized where it has another number of dimensions than `rank`."""
    dims = operator.dims[place]
    if not all(isinstance(size, int) for size in dims) or rank not in (None, len(dims)):
        raise Unsized("its sizes are not as this operator has them")
    return tuple(dims)


def dtype_of(operator: Operator, place: int) -> str:
    """As the catalogue names it. Raises Unsized: a format that no row has."""
    kind = operator.types[place]
    if kind not in DTYPES:
        raise Unsized(f"operands of {kind or 'no type'}")
    return DTYPES[kind]


def operand(operator: Operator, place: int) -> tuple[int, int]:
    """(numbers, bytes) of a tensor, numbers that a stride of 0 repeats counted once. Raises Unsized: a type without a size."""
    dims = dims_of(operator, place)
    strides = operator.strides[place] if len(operator.strides) > place else ()
    kept = dims if len(strides) != len(dims) else [size for size, step in zip(dims, strides, strict=True) if step]
    kind = operator.types[place]
    if kind not in ITEM_BYTES:
        raise Unsized(f"operands of {kind or 'no type'}")
    return prod(dims), prod(kept) * ITEM_BYTES[kind]


def tensors(operator: Operator) -> list[int]:
    """Places of the inputs that are tensors of more than one number."""
    return [place for place, kind in enumerate(operator.types)
            if kind in ITEM_BYTES and operator.dims[place] and prod(operator.dims[place]) > 1]  # fmt: skip


def is_dense(operator: Operator, place: int) -> bool:
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


def is_repeated(operator: Operator, place: int) -> bool:
    """Whether a dimension of the tensor is the same numbers again (a stride of 0)."""
    strides = operator.strides[place] if len(operator.strides) > place else ()
    return any(step == 0 and size > 1 for size, step in zip(operator.dims[place], strides, strict=False))
