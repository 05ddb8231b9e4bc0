"""One call of a kernel as it is asked for, and the one list of kernels: their names, what bounds them, how they are shown.

Knows no hardware and no seconds: whoever counts work describes it with these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

FEW: Final = "few"
FEW_ROWS: Final = 65_536
"""FEW is KernelShape.variant of a weight's gradient of a norm of heads over at most so many rows, which torch adds up by
another kernel than more of them, row behind row (pytorch aten/src/ATen/native/cuda/layer_norm_kernel.cu: M > 64 * 1024).
"""

Regime = Literal["overlapped", "alone"]
"""overlapped: communication kernels hold SMs beside the kernel; alone: nothing does."""

Bound = Literal["gemm", "attention", "memory"]
"""Which formula, which clock and which overlap a kernel has: dense arithmetic, attention, or the memory's bandwidth."""

LOOP: Final = "loop"
"""KernelShape.library of a grouped GEMM that is a launch for each expert."""

OWN_GEMMS: Final = "moesim"
"""KernelShape.library of GEMMs by this project's kernels (hwprofiles/calibration/kernels), dense and grouped: they have rows
and constants of their own, beside those of the library that a stack was measured with."""

OWN_STREAMS: Final = "moesim-fp8"
"""The same of the kernels that make their operands; "moesim" are the torch model's chains of functions."""

KernelCategory = Literal["gemm", "expert_gemm", "attention", "memory_bound"]
"""Under which name a kernel's time is explained."""


@dataclass(frozen=True, slots=True)
class KernelClass:
    """What a kernel has in common with others: `bound` (in files the <class> of a parameter's key) and its category."""

    bound: Bound
    category: KernelCategory


_MEMORY = KernelClass("memory", "memory_bound")
_ATTENTION = KernelClass("attention", "attention")

_MEMORY_OPS = (
    "adamw", "add", "amax", "copy", "cross_entropy", "cross_entropy_bwd", "dequantise", "dequantise_e5m6", "embedding",
    "embedding_bwd", "permute", "quantise", "quantise_e5m6", "quantise_hadamard", "quantise_joint",
    "quantise_transpose", "rmsnorm", "rmsnorm_bwd", "rope",
    "router_fused",
    "router_pointwise", "router_pointwise_bwd", "routing_map", "row_map", "swiglu", "swiglu_bwd", "transpose", "unpermute",
)  # fmt: skip

_PRIMITIVES = (
    "cast", "cat", "elementwise", "elementwise_broadcast", "elementwise_mixed", "elementwise_strided", "fill",
    "gather_rows", "index_put", "reduce", "reduce_columns", "scatter_rows", "softmax", "softmax_bwd", "sort",
    "strided_copy", "topk",
)  # fmt: skip
"""What modules without kernels of their own are made of, a launch each. elementwise: contiguous operands of one format; _mixed:
of several formats; _broadcast: a number a row, or a row for all rows; _strided: slices and transposed views. cast: to another
format. reduce: along the last dimension; reduce_columns: over rows. gather_rows: x[index]; scatter_rows: rows added by atomic
additions; index_put: the gradient of x[index]. strided_copy: a view made contiguous. `add`, `copy`: of contiguous operands."""

KERNELS: Final[Mapping[str, KernelClass]] = MappingProxyType(
    {
        "gemm": KernelClass("gemm", "gemm"),
        "grouped_gemm": KernelClass("gemm", "expert_gemm"),
        "attention_fwd": _ATTENTION,
        "attention_bwd": _ATTENTION,
        **dict.fromkeys((*_MEMORY_OPS, *_PRIMITIVES), _MEMORY),
    }
)
"""Every kernel that work is counted in or that a stack's table may hold → its class. Shapes of other names are refused."""

PEAK_OF_DTYPE: Final[Mapping[str, str]] = MappingProxyType({
    "bf16": "bf16", "fp16": "bf16", "fp32": "tf32", "tf32": "tf32",
    "fp8-block": "fp8", "fp8-row": "fp8", "fp8-tensor": "fp8", "mxfp8": "fp8", "fp8": "fp8",
    "nvfp4": "fp4", "mxfp4": "fp4", "fp4": "fp4",
})  # fmt: skip
"""Number format of an operator → the format of tensor cores whose peak bounds it. Rows of other formats are refused."""


class Document(NamedTuple):
    """Documents of one length in a call of a variable-length attention kernel: queries and keys of one (keys other than queries
    where ranks share it), how many (a mean need not be whole), keys that a query attends to on the mean.
    """

    queries: float
    keys: float
    number: float
    attended: float

    @property
    def sides(self) -> tuple[float, float]:
        """Queries and keys."""
        return self.queries, self.keys

    def attended_by(self, *, causal: bool) -> float:
        """Keys of a query on the mean where only the mask says so."""
        return self.keys - self.queries / 2.0 if causal else self.keys


@dataclass(frozen=True, slots=True)
class KernelShape:
    """One call. Raises ValueError for an op that is not in KERNELS.

    op: key of KERNELS; variant: fprop | dgrad | wgrad for GEMMs, else ""; dtype: format of the operands.
    library: which of several libraries runs it (of attention: attention_libraries.py; of grouped GEMMs: gemm.py; OWN_GEMMS);
    "": the stack's own.
    m, n, k, groups: of GEMMs, m rows over all groups (of a wgrad: m and n are the weight's dimensions, k the rows). Of
    memory-bound kernels m rows, each n numbers wide; n 0 or 1: m numbers in rows of no stated width.
    rows_cv: how unevenly these are spread over the groups: standard deviation over mean. result: in what a GEMM writes it, of
    gemm_formula.RESULTS; "": added to FP32 sums of a wgrad, else BF16.
    batch, seq, heads, kv_heads (0: as heads), head_dim_qk, head_dim_v, causal: attention only. keys: of each sequence, where
    they are others than its seq queries (0: as many; causal: the last query sees all of them).
    bytes: bytes moved (read and written once), the key of memory-bound kernels.
    flop: only for attention, where it differs from what the dimensions say (a window, a slice, documents); 0 = as they say.
    documents: of a causal attention call whose queries attend inside their own document alone; (): each sequence is one.
    num_kernels: launches behind the operator; each pays the launch floor of memory-bound kernels.
    """

    op: str
    variant: str = ""
    dtype: str = "bf16"
    m: int = 0
    n: int = 0
    k: int = 0
    groups: int = 1
    batch: int = 0
    seq: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim_qk: int = 0
    head_dim_v: int = 0
    causal: bool = True
    bytes: int = 0
    flop: float = 0.0
    num_kernels: int = 1
    library: str = ""
    rows_cv: float = 0.0
    result: str = ""
    keys: int = 0
    documents: tuple[Document, ...] = ()

    def __post_init__(self) -> None:
        if self.op not in KERNELS:
            raise ValueError(f"op: {self.op!r}; allowed: {', '.join(sorted(KERNELS))}")

    @property
    def bound(self) -> Bound:
        """What bounds the kernel."""
        return KERNELS[self.op].bound

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two calls the same call."""
        if self.bound == "gemm":
            sizes = (self.m, self.n, self.k, self.groups, self.rows_cv, self.result)
            return ("gemm", self.named_gemms, self.variant, self.dtype, *sizes)
        if self.bound == "attention":
            dims = (self.batch, self.seq, self.heads, self.kv_heads or self.heads, self.head_dim_qk, self.head_dim_v)
            return (self.op, self.dtype, self.library, *dims, self.causal, self.keys)
        return (self.op, self.library, self.bytes, self.width)

    @property
    def width(self) -> int:
        """Numbers of a row of a memory-bound kernel; 0 where it is not stated, and of other kernels."""
        return self.n if self.bound == "memory" and self.n > 1 else 0

    def has_width_of(self, other: KernelShape) -> bool:
        """Whether both have rows of one width, as far as they state it."""
        return self.width == other.width or not (self.width and other.width)

    @property
    def group_key(self) -> tuple[object, ...]:
        """Kind of kernel whose rows inform each other: fprop and dgrad are one, wgrad another; so are grouped and dense."""
        if self.bound == "gemm":
            return ("gemm", self.named_gemms, "wgrad" if self.variant == "wgrad" else "fprop", self.dtype)
        if self.bound == "attention":
            return (self.op, self.dtype, self.library)
        return (self.op, self.library)

    @property
    def named_gemms(self) -> str:
        """The library of a GEMM whose rows and constants go by its name; "" of the stack's own, in one launch or several."""
        return self.library if self.library == OWN_GEMMS else ""

    @property
    def flop_per_pair(self) -> float:
        """FLOP of the attention core for one query and one key of one head: 2 GEMMs forward, 5 backward."""
        qk, v = self.head_dim_qk, self.head_dim_v
        return 2.0 * (qk + v) if self.op == "attention_fwd" else 2.0 * (3 * qk + 2 * v)

    @property
    def attention_flop(self) -> float:
        """FLOP of the attention core by its dimensions, half of them where causal."""
        keys = self.keys or self.seq
        pairs = self.seq * (keys - self.seq / 2.0 if self.causal else float(keys))
        return self.flop_per_pair * self.batch * self.heads * pairs

    @property
    def flop_of_sizes(self) -> float:
        """FLOP of a GEMM or an attention core by its sizes; 0 for what is bound by memory."""
        if self.bound == "gemm":
            return 2.0 * self.m * self.n * self.k
        return self.attention_flop if self.bound == "attention" else 0.0

    def __str__(self) -> str:
        shown = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) not in (0, "", 1)]
        return ", ".join(shown)
