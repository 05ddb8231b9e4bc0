"""Feed-forward network that every token passes: a dense layer's FFN, or the shared experts of a MoE layer.

Gated (swiglu, geglu): y = (act(x Wg) * (x Wu)) Wd, gate and up one GEMM of width 2 f; else (gelu, relu2): y = act(x Wu) Wd.
What the activation is changes bytes and FLOP of the matrices, not the rate of its kernel: names say swiglu of each. What a
number format adds is in simulator/workload/casts. Biases are added in the GEMMs' and the activation's kernels; their gradients
are sums of their own (Megatron-LM core/tensor_parallel/layers.py, grad_output.sum).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.scenario.model import FfnKind
from simulator.workload import counting as c
from simulator.workload.casts.casts import Gated
from simulator.workload.layers import tensor_parallel as tp
from simulator.workload.layers.part import Weights
from simulator.workload.op import Op, Work
from simulator.workload.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Ffn:
    """hidden: in and out; width: between the projections, on the rank; num_up: matrices in front of the activation;
    num_functions: of it, as FfnKind's.
    """

    hidden: int
    width: int
    num_up: int = 2
    bias: bool = False
    num_functions: int = 2

    @classmethod
    def of(cls, kind: FfnKind, hidden: int, width: int) -> Ffn:
        """Of a section of the model file; width: on the rank."""
        return cls(hidden, width, kind.num_up, kind.bias, kind.num_functions)

    @property
    def up(self) -> int:
        """Output columns of the up (and gate) projection."""
        return self.num_up * self.width

    @property
    def gated(self) -> Gated:
        """Its widths, as casts ask for them."""
        return Gated(self.hidden, self.width, self.up)

    @property
    def weights(self) -> Weights:
        """Its parameters."""
        other, cut = (self.up + self.hidden, self.up) if self.bias else (0, 0)
        return Weights((self.up + self.width) * self.hidden, other, cut_other=cut)


def plain_activation(name: str, rows: int, n: Ffn, r: Recipe, *, routed: bool = False) -> Iterator[Op]:
    """The first of an activation's two functions where they are apart: the gate's, before the product with the up projection;
    relu, before its square.
    """
    if r.splits_activation and n.num_functions > 1:
        size = 2 * rows * n.width
        yield c.moved(f"{name}_first_activation", "swiglu", "F", size, size, routed=routed)


def plain_activation_bwd(name: str, rows: int, n: Ffn, r: Recipe, *, routed: bool = False) -> Iterator[Op]:
    """What two functions move beyond one in the backward, in widths.

    Gate: the product's gradient is read for each factor with the other one (4 reads, 2 writes), then the activation's input and
    the gradient of its output (2 reads, 1 write), against 3 reads and 2 writes in one kernel. Square of relu: its input to the
    power of 1, that times 2, the product with the gradient, and relu's (1, 1, 2 and 2 reads, a write each; torch
    FunctionsManual.cpp, pow_backward), against 2 reads and a write.
    """
    if r.splits_activation and n.num_functions > 1:
        size = 2 * rows * n.width
        reads, writes, kernels = (3, 1, 2) if n.num_up > 1 else (4, 3, 3)
        yield c.moved(
            f"{name}_first_activation_bwd",
            "swiglu_bwd",
            "I",
            reads * size,
            writes * size,
            kernels=kernels,
            routed=routed,
        )


def forward(name: str, n: Ffn, r: Recipe) -> Iterator[Work]:
    """From the (already quantised) input to the output."""
    yield from forward_up(name, n, r)
    yield from forward_down(name, n, r)


def forward_up(name: str, n: Ffn, r: Recipe) -> Iterator[Work]:
    """To the activation's output."""
    t = r.tokens
    yield from tp.gather_input(f"{name}_up", n.hidden, r)
    yield c.fprop(f"{name}_up", r.gemm_dtype, t, n.up, n.hidden)
    yield from plain_activation(name, t, n, r)
    yield from r.casts.activation(name, t, n.gated)


def forward_down(name: str, n: Ffn, r: Recipe) -> Iterator[Work]:
    """From there to the output."""
    t = r.tokens
    yield c.fprop(f"{name}_down", r.gemm_dtype, t, n.hidden, n.width)
    yield from tp.reduce_output(f"{name}_down", n.hidden, r)
    if r.save_swiglu_fp8:
        yield c.quantise(f"{name}_swiglu_save", t, n.up)


def backward_input(name: str, n: Ffn, r: Recipe) -> Iterator[Work]:
    """Input gradient. The product, an operand of the down projection's weight gradient, is kept, or computed again from its
    saved input (module `swiglu`).
    """
    yield from backward_down(name, n, r)
    yield from backward_up(name, n, r)


def backward_down(name: str, n: Ffn, r: Recipe) -> Iterator[Work]:
    """Input gradient of the down projection."""
    t, f, hidden = r.tokens, n.width, n.hidden
    if r.casts.gathers_casts:
        yield from r.casts.before_down_dgrad(name, r.sequence_tokens, n.gated)
    if "gemms" in r.recompute and n.num_up > 1:
        yield from c.again([c.fprop(f"{name}_gate_or_up", r.gemm_dtype, t, f, hidden)])
    yield from tp.gather_output_grad(f"{name}_down", hidden, r)
    if r.save_swiglu_fp8:
        yield c.dequantise(f"{name}_swiglu_load", t, n.up)
    if not r.casts.gathers_casts:
        yield from r.casts.before_down_dgrad(name, t, n.gated)
    yield c.dgrad(f"{name}_down_dgrad", r.gemm_dtype, t, hidden, f)


def backward_up(name: str, n: Ffn, r: Recipe) -> Iterator[Work]:
    """Input gradient of activation and up projections."""
    t, hidden, again = r.tokens, n.hidden, "swiglu" in r.recompute
    yield from r.casts.after_down_dgrad(name, t, n.gated, again=again)
    yield from plain_activation_bwd(name, t, n, r)
    yield from r.casts.activation_bwd(name, t, n.gated, again=again)
    yield from r.casts.before_up_dgrad(name, t, n.gated)
    yield from tp.gather_input_again(f"{name}_up", hidden, r)
    yield c.dgrad(f"{name}_up_dgrad", r.gemm_dtype, t, n.up, hidden)
    yield from tp.reduce_input_grad(f"{name}_up", hidden, r)
    yield from r.casts.after_up_dgrad(name, t, n.gated)


def backward_weight(name: str, n: Ffn, r: Recipe) -> Iterator[Op]:
    """The two weight gradients, and those of biases."""
    down, up = weight_down(name, n, r), weight_up(name, n, r)
    yield next(down)
    yield next(up)
    yield from down
    yield from up


def weight_down(name: str, n: Ffn, r: Recipe) -> Iterator[Op]:
    """Of the down projection."""
    yield c.wgrad(f"{name}_down_wgrad", r.gemm_dtype, r.tokens, n.hidden, n.width)
    if n.bias:
        yield c.bias_grad(f"{name}_down_bias_grad", r.tokens, n.hidden)


def weight_up(name: str, n: Ffn, r: Recipe) -> Iterator[Op]:
    """Of the up projections."""
    yield c.wgrad(f"{name}_up_wgrad", r.gemm_dtype, r.tokens, n.up, n.hidden)
    if n.bias:
        yield c.bias_grad(f"{name}_up_bias_grad", r.tokens, n.up)
