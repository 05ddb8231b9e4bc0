"""Products of the torch model in the recipe fp8-row (hwprofiles/calibration/numerics/rowwise.py): torch's functions quantise.

An operand of fprop and dgrad gets a scale a row, by a chain of functions. An operand of wgrad gets a scale a column of each
expert: the largest number is looked for expert by expert, then all rows are divided and converted together; the input so
forward already, which it is kept in, the result's gradient behind it; both are turned. Experts are one launch. A weight's
gradient is written in BF16 and cast to FP32, the weight's own format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from simulator.workload.modules.chains import BF16, FP32, ROW_QUANTISER, TORCH, chain
from simulator.workload.op import Op, Pass

ALIGNED: Final = 16
"""Rows of an expert are padded to a multiple of it where they are summed over."""
BY_ROWS: Final = (17, 8)
"""Bytes of a number in BF16, and launches: sizes (4), the largest of each row (2), quotients in FP32 (6), conversion (5); four
functions of a number a row find the scales."""
LARGEST, QUOTIENTS, OCTETS = 3 * BF16, BF16 + FP32, FP32 + 1
"""Bytes of a number of what makes columns: sizes and the largest of a column, quotients and their conversion."""
LARGEST_OF: Final = "_largest_"
"""In the name of what is made of one expert's rows, whose number follows."""
SPLIT: Final = 1024
"""Rows from which torch shares a sum down the columns out over blocks (aten/src/ATen/native/cuda/Reduce.cuh)."""
OF_SCALES: Final = 5
"""Functions of a number a column: the experts' scales side by side, and what makes scales of the largest numbers."""
WEIGHT: Final = (50, 14)
"""Bytes of a number of a weight, which is FP32, and launches: twice, by columns and by rows, sizes (8), the largest (4),
quotients (8), conversion (5); three functions of a number a column or row."""
TURNED: Final = 2
"""Bytes of a number in FP8 that is copied transposed."""


def by_rows(name: str, numbers: int, phase: Pass) -> Op:
    """Activations, or gradients, with a scale a row."""
    size, launches = BY_ROWS
    return chain(name, "quantise", phase, size * numbers, kernels=launches, library=ROW_QUANTISER, dtype="fp8-row")


def by_columns(name: str, op: Op, width: int, phase: Pass) -> Iterator[Op]:
    """Rows of that width of a product op (rows_of), with a scale a column of each expert."""
    rows, groups = rows_of(op), op.shape.groups
    numbers = rows * width
    for idx in range(groups):
        yield largest(name, idx, rows // groups, width, phase)
    yield chain(f"{name}_scales", "elementwise", phase, 12 * FP32 * groups * width, kernels=OF_SCALES, dtype="fp32")
    if groups > 1:  # its expert's for each row: the experts' few stay in the level-2 cache
        yield chain(
            f"{name}_rows_scales", "gather_rows", phase, FP32 * numbers, elements=numbers, library=f"{TORCH}-of-few",
            dtype="fp32",
        )  # fmt: skip
    size, way = (QUOTIENTS + FP32, TORCH) if groups > 1 else (QUOTIENTS, f"{TORCH}-by-columns")
    yield chain(f"{name}_quotients", "elementwise_mixed", phase, size * numbers, elements=numbers, library=way)
    yield converted(f"{name}_octets", numbers, phase)


def largest(name: str, idx: int, rows: int, width: int, phase: Pass) -> Op:
    """Sizes of one expert's rows, and the largest of each column: few rows are walked down by a thread a column."""
    return chain(
        f"{name}{LARGEST_OF}{idx}", "reduce_columns", phase, LARGEST * rows * width, kernels=2, elements=rows * width,
        width=width, library=f"{TORCH}-largest" if rows >= SPLIT else f"{TORCH}-largest-few",
    )  # fmt: skip


def with_rows(op: Op, counts: Sequence[int]) -> Op:
    """An operator of `largest` with the rows that its expert has, in place of the mean; others as they are."""
    name, found, number = op.name.rpartition(LARGEST_OF)
    if not (found and number.isdecimal()):
        return op
    rows = counts[int(number)]
    return largest(name, int(number), max(ALIGNED, rows + -rows % ALIGNED), op.shape.n, op.phase)


def converted(name: str, numbers: int, phase: Pass) -> Op:
    """FP32 to FP8, at the rate of a conversion to BF16."""
    return chain(
        name, "cast", phase, OCTETS * numbers, elements=numbers, library="torch-to-bf16", dtype="fp32"
    )  # fmt: skip


def spread_rows(name: str, op: Op, width: int, phase: Pass) -> Iterator[Op]:
    """Of experts whose rows are no multiples of 16: zeros in BF16, and the rows copied into them, in front of by_columns."""
    rows, shape = rows_of(op), op.shape
    if shape.groups > 1 and (shape.rows_cv or (rows // shape.groups) % ALIGNED):
        numbers = rows * width
        yield chain(f"{name}_zeros", "fill", phase, BF16 * numbers, elements=numbers)
        yield chain(
            f"{name}_spread", "scatter_rows", phase, 2 * BF16 * numbers, elements=numbers, library=f"{TORCH}-placed"
        )


def rows_of(op: Op) -> int:
    """Of all groups: what wgrad sums over."""
    return op.shape.k if op.shape.variant == "wgrad" else op.shape.m


def gradient(op: Op, layer: str) -> Iterator[Op]:
    """In front of wgrad: the result's gradient by columns, and both operands turned."""
    shape = op.shape
    yield from spread_rows(f"{layer}_grad", op, shape.m, "W")
    yield from by_columns(f"{layer}_grad", op, shape.m, "W")
    for name, width in (("grad", shape.m), ("input", shape.n)):
        yield chain(
            f"{layer}_{name}_turn", "transpose", "W", TURNED * shape.k * width, elements=shape.k * width, library=TORCH,
            dtype="fp8-row",
        )  # fmt: skip
