"""SwiGLU feed-forward network that every token passes: a dense layer's FFN, or the shared experts of a MoE layer.

y = (silu(x Wg) * (x Wu)) Wd; gate and up are one GEMM of width 2 f. The auxiliary kernels are those of DeepSeek's published
trace: FP8 saves of the SwiGLU input, its recompute in the backward, transposed FP8 operands for the weight gradients.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.workload import counting as c
from simulator.workload.layers import tensor_parallel as tp
from simulator.workload.op import Op, Work
from simulator.workload.recipe import Recipe


def forward(name: str, hidden: int, f: int, r: Recipe) -> Iterator[Work]:
    """From the (already quantised) input to the output. f: intermediate width on the rank."""
    t = r.tokens
    yield from tp.gather_input(f"{name}_up", hidden, r)
    yield c.fprop(f"{name}_up", r.gemm_dtype, t, 2 * f, hidden)
    written = c.fp8_bytes(t * f) if r.is_fp8 else 2 * t * f
    yield c.moved(f"{name}_swiglu", "swiglu", "F", 4 * t * f, written, kernels=2 if r.is_fp8 else 1)
    yield c.fprop(f"{name}_down", r.gemm_dtype, t, hidden, f)
    yield from tp.reduce_output(f"{name}_down", hidden, r)
    if r.save_swiglu_fp8:
        yield c.quantise(f"{name}_swiglu_save", t, 2 * f)


def backward_input(name: str, hidden: int, f: int, r: Recipe) -> Iterator[Work]:
    """Input gradient. The product, an operand of the down projection's weight gradient, is kept, or computed again from its
    saved input (module `swiglu`) in the same kernel; that of the published FP8 trace writes it transposed, without BF16 values.
    """
    t = r.tokens
    yield from tp.gather_output_grad(f"{name}_down", hidden, r)
    if r.save_swiglu_fp8:
        yield c.dequantise(f"{name}_swiglu_load", t, 2 * f)
    if r.is_fp8:
        yield c.weight_transpose(f"{name}_down_weight_transpose", hidden * f, "I")
    yield c.dgrad(f"{name}_down_dgrad", r.gemm_dtype, t, hidden, f)
    if r.is_fp8:
        yield c.quantise_transpose(f"{name}_down_grad_transposed", t, hidden)
        if not r.recomputes("swiglu"):
            yield c.dequantise(f"{name}_down_input_load", t, f)
        yield c.quantise_transpose(f"{name}_down_input_transposed", t, f)
    product = 2 * t * f if r.recomputes("swiglu") and not r.is_fp8 else 0
    yield c.moved(f"{name}_swiglu_bwd", "swiglu_bwd", "I", 6 * t * f, 4 * t * f + product)
    if r.is_fp8:
        yield c.dequantise(f"{name}_input_load", t, hidden)
        yield c.weight_transpose(f"{name}_up_weight_transpose", 2 * hidden * f, "I")
        yield c.quantise(f"{name}_up_grad_quantise", t, 2 * f, "I")
    yield from tp.gather_input_again(f"{name}_up", hidden, r)
    yield c.dgrad(f"{name}_up_dgrad", r.gemm_dtype, t, 2 * f, hidden)
    yield from tp.reduce_input_grad(f"{name}_up", hidden, r)
    if r.is_fp8:
        yield c.quantise_transpose(f"{name}_up_grad_transposed", t, 2 * f)
        yield c.quantise_transpose(f"{name}_up_input_transposed", t, hidden)


def backward_weight(name: str, hidden: int, f: int, r: Recipe) -> Iterator[Op]:
    """The two weight gradients."""
    yield c.wgrad(f"{name}_down_wgrad", r.gemm_dtype, r.tokens, hidden, f)
    yield c.wgrad(f"{name}_up_wgrad", r.gemm_dtype, r.tokens, 2 * f, hidden)


def num_params(hidden: int, f: int) -> int:
    """Gate, up and down."""
    return 3 * hidden * f
