"""One kernel reads a BF16 tensor and writes every copy of it that GEMMs read: NVIDIA's Transformer Engine from 2025 on.

(NVIDIA/TransformerEngine at d0067d0: transformer_engine/pytorch/module/linear.py and layernorm_linear.py say what is cast and
kept, csrc/quantizer.cpp and csrc/extensions/normalization.cpp, activation.cpp in which kernels.) Input and gradient are cast
for both of their GEMMs at once, along the width and along the tokens; weights once a step. A norm or an activation writes the
casts itself where the scales follow from what the kernel has seen: blocks of 32, or the maximum of earlier steps. A scale of
the whole tensor needs its maximum first: a pass over the tensor (amax), unless norm or activation left it behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from simulator.scenario.recipes import Fusion
from simulator.workload import counting as c
from simulator.workload.casts.casts import Casts, Gated
from simulator.workload.op import Op, Pass
from simulator.workload.tensors import sent_format, tensor_bytes


@dataclass(frozen=True, slots=True)
class JointCasts(Casts):
    """copies: of a tensor that its GEMMs read, 1 or 2. reads_amax: a cast takes the tensor's maximum first.

    norm_does, activation_does: what the kernel before does of the cast: "fuses" it, "leaves_amax" for it, or "none" of it.
    turns: a fused kernel writes one copy; another one transposes it. cast_kernel: that writes all copies.
    """

    copies: int = 2
    reads_amax: bool = False
    norm_does: Fusion = "none"
    activation_does: Fusion = "none"
    turns: bool = False
    cast_kernel: str = "quantise_joint"

    @property
    def gathers_casts(self) -> bool:
        """Transformer Engine's grad_output_preprocess (pytorch/module/base.py) gathers what the quantiser made."""
        return True

    def gathered_bytes(self, elements: int) -> int:
        """Both copies where scales have a direction; else one, which is transposed behind."""
        return self._bytes(elements, 1 if self.turns else None)

    def gathered(self, name: str, elements: int, phase: Pass = "I") -> Iterator[Op]:
        """The whole gathered tensor is transposed on every rank (pytorch/module/layernorm_linear.py of 2.1: _create_transpose
        of ln_out_total, grad_output.update_usage; _fix_gathered_fp8_transpose moves as much).
        """
        if self.turns:
            one = self._bytes(elements, 1)
            yield c.moved(f"{name}_turned", "transpose", phase, one, one)

    def _bytes(self, elements: int, copies: int | None = None) -> int:
        return (self.copies if copies is None else copies) * tensor_bytes(self.dtype, elements)

    def _cast(
        self, name: str, t: int, h: int, phase: Pass = "F", *, has_amax: bool = False, copies: int | None = None,
        routed: bool = False,
    ) -> Iterator[Op]:  # fmt: skip
        """BF16 to the copies that are read; has_amax: the maximum is known."""
        if self.reads_amax and not has_amax:
            yield c.moved(f"{name}_amax", "amax", phase, 2 * t * h, 0, routed=routed)
        count = self.copies if copies is None else copies
        kernel = "quantise" if count == 1 and self.cast_kernel == JOINT else self.cast_kernel
        yield c.moved(name, kernel, phase, 2 * t * h, self._bytes(t * h, count), routed=routed)

    def _fused(
        self, name: str, kernel: str, t: int, read: int, h: int, phase: Pass = "F", **more: bool
    ) -> Iterator[Op]:
        """A kernel that reads `read` bytes and writes t × h already cast."""
        yield c.moved(name, kernel, phase, read, self._bytes(t * h, 1 if self.turns else None), **more)
        if self.turns:
            one = self._bytes(t * h, 1)
            yield c.moved(f"{name}_turned", "transpose", phase, one, one, **more)

    def norm(self, name: str, t: int, h: int) -> Iterator[Op]:
        if self.norm_does == "fuses":
            yield from self._fused(name, "rmsnorm", t, 2 * t * h, h)
        else:
            yield c.rmsnorm(name, t, h)

    def normed(self, name: str, t: int, h: int) -> Iterator[Op]:
        if self.norm_does != "fuses":
            yield from self._cast(name, t, h, has_amax=self.norm_does == "leaves_amax")

    def operand(self, name: str, t: int, h: int, phase: Pass = "F") -> Iterator[Op]:
        yield from self._cast(name, t, h, phase)

    def payload(self, name: str, t: int, h: int, phase: Pass = "F") -> Iterator[Op]:
        yield c.moved(name, "quantise", phase, 2 * t * h, self._sent(t * h))

    def _sent(self, elements: int) -> int:
        """Bytes of what is sent in 8 bits."""
        return tensor_bytes(sent_format(self.dtype), elements)

    def before_dgrad(self, name: str, t: int, n: int, k: int) -> Iterator[Op]:
        yield from self._cast(f"{name}_grad_quantise", t, n, "I")

    def shared_input(self, name: str, t: int, h: int, *, is_sent: bool) -> Iterator[Op]:
        yield from self._cast(name, t, h)

    def input_again(self, t: int, h: int) -> Iterator[Op]:
        """The casts are kept, whatever becomes of the BF16 tensor."""
        yield from ()

    def activation(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        yield from self._activation(name, t, n, routed=False)

    def _activation(self, name: str, t: int, n: Gated, *, routed: bool) -> Iterator[Op]:
        kernel, read = f"{name}_swiglu", 2 * t * n.up
        if self.activation_does == "fuses":
            yield from self._fused(kernel, "swiglu", t, read, n.width, routed=routed)
        else:
            has_amax = self.activation_does == "leaves_amax"
            yield c.moved(kernel, "swiglu", "F", read, 2 * t * n.width, routed=routed)
            yield from self._cast(f"{name}_down_quantise", t, n.width, has_amax=has_amax, routed=routed)

    def before_down_dgrad(self, name: str, t: int, n: Gated) -> Iterator[Op]:
        yield from self._cast(f"{name}_down_grad_quantise", t, n.hidden, "I")

    def activation_bwd(self, name: str, t: int, n: Gated, *, again: bool) -> Iterator[Op]:
        yield from self._activation_bwd(name, t, n, again=again, kernels=1, routed=False)

    def _activation_bwd(self, name: str, t: int, n: Gated, *, again: bool, kernels: int, routed: bool) -> Iterator[Op]:
        """Gradient of the up projection's output, cast; a product that is computed again is cast for the weight gradient."""
        read, product = 2 * t * (n.up + n.width), 2 * t * n.width if again else 0
        fuses, kernel = self.activation_does == "fuses", f"{name}_swiglu_bwd"
        written = self._bytes(t * n.up, 1 if self.turns else None) if fuses else 2 * t * n.up
        yield c.moved(kernel, "swiglu_bwd", "I", read, written + product, kernels=kernels, routed=routed)
        if again:
            yield from self._cast(f"{name}_down_input_again", t, n.width, "I", copies=1, routed=routed)
        if fuses and self.turns:
            one = self._bytes(t * n.up, 1)
            yield c.moved(f"{name}_up_grad_turned", "transpose", "I", one, one, routed=routed)
        if not fuses:
            has_amax = self.activation_does == "leaves_amax"
            yield from self._cast(f"{name}_up_grad_quantise", t, n.up, "I", has_amax=has_amax, routed=routed)

    def before_expert_up(self, rows: int, n: Gated, local: int, *, is_sent: bool) -> Iterator[Op]:
        """Rows that arrived in 8 bits are cast anew: to the copy that the weight gradient reads, where the other GEMM takes
        what was sent, else to both.
        """
        if not is_sent:
            yield from self._cast("expert_input_quantise", rows, n.hidden, routed=True)
        else:
            yield from self._recast("expert_input_recast", rows, n.hidden, "F")

    def _recast(self, name: str, rows: int, h: int, phase: Pass) -> Iterator[Op]:
        copies = self.copies - (1 if sent_format(self.dtype) == self.dtype else 0)
        if copies:
            written = self._bytes(rows * h, copies)
            yield c.moved(name, "quantise_transpose", phase, self._sent(rows * h), written, routed=True)

    def expert_activation(self, rows: int, n: Gated) -> Iterator[Op]:
        yield from self._activation("expert", rows, n, routed=True)

    def before_expert_down_dgrad(self, rows: int, n: Gated, *, is_sent: bool) -> Iterator[Op]:
        if not is_sent:
            yield from self._cast("expert_down_grad_quantise", rows, n.hidden, "I", routed=True)
        else:
            yield from self._recast("expert_down_grad_recast", rows, n.hidden, "I")

    def expert_activation_bwd(self, rows: int, n: Gated, *, again: bool) -> Iterator[Op]:
        yield from self._activation_bwd("expert", rows, n, again=again, kernels=2, routed=True)


JOINT: Final = "quantise_joint"
"""The kernel that writes two copies; what writes one is the plain `quantise`."""
