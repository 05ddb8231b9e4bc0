"""Input gradient of a linear layer with what FP8 adds to it, as every kind of layer needs it."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.workload import counting as c
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe


def dgrad(r: Recipe, name: str, n: int, k: int, transposes: tuple[tuple[str, int], ...] = ()) -> Iterator[Op]:
    """Input gradient of a k → n linear layer; in FP8 its casts, the weight's transpose and the wgrad operands.

    transposes: (operand, width) of the operands that are transposed here, in order.
    """
    if r.is_fp8:
        yield c.quantise(f"{name}_grad_quantise", r.tokens, n, "I")
        yield c.weight_transpose(f"{name}_weight_transpose", n * k, "I")
    yield c.dgrad(f"{name}_dgrad", r.gemm_dtype, r.tokens, n, k)
    if r.is_fp8:
        for operand, width in transposes:
            yield c.quantise_transpose(f"{operand}_transposed", r.tokens, width)


def dgrad_with_operands(r: Recipe, name: str, n: int, k: int) -> Iterator[Op]:
    """`dgrad` that leaves both operands of the layer's own weight gradient: its output's gradient and its input."""
    return dgrad(r, name, n, k, ((f"{name}_grad", n), (f"{name}_input", k)))
