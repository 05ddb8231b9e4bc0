"""The places in a layer where a number format may add kernels. BF16 adds none: this class is its list.

Letters: t tokens (rows), h hidden size, n output columns, k reduced dimension of a linear layer k → n. Its GEMMs read input and
weight forward, output gradient and weight for the input gradient, output gradient and input for the weight gradient. The last
one reduces over the tokens, the others over a width of the weight, each over another: a format whose scales or layout have a
direction needs two copies of input, gradient and weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.workload import counting as c
from simulator.workload.op import Op, Pass

Widths = tuple[tuple[str, int], ...]
"""(name, width) of tensors with a row for each token."""


@dataclass(frozen=True, slots=True)
class Gated:
    """An FFN around its activation: hidden size, columns that the activation writes, columns that it reads (gate and up)."""

    hidden: int
    width: int
    up: int


@dataclass(frozen=True, slots=True)
class Casts:
    """BF16: nothing is cast. dtype: operands of the layers' GEMMs."""

    dtype: str = "bf16"

    @property
    def gathers_casts(self) -> bool:
        """Whether output gradients that ranks share are cast before they are gathered."""
        return False

    def gathered_bytes(self, elements: int) -> int:
        """Bytes of an output gradient as it is gathered over the ranks of a tensor-parallel group."""
        return c.operand_bytes("bf16", elements)

    def gathered(self, name: str, elements: int, phase: Pass = "I") -> Iterator[Op]:
        """What a cast tensor needs behind its gathering over the ranks of a tensor-parallel group."""
        yield from ()

    def norm(self, name: str, t: int, h: int) -> Iterator[Op]:
        """A norm whose output is nothing but the input of one linear layer."""
        yield c.rmsnorm(name, t, h)

    def normed(self, name: str, t: int, h: int) -> Iterator[Op]:
        """Casts the output of such a norm."""
        yield from ()

    def operand(self, name: str, t: int, h: int, phase: Pass = "F") -> Iterator[Op]:
        """Casts a BF16 tensor that a linear layer takes."""
        yield from ()

    def payload(self, name: str, t: int, h: int, phase: Pass = "F") -> Iterator[Op]:
        """Casts what is sent to the experts in 8 bits, or the gradient that is sent back to them."""
        yield c.quantise(name, t, h, phase)

    def before_dgrad(self, name: str, t: int, n: int, k: int) -> Iterator[Op]:
        """Before the input gradient of a k → n layer: its output gradient and its weight."""
        yield from ()

    def after_dgrad(self, operands: Widths, t: int) -> Iterator[Op]:
        """Behind it: the operands of weight gradients that are made there."""
        yield from ()

    def shared_input(self, name: str, t: int, h: int, *, is_sent: bool) -> Iterator[Op]:
        """Input of the shared experts. is_sent: the router's tokens are dispatched in 8 bits, cast there already."""
        yield from ()

    def input_again(self, t: int, h: int) -> Iterator[Op]:
        """The FFN's input, computed again by its norm in the backward."""
        yield from ()

    def activation(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        """The activation between the projections of an FFN that every token passes."""
        yield c.moved(f"{name}_swiglu", "swiglu", "F", 2 * t * n.up, 2 * t * n.width)

    def before_down_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        """Before the input gradient of its down projection."""
        yield from ()

    def after_down_dgrad(self, name: str, t: int, n: Gated, *, again: bool) -> Iterator[Op]:
        """Behind it. again: the product is computed again, not kept."""
        yield from ()

    def activation_bwd(self, name: str, t: int, n: Gated, *, again: bool) -> Iterator[Op]:
        """Gradient of the activation; where the product is computed again it is written too."""
        product = 2 * t * n.width if again else 0
        yield c.moved(f"{name}_swiglu_bwd", "swiglu_bwd", "I", 2 * t * (n.up + n.width), 2 * t * n.up + product)

    def before_up_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        """Before the input gradient of the up projection."""
        yield from ()

    def after_up_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        """Behind it."""
        yield from ()

    def before_expert_up(self, rows: int, n: Gated, local: int, *, is_sent: bool) -> Iterator[Op]:
        """Before the up projection of `local` routed experts. is_sent: the rows arrived in 8 bits."""
        yield from ()

    def expert_activation(self, rows: int, n: Gated) -> Iterator[Op]:
        """Activation of the routed experts, the router's weights applied in it."""
        yield c.moved("expert_swiglu", "swiglu", "F", 2 * rows * n.up, 2 * rows * n.width, routed=True)

    def before_expert_down(self, n: Gated, local: int) -> Iterator[Op]:
        """Before their down projection."""
        yield from ()

    def before_expert_down_dgrad(self, rows: int, n: Gated, *, is_sent: bool) -> Iterator[Op]:
        """Before its input gradient. is_sent: the rows' gradients arrived in 8 bits."""
        yield from ()

    def expert_activation_bwd(self, rows: int, n: Gated, *, again: bool) -> Iterator[Op]:
        """Gradient of the experts' activation and of the rows' weights."""
        product = 2 * rows * n.width if again else 0
        read, written = 2 * rows * (n.up + n.width), 2 * rows * n.up + product
        yield c.moved("expert_swiglu_bwd", "swiglu_bwd", "I", read, written, kernels=2, routed=True)

    def before_expert_up_dgrad(self, rows: int, n: Gated, *, again: bool) -> Iterator[Op]:
        """Between it and the input gradient of the up projection."""
        yield from ()

    def after_expert_up_dgrad(self, rows: int, n: Gated) -> Iterator[Op]:
        """Behind that."""
        yield from ()

    def before_expert_down_wgrad(self, rows: int, n: Gated) -> Iterator[Op]:
        """Before the weight gradient of the down projection."""
        yield from ()

    def before_expert_up_wgrad(self, rows: int, n: Gated) -> Iterator[Op]:
        """Before that of the up projection."""
        yield from ()
