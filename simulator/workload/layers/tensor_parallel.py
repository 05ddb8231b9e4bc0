"""What the ranks of a tensor-parallel group exchange around a layer's GEMMs (arXiv:1909.08053, 3; arXiv:2205.05198, 4.2.2).

A column-parallel GEMM takes the whole input and gives a share of the output's columns; a row-parallel one takes a share of
the input's columns and gives a partial sum of the whole output. Without sequence parallelism inputs are whole on every rank
anyway: partial outputs are all-reduced forward, partial input gradients backward. With it they are reduce-scattered over the
tokens, and what a GEMM needs whole is gathered: the input forward, the output's gradient backward, and the input again for
the weight gradient. Megatron-LM (core/tensor_parallel/layers.py, LinearWithGradAccumulationAndAsyncCommunication) runs that
last one beside the input-gradient GEMM, and the reduction of the input gradient beside the weight-gradient GEMM.

Inputs are gathered in the format of the GEMM, partial sums in BF16, output gradients in BF16 or as they were cast. Every
function yields nothing for tp 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from simulator.workload import counting as c
from simulator.workload.casts.casts import Casts
from simulator.workload.counting import operand_bytes
from simulator.workload.op import Collective, Pass, Work
from simulator.workload.recipe import Recipe


def gather_input(
    layer: str, width: int, r: Recipe, *, phase: Pass = "F", dtype: str | None = None, chunked: bool = True
) -> Iterator[Work]:
    """Input of the column-parallel `layer`, `width` wide. dtype: where it is not that of the layers' GEMMs. chunked: as its
    GEMM takes it.
    """
    partner = layer if chunked else ""
    yield from _gather(f"{layer}_input_gather", width, r, phase, dtype or r.gemm_dtype, chunked_with=partner)


def gather_input_again(layer: str, width: int, r: Recipe, *, dtype: str | None = None) -> Iterator[Work]:
    """The same for the weight gradient, beside the input gradient's GEMM."""
    yield from _gather(f"{layer}_input_gather_again", width, r, "I", dtype or r.gemm_dtype, beside=f"{layer}_dgrad")
    if r.tp > 1 and r.shards_sequence and dtype is None:
        yield from r.casts.gathered(f"{layer}_input", r.tokens * width)


def reduce_output(layer: str, width: int, r: Recipe, *, phase: Pass = "F", chunked: bool = True) -> Iterator[Work]:
    """Partial outputs of the row-parallel `layer`, summed. chunked: as its GEMM makes them."""
    yield from _reduce(f"{layer}_output_reduce", width, r, phase, chunked_with=layer if chunked else "")


def gather_output_grad(
    layer: str, width: int, r: Recipe, *, phase: Pass = "I", chunked: bool = True, is_cast: bool = True
) -> Iterator[Work]:
    """Gradient of the row-parallel `layer`'s output, for both its gradients. chunked: as its GEMM takes it. is_cast: the
    layer's GEMMs read the recipe's operands.
    """
    partner, casts = f"{layer}_dgrad" if chunked else "", r.casts if is_cast else Casts()
    if r.tp > 1 and r.shards_sequence:
        num_bytes = casts.gathered_bytes(r.tokens * width)
        yield Collective(f"{layer}_grad_gather", "all_gather", "tp", num_bytes, phase, "", partner)
        yield from _laid_out(f"{layer}_grad_gather", num_bytes, r, phase)
        yield from casts.gathered(f"{layer}_grad", r.tokens * width, phase)


def reduce_input_grad(layer: str, width: int, r: Recipe) -> Iterator[Work]:
    """Partial input gradients of the column-parallel `layer`, summed beside its weight gradient."""
    yield from _reduce(f"{layer}_input_grad_reduce", width, r, "I", beside=f"{layer}_wgrad")


def _gather(
    name: str, width: int, r: Recipe, phase: Pass, dtype: str, *, beside: str = "", chunked_with: str = ""
) -> Iterator[Work]:
    if r.tp > 1 and r.shards_sequence:
        num_bytes = operand_bytes(dtype, r.tokens * width)
        yield Collective(name, "all_gather", "tp", num_bytes, phase, beside, chunked_with)
        yield from _laid_out(name, num_bytes, r, phase)


def _reduce(
    name: str, width: int, r: Recipe, phase: Pass, *, beside: str = "", chunked_with: str = ""
) -> Iterator[Work]:
    if r.tp > 1:
        num_bytes = operand_bytes("bf16", r.tokens * width)
        op: Literal["reduce_scatter", "all_reduce"] = "reduce_scatter" if r.shards_sequence else "all_reduce"
        if r.shards_sequence:
            yield from _laid_out(name, num_bytes, r, phase)
        yield Collective(name, op, "tp", num_bytes, phase, beside, chunked_with)


def _laid_out(name: str, num_bytes: int, r: Recipe, phase: Pass) -> Iterator[Work]:
    """The copy of a whole tensor whose second dimension is cut over the ranks (torch/distributed/_functional_collectives.py:
    all_gather_tensor and reduce_scatter_tensor chunk along the first and concatenate along the other).
    """
    if r.copies_gathers:
        yield c.moved(f"{name}_layout", "copy", phase, num_bytes, num_bytes)
