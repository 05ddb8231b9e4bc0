"""Input gradient of a linear layer with what a number format adds to it, as every kind of layer needs it."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.workload import counting as c
from simulator.workload.layers.tensor_parallel import gather_input_again, gather_output_grad, reduce_input_grad
from simulator.workload.op import Op, Work
from simulator.workload.recipe import Recipe


def dgrad(
    r: Recipe, name: str, n: int, k: int, transposes: tuple[tuple[str, int], ...] = (), *, tokens: int | None = None
) -> Iterator[Op]:
    """Input gradient of a k → n linear layer; its casts, the weight's transpose and the wgrad operands.

    transposes: (operand, width) of the operands that are transposed here, in order. tokens: default all of the micro-batch.
    """
    t = r.tokens if tokens is None else tokens
    yield from r.casts.before_dgrad(name, t, n, k)
    yield c.dgrad(f"{name}_dgrad", r.gemm_dtype, t, n, k)
    yield from r.casts.after_dgrad(transposes, t)


def own_operands(name: str, n: int, k: int) -> tuple[tuple[str, int], ...]:
    """Both operands of a k → n layer's own weight gradient: its output's gradient and its input."""
    return (f"{name}_grad", n), (f"{name}_input", k)


def column_dgrad(r: Recipe, name: str, n: int, k: int, transposes: tuple[tuple[str, int], ...] = ()) -> Iterator[Work]:
    """`dgrad` of a column-parallel layer, n columns of it on the rank: its input gathered again, its gradient summed."""
    yield from gather_input_again(name, k, r)
    yield from dgrad(r, name, n, k, transposes)
    yield from reduce_input_grad(name, k, r)


def row_dgrad(r: Recipe, name: str, n: int, k: int, transposes: tuple[tuple[str, int], ...] = ()) -> Iterator[Work]:
    """`dgrad` of a row-parallel layer, k rows of it on the rank: its output's gradient gathered, cast before or behind it."""
    if not r.casts.gathers_casts:
        yield from gather_output_grad(name, n, r)
        yield from dgrad(r, name, n, k, transposes)
        return
    yield from r.casts.before_dgrad(name, r.sequence_tokens, n, k)
    yield from gather_output_grad(name, n, r)
    yield c.dgrad(f"{name}_dgrad", r.gemm_dtype, r.tokens, n, k)
    yield from r.casts.after_dgrad(transposes, r.tokens)
