"""What stands around the GEMMs and the activation of routed experts where software has no kernel for it.

Megatron-Core (NVIDIA/Megatron-LM core_v0.15 to v0.18) limits the inputs of a clamped activation by torch functions
(core/fusions/fused_bias_geglu.py, weighted_bias_quick_geglu_impl), adds the biases of the down projection, times the rows'
weights, by others (core/transformer/moe/experts.py, TEGroupedMLP._apply_bias), and pads rows for GEMMs in 8 bits by copies
(NVIDIA/TransformerEngine pytorch/module/fp8_padding.py). Bytes of each function as torch executes it: backward of clamp,
comparisons and selection (pytorch torch/csrc/autograd/FunctionsManual.cpp, clamp_backward).
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario.model import MoeFfn
from simulator.workload import counting as c
from simulator.workload.layers.ffn import Ffn
from simulator.workload.op import Op, Pass
from simulator.workload.recipe import Recipe

CLAMP = (2 + 2, 2 + 2, 3)
"""Bytes read and written of an input of the activation, and launches: gate and up limited each, and put side by side."""

CLAMP_BACKWARD = (7 + 2, 4 + 2, 8)
"""Of their gradients. Gate, limited above: compare (2 read, 1 written), select (1 + 2, 2). Up, limited on both sides: compare
twice (2, 1), join the masks in place (1 + 1, 1), select (1 + 2, 2). The mean of both is 7 read and 4 written; then the two
are put side by side (2, 2)."""

BIAS = (4 + 2, 2 + 2 + 2, 3)
"""Of an element of the results, weights in BF16 (those that DeepEP hands on are FP32, and would widen all three): biases times
weights (written), added to the expert's rows (2 + 2, 2), experts put one behind the other (2, 2). Launches, but for the last,
are an expert's."""

BIAS_BACKWARD = (2 + 2 + 2, 2 + 2, 3)
"""Of their gradients: times the weights, for the biases (2, 2), whose sum is counted as any bias's; times the biases, for the
weights (2, 2), and its sum over the row (2)."""


def has_clamp(m: MoeFfn, r: Recipe) -> bool:
    """Whether limiting the activation's inputs takes functions of its own."""
    return m.clamp is not None and not r.fuses_experts


def clamp(m: MoeFfn, rows: int, n: Ffn, r: Recipe, phase: Pass = "F") -> Iterator[Op]:
    """Limits gate and up projections' outputs."""
    if has_clamp(m, r):
        read, written, launches = CLAMP
        size = rows * n.up
        yield c.moved("expert_clamp", "add", phase, read * size, written * size, kernels=launches, routed=True)


def clamp_backward(m: MoeFfn, rows: int, n: Ffn, r: Recipe) -> Iterator[Op]:
    """Their gradients."""
    if has_clamp(m, r):
        read, written, launches = CLAMP_BACKWARD
        size = rows * n.up
        yield c.moved("expert_clamp_bwd", "add", "I", read * size, written * size, kernels=launches, routed=True)


def bias(rows: int, n: Ffn, local: int, r: Recipe) -> Iterator[Op]:
    """Adds the down projection's biases, weighted. local: experts of the rank."""
    yield from _bias("expert_bias", "F", BIAS, rows, n, local, r)


def bias_backward(rows: int, n: Ffn, local: int, r: Recipe) -> Iterator[Op]:
    """Gradients of the weights, and of the biases up to their sum."""
    yield from _bias("expert_bias_bwd", "I", BIAS_BACKWARD, rows, n, local, r)


def _bias(
    name: str, phase: Pass, moved: tuple[int, int, int], rows: int, n: Ffn, local: int, r: Recipe
) -> Iterator[Op]:
    if n.bias and not r.fuses_experts:
        read, written, launches = moved
        size, calls = rows * n.hidden, 1 + (launches - 1) * local
        yield c.moved(name, "add", phase, read * size, written * size, kernels=calls, routed=True)


def pad(name: str, rows: int, n: Ffn, r: Recipe, phase: Pass) -> Iterator[Op]:
    """Rows copied into padded ones, or out of them."""
    if r.pads_by_copy and r.row_padding > 1:
        size = 2 * rows * n.hidden
        yield c.moved(name, "copy", phase, size, size, routed=True)
