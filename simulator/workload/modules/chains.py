"""Chains of torch functions as operators: bytes of all of them, launches of all of them, on one rank.

Bytes follow one rule (hwprofiles/calibration/counting/traffic.py counts by it too): a function reads each operand once and
writes its result once. Elements are those of the result, which bind kernels that reckon an address for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from simulator.workload import counting as c
from simulator.workload.op import Op, Pass

OWN: Final = "moesim"
"""KernelShape.library of the torch model's own chains."""
TORCH: Final = "torch"
"""Of torch's own kernels, where other libraries have one too."""
ROW_QUANTISER: Final = "torch-row"
"""Of torch's functions that quantise with a scale a row."""
BF16, FP32 = 2, 4


def chain(
    name: str, kernel: str, phase: Pass, size: float, *, kernels: int = 1, elements: int = 0, library: str = "",
    variant: str = "", dtype: str = "bf16", routed: bool = False, width: int = 1,
) -> Op:  # fmt: skip
    """size: bytes, about half of them read; elements: of the result; width: of a row, where a kernel works by rows."""
    whole = round(size)
    op = c.moved(name, kernel, phase, whole - whole // 2, whole // 2, kernels=kernels, routed=routed)
    shape = replace(
        op.shape, m=elements // width, n=width if elements else 0, library=library, variant=variant, dtype=dtype
    )
    return replace(op, shape=shape)


def added(name: str, elements: int, phase: Pass) -> Op:
    """The sum of two BF16 tensors."""
    return chain(name, "add", phase, 3 * BF16 * elements, elements=elements)


def widened(name: str, elements: int, phase: Pass) -> Op:
    """BF16 to FP32."""
    return chain(name, "cast", phase, (BF16 + FP32) * elements, elements=elements, library="torch-to-fp32")


def narrowed(name: str, elements: int, phase: Pass) -> Op:
    """FP32 to BF16."""
    return chain(
        name, "cast", phase, (FP32 + BF16) * elements, elements=elements, library="torch-to-bf16", dtype="fp32"
    )


def summed(name: str, elements: int, share: float, phase: Pass = "W") -> tuple[Op, ...]:
    """A gradient added to the FP32 one of the micro-batches before, in a share of the micro-batches."""
    if not share:
        return ()
    size = 3 * FP32 * elements * share
    return (chain(name, "add", phase, size, elements=round(elements * share), dtype="fp32"),)


def strided(name: str, elements: int, phase: Pass, *, kernels: int = 1, dtype: str = "bf16") -> Op:
    """Part of each row copied into rows of its own, or out of them; kernels: such copies, elements of them all."""
    return chain(name, "strided_copy", phase, 2 * BF16 * elements, kernels=kernels, elements=elements, dtype=dtype)


def small(name: str, phase: Pass, size: float, kernels: int) -> Op:
    """Functions of a number a row or an expert, or of a number a token and expert."""
    return chain(name, "elementwise", phase, size, kernels=kernels, dtype="fp32")


def smalls(name: str, phase: Pass, size: float, kernels: int) -> Iterator[Op]:
    """Such functions one behind another, each a call that waits for the one before."""
    for idx in range(kernels):
        yield small(f"{name}_{idx}", phase, size / kernels, 1)


def counts(name: str, phase: Pass, rows: int) -> Iterator[Op]:
    """How many rows each expert has: ones added to zeros by atomic additions."""
    yield small(f"{name}_ones", phase, 8 * rows, 1)
    yield chain(
        f"{name}_counts",
        "scatter_rows",
        phase,
        16 * rows,
        kernels=2,
        elements=rows,
        library=f"{TORCH}-counted",
        dtype="fp32",
    )
