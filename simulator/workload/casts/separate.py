"""A kernel of its own for each cast, transpose and conversion back: the list of DeepSeek's published training trace of 2024
(deepseek-ai/profile-data, train.json), 1x128 tiles of activations and 128x128 blocks of weights.

An operand of a weight gradient is cast a second time, transposed, in the backward; weights are kept once and transposed in each
micro-batch; what is kept in FP8 is converted back before it is cast along the other direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.workload import counting as c
from simulator.workload.casts.casts import Casts, Gated, Widths
from simulator.workload.op import Op, Pass


@dataclass(frozen=True, slots=True)
class SeparateCasts(Casts):
    """The list of 2024."""

    dtype: str = "fp8-block"

    def normed(self, name: str, t: int, h: int) -> Iterator[Op]:
        yield c.quantise(name, t, h)

    def operand(self, name: str, t: int, h: int, phase: Pass = "F") -> Iterator[Op]:
        yield c.quantise(name, t, h, phase)

    def before_dgrad(self, name: str, t: int, n: int, k: int) -> Iterator[Op]:
        yield c.quantise(f"{name}_grad_quantise", t, n, "I")
        yield c.weight_transpose(f"{name}_weight_transpose", n * k, "I")

    def after_dgrad(self, operands: Widths, t: int) -> Iterator[Op]:
        for operand, width in operands:
            yield c.quantise_transpose(f"{operand}_transposed", t, width)

    def shared_input(self, name: str, t: int, h: int, *, is_sent: bool) -> Iterator[Op]:
        if not is_sent:
            yield c.quantise(name, t, h)

    def input_again(self, t: int, h: int) -> Iterator[Op]:
        yield c.quantise("ffn_input_quantise_recompute", t, h, "I")

    def activation(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        """SwiGLU writes FP8; a second kernel transposes the scales."""
        yield c.moved(f"{name}_swiglu", "swiglu", "F", 2 * t * n.up, c.fp8_bytes(t * n.width), kernels=2)

    def before_down_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        yield c.weight_transpose(f"{name}_down_weight_transpose", n.hidden * n.width, "I")

    def after_down_dgrad(self, name: str, t: int, n: Gated, *, again: bool) -> Iterator[Op]:
        yield c.quantise_transpose(f"{name}_down_grad_transposed", t, n.hidden)
        if not again:
            yield c.dequantise(f"{name}_down_input_load", t, n.width)
        yield c.quantise_transpose(f"{name}_down_input_transposed", t, n.width)

    def activation_bwd(self, name: str, t: int, n: Gated, *, again: bool) -> Iterator[Op]:
        """The product computed again is written transposed in FP8 by the kernel before."""
        yield c.moved(f"{name}_swiglu_bwd", "swiglu_bwd", "I", 2 * t * (n.up + n.width), 2 * t * n.up)

    def before_up_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        yield c.dequantise(f"{name}_input_load", t, n.hidden)
        yield c.weight_transpose(f"{name}_up_weight_transpose", n.up * n.hidden, "I")
        yield c.quantise(f"{name}_up_grad_quantise", t, n.up, "I")

    def after_up_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        yield c.quantise_transpose(f"{name}_up_grad_transposed", t, n.up)
        yield c.quantise_transpose(f"{name}_up_input_transposed", t, n.hidden)

    def before_expert_up(self, rows: int, n: Gated, local: int, *, is_sent: bool) -> Iterator[Op]:
        if not is_sent:
            yield c.quantise("expert_input_quantise", rows, n.hidden, routed=True)
        yield c.weight_transpose("expert_up_weight_transpose", local * n.hidden * n.up, "F")

    def expert_activation(self, rows: int, n: Gated) -> Iterator[Op]:
        written = c.fp8_bytes(rows * n.width)
        yield c.moved("expert_swiglu", "swiglu", "F", 2 * rows * n.up, written, kernels=3, routed=True)

    def before_expert_down(self, n: Gated, local: int) -> Iterator[Op]:
        yield c.weight_transpose("expert_down_weight_transpose", local * n.hidden * n.width, "F")

    def before_expert_down_dgrad(self, rows: int, n: Gated, *, is_sent: bool) -> Iterator[Op]:
        if not is_sent:
            yield c.quantise("expert_down_grad_quantise", rows, n.hidden, "I", routed=True)

    def before_expert_up_dgrad(self, rows: int, n: Gated, *, again: bool) -> Iterator[Op]:
        if not again:
            yield c.dequantise("expert_down_input_load", rows, n.width, routed=True)
        yield c.quantise_transpose("expert_down_input_transposed", rows, n.width, routed=True)
        yield c.quantise("expert_up_grad_quantise", rows, n.up, "I", routed=True)

    def after_expert_up_dgrad(self, rows: int, n: Gated) -> Iterator[Op]:
        yield c.quantise_transpose("expert_up_grad_transposed", rows, n.up, routed=True)

    def before_expert_down_wgrad(self, rows: int, n: Gated) -> Iterator[Op]:
        yield c.quantise_transpose("expert_down_grad_transposed", rows, n.hidden, "W", routed=True)

    def before_expert_up_wgrad(self, rows: int, n: Gated) -> Iterator[Op]:
        yield c.quantise_transpose("expert_up_input_transposed", rows, n.hidden, "W", routed=True)
