"""How the executor of a schedule runs overlapped pairs: what `pair.py` goes by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pairing:
    """beside: the halves of a pair run beside one another, else the forward as a whole, then the backward.

    delays_weights: in a pair, weight gradients are work beside the backward's next message; else each comes directly behind
    its input gradient, and the message behind both (automatic differentiation).
    waits_for_kernels: whether messages over NICs wait for the end of a kernel that has all SMs.
    by_layer: layers are paired alone and heads run outside the pairs; with delays_weights a lone full backward delays its
    weight gradients too; a pair starts when the inputs of both halves are there (Megatron-Core's combined 1F1B). Else units
    are paired whatever they are, lone backwards follow automatic differentiation, and who waits says the transfers' rule
    (DualPipe).
    """

    beside: bool = True
    delays_weights: bool = True
    by_layer: bool = False
    waits_for_kernels: bool = True

    @property
    def delays_lone_weights(self) -> bool:
        """Whether a backward with no other half beside it delays its weight gradients."""
        return self.beside and self.delays_weights and self.by_layer
