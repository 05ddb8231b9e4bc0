"""Constructors of operators: a shape in, counted FLOP and bytes out. Every operand is read and written once.

Letters: t tokens (rows), h hidden size, e elements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hwprofiles.kernels.attention_libraries import padded_v
from hwprofiles.kernels.shape import Document, KernelShape
from simulator.workload.op import Op, Pass, Work
from simulator.workload.pairs import query_key_pairs
from simulator.workload.tensors import FORMAT_BITS, tensor_bytes

FP8_BLOCK = 128
"""Elements that share one FP32 scale: 1x128 tiles of activations (DeepSeek-V3 report, 3.3.2)."""


def fp8_bytes(elements: int) -> int:
    """Bytes of `elements` FP8 values with one FP32 scale for each 128."""
    return elements + 4 * (elements // FP8_BLOCK)


def operand_bytes(dtype: str, elements: int) -> int:
    """Bytes of a GEMM operand. Raises ValueError for an unknown format."""
    if dtype == "fp8-block":
        return fp8_bytes(elements)
    if dtype not in FORMAT_BITS:
        raise ValueError(f"unknown operand format {dtype!r}")
    return tensor_bytes(dtype, elements)


def _op(
    name: str, kernel: str, phase: Pass, read: int, written: int, *, flop: float = 0.0, model_flop: float = 0.0,
    routed: bool = False, executed_flop: float = 0.0, **sizes: Any,
) -> Op:  # fmt: skip
    """An operator of the kernel class `kernel`; executed_flop: where the sizes do not say it; sizes: the rest of its shape."""
    shape = KernelShape(kernel, bytes=read + written, flop=executed_flop, **sizes)
    return Op(name, phase, shape, read, written, flop, model_flop, routed)


def fprop(name: str, dtype: str, t: int, n: int, k: int, *, recompute: bool = False, phase: Pass = "F") -> Op:
    """y[t,n] = x[t,k] w[k,n]; output in BF16. A recomputed one does no model FLOP."""
    return _product(name, "fprop", phase, dtype, t, n, k, is_model_work=not recompute)


def dgrad(name: str, dtype: str, t: int, n: int, k: int) -> Op:
    """dx[t,k] = dy[t,n] w^T[n,k] of the linear layer k → n."""
    return _product(name, "dgrad", "I", dtype, t, k, n)


def _product(
    name: str, variant: str, phase: Pass, dtype: str, t: int, n: int, k: int, *, is_model_work: bool = True
) -> Op:
    flop = 2.0 * t * n * k
    return _op(
        name, "gemm", phase, operand_bytes(dtype, t * k) + operand_bytes(dtype, n * k), 2 * t * n,
        variant=variant, dtype=dtype, m=t, n=n, k=k, flop=flop, model_flop=flop if is_model_work else 0.0,
    )  # fmt: skip


def wgrad(name: str, dtype: str, t: int, n: int, k: int, *, phase: Pass = "W") -> Op:
    """dw[n,k] += dy^T[n,t] x[t,k], accumulated in FP32: the gradient is read and written."""
    flop = 2.0 * t * n * k
    return _op(
        name, "gemm", phase, operand_bytes(dtype, t * n) + operand_bytes(dtype, t * k) + 4 * n * k, 4 * n * k,
        variant="wgrad", dtype=dtype, m=n, n=k, k=t, flop=flop, model_flop=flop,
    )  # fmt: skip


def grouped(op: Op, groups: int, library: str = "", rows_cv: float = 0.0) -> Op:
    """The same rows split over `groups` weight matrices (the local experts). library, rows_cv: as in KernelShape."""
    one, read, written = op.shape, op.bytes_read, op.bytes_written
    if one.variant == "wgrad":
        more = 4 * one.m * one.n * (groups - 1)
        read, written = read + more, written + more
    else:
        read += (groups - 1) * operand_bytes(one.dtype, one.n * one.k)
    shape = replace(one, op="grouped_gemm", groups=groups, bytes=read + written, library=library, rows_cv=rows_cv)
    return replace(op, shape=shape, routed=True, bytes_read=read, bytes_written=written)


def moved(
    name: str, kernel: str, phase: Pass, read: int, written: int, *, kernels: int = 1, routed: bool = False,
    rows: int = 0, width: int = 0,
) -> Op:  # fmt: skip
    """A memory-bound operator by the bytes that it moves, and its rows and their width where a kernel works by rows."""
    return _op(name, kernel, phase, read, written, num_kernels=kernels, routed=routed, m=rows, n=width)


def rmsnorm(name: str, t: int, h: int, phase: Pass = "F") -> Op:
    """Reads x, writes the normalised x, BF16."""
    return moved(name, "rmsnorm", phase, 2 * t * h, 2 * t * h, rows=t, width=h)


def rmsnorm_bwd(name: str, t: int, h: int) -> Op:
    """Reads x and dy, writes dx, BF16; the weight's gradient is finished by two small kernels."""
    return moved(name, "rmsnorm_bwd", "I", 4 * t * h, 2 * t * h, kernels=3, rows=t, width=h)


def quantise(name: str, t: int, h: int, phase: Pass = "F", *, routed: bool = False) -> Op:
    """BF16 to FP8 in 1x128 tiles, and the transpose of the scales."""
    return moved(name, "quantise", phase, 2 * t * h, fp8_bytes(t * h), kernels=2, routed=routed)


def quantise_transpose(name: str, t: int, h: int, phase: Pass = "I", *, routed: bool = False) -> Op:
    """BF16 to transposed FP8 in 128x1 tiles, the operand of a weight gradient."""
    return moved(name, "quantise_transpose", phase, 2 * t * h, fp8_bytes(t * h), routed=routed)


def dequantise(name: str, t: int, h: int, phase: Pass = "I", *, routed: bool = False) -> Op:
    """FP8 to BF16."""
    return moved(name, "dequantise", phase, fp8_bytes(t * h), 2 * t * h, routed=routed)


def weight_transpose(name: str, elements: int, phase: Pass) -> Op:
    """The FP8 weight transposed for the other GEMM layout."""
    return moved(name, "transpose", phase, elements, elements)


def copy(name: str, elements_read: int, elements_written: int, phase: Pass = "F", *, kernels: int = 1) -> Op:
    """BF16 elements copied (slices, concatenation, broadcast)."""
    return moved(name, "copy", phase, 2 * elements_read, 2 * elements_written, kernels=kernels)


def add(name: str, elements: int, phase: Pass = "F", *, inputs: int = 2) -> Op:
    """Element-wise sum (or scaling, inputs=1) of BF16 tensors."""
    return moved(name, "add", phase, 2 * inputs * elements, 2 * elements)


def bias_grad(name: str, t: int, n: int, *, routed: bool = False) -> Op:
    """The output gradient summed over its t rows; the FP32 gradient of n biases is read and written."""
    return moved(name, "add", "W", 2 * t * n + 4 * n, 4 * n, routed=routed)


def rope(name: str, elements: int, phase: Pass = "F") -> Op:
    """Rotates `elements` BF16 values in place."""
    return moved(name, "rope", phase, 2 * elements, 2 * elements)


SCALED_ROPE = (13, 11, 6)
"""Bytes of an element read and written, and launches, of torch functions that rotate and scale: second half negated (1, 1),
halves exchanged (2, 2), times cosine (2, 2), times sine (2, 2), sum (4, 2), what is not rotated put behind (2, 2)."""

SCALED_ROPE_BACKWARD = (17, 17, 11)
"""Of their gradients: times cosine and sine (4, 4), negated half (1, 1), halves exchanged (2, 2), sum (4, 2), then each of the
two slices into zeros of the whole (0, 2 and 2, 2; 0, 2) and summed (4, 2)."""


def scaled_rope(name: str, elements: int, phase: Pass = "F") -> Op:
    """Rotates and scales by functions of their own: Transformer Engine's kernel has no factor (NVIDIA/Megatron-LM core_v0.15 to
    v0.18, models/common/embeddings/rope_utils.py: unfused where mscale is not 1).
    """
    read, written, launches = SCALED_ROPE if phase == "F" else SCALED_ROPE_BACKWARD
    return moved(name, "add", phase, read * elements, written * elements, kernels=launches)


@dataclass(frozen=True, slots=True)
class AttentionCore:
    """What follows the projections: every query head against its key and value head."""

    heads: int
    kv_heads: int
    head_dim_qk: int
    head_dim_v: int
    window: int | None = None
    """Tokens that a query attends to, itself included; None: no window."""
    library: str = ""
    """Whose kernel it is (hwprofiles.kernels.attention_libraries); "": the stack's own."""

    @property
    def kernel_head_dim_v(self) -> int:
        """Head size of the values as the kernel gets them: some libraries take one size, and narrower values are padded."""
        return padded_v(self.library, self.head_dim_qk, self.head_dim_v)

    @property
    def padding(self) -> int:
        """Columns of zeros that a head's values, and its output, have more than the model's."""
        return self.kernel_head_dim_v - self.head_dim_v

    def run_by(self, library: str) -> AttentionCore:
        """The same core, by a library's kernel."""
        return replace(self, library=library)

    @property
    def as_run(self) -> AttentionCore:
        """The core as the kernel sees it."""
        return replace(self, head_dim_v=self.kernel_head_dim_v)

    @property
    def flop_per_pair(self) -> int:
        """Forward FLOP of one query and one key over all heads: two GEMMs, q k^T (head_dim_qk wide) and p v (head_dim_v)."""
        return 2 * self.heads * (self.head_dim_qk + self.head_dim_v)

    @property
    def backward_flop_per_pair(self) -> int:
        """The same of the kernel's backward: five GEMMs, q k^T again, dp and dv (head_dim_v wide), dq and dk (head_dim_qk)."""
        return 2 * self.heads * (3 * self.head_dim_qk + 2 * self.head_dim_v)


@dataclass(frozen=True, slots=True)
class Block:
    """Part of a sequence's attention that one call computes: queries, keys, their pairs of each head. causal: its last query
    sees all of its keys, those before it fewer. documents: what the queries belong to, where they attend to their own alone.
    even_share: the mean rank's pairs over these, which are the longest one's (1: all ranks have as many).
    """

    queries: int
    keys: int
    pairs: float
    causal: bool
    documents: tuple[Document, ...] = ()
    even_share: float = 1.0

    @property
    def pairs_of_sizes(self) -> float:
        """Pairs where every query attends to what its place allows."""
        return self.queries * (self.keys - self.queries / 2.0 if self.causal else float(self.keys))


def attention(
    name: str,
    phase: Pass,
    batch: int,
    seq: int,
    core: AttentionCore,
    causal: bool = True,
    *,
    block: Block | None = None,
) -> Op:
    """The attention core, forward (phase F) or backward (I: q k^T again included; model work is twice forward).

    What a library pads is executed and moved, and no work of the model. block: a part of the sequences; None: all of them.
    """
    part = block or Block(seq, seq, query_key_pairs(seq, causal, core.window), causal)
    pairs, run = batch * part.pairs, core.as_run
    packed = tuple(each._replace(number=batch * each.number) for each in part.documents)
    kv_width = run.kv_heads * (run.head_dim_qk + run.head_dim_v)
    inputs = 2 * batch * (part.queries * run.heads * run.head_dim_qk + part.keys * kv_width)
    output = 2 * batch * part.queries * run.heads * run.head_dim_v
    forward = pairs * part.even_share * core.flop_per_pair
    if phase == "F":
        flop, model_flop = pairs * run.flop_per_pair, forward
        kernel, read, written, kernels = "attention_fwd", inputs, output, 1
    else:
        flop, model_flop = pairs * run.backward_flop_per_pair, 2 * forward
        kernel, read, written, kernels = "attention_bwd", inputs + 2 * output, inputs, 3
    return _op(
        name, kernel, phase, read, written, flop=flop, model_flop=model_flop, num_kernels=kernels, batch=batch,
        seq=part.queries, keys=0 if part.keys == part.queries else part.keys, heads=run.heads, kv_heads=run.kv_heads,
        head_dim_qk=run.head_dim_qk, head_dim_v=run.head_dim_v, causal=causal, library=run.library,
        executed_flop=flop if packed or part.pairs != part.pairs_of_sizes else 0.0, documents=packed,
    )  # fmt: skip


def again(work: Iterable[Work]) -> tuple[Work, ...]:
    """Forward operators and collectives once more in the backward: executed, but no work of the model."""
    return tuple(_again(each) for each in work)


def _again(each: Work) -> Work:
    name = f"{each.name}_recompute"
    if isinstance(each, Op):
        return replace(each, name=name, phase="I", model_flop=0.0)
    return replace(each, name=name, phase="I")
