"""What a rank computes and sends, counted: FLOP, bytes, shapes. Knows no hardware and no seconds.

Shape letters: m rows (tokens), n output columns, k reduced dimension; `groups` GEMMs of one grouped call share the m rows.
A linear layer y[m,n] = x[m,k] w[k,n] has three GEMMs: fprop (m,n,k), dgrad (m,k,n), wgrad (n,k,m).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Pass = Literal["F", "I", "W"]
"""F forward, I backward for the input (dgrad; recomputed operators belong to it), W backward for the weights (wgrad)."""

BlockName = Literal[
    "attn_f",
    "mlp_f_local",
    "mlp_f_routed",
    "combine_b_cast",
    "mlp_b_local",
    "mlp_b_routed",
    "mlp_w",
    "attn_b",
    "attn_w",
]
"""The compute of a unit in the pieces between which it may wait for communication.

attn_f         everything before the experts: norms, attention, router, quantising what is dispatched
mlp_f_local    forward of what needs no dispatch: shared experts; the whole FFN of a dense layer; a head
mlp_f_routed   forward of the routed experts, needs dispatch(F)
combine_b_cast quantising the gradient that combine(B) sends, on the communication stream
mlp_b_local    input gradient of mlp_f_local; mlp_b_routed: of mlp_f_routed, needs combine(B)
mlp_w          weight gradients of both; attn_b, attn_w: input (with recompute) and weight gradients of attn_f
"""

BLOCKS: tuple[BlockName, ...] = (
    "attn_f", "mlp_f_local", "mlp_f_routed", "combine_b_cast", "mlp_b_local", "mlp_b_routed", "mlp_w", "attn_b", "attn_w",
)  # fmt: skip

UnitKind = Literal["dense", "moe", "head"]


@dataclass(frozen=True, slots=True)
class Op:
    """One kernel class of a layer and pass on one rank, for one micro-batch.

    kind: the kernel, a key of hwprofiles.kernels.shape.KERNELS.
    variant: fprop | dgrad | wgrad for GEMMs, else "".
    dtype: bf16 | fp8-block | fp32 …: the format of the operands.
    m, n, k, groups: GEMM sizes, m rows over all groups (of a wgrad: the two weight dimensions are m and n, k the rows).
    batch, seq, heads, kv_heads, head_dim_qk, head_dim_v, causal: attention only.
    flop: what the kernel executes (multiply-add = 2).
    model_flop: the part that counts as the model's own work (0 for recompute and for everything but GEMM and attention).
    bytes_read, bytes_written: device memory traffic with every operand read and written once.
    num_kernels: launches on the stream, for the gaps between kernels.
    routed: the work is proportional to the expert rows that this rank received.
    """

    name: str
    kind: str
    phase: Pass
    dtype: str = "bf16"
    variant: str = ""
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
    flop: float = 0.0
    model_flop: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    num_kernels: int = 1
    routed: bool = False

    @property
    def bytes_moved(self) -> int:
        """Bytes read plus bytes written."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class AllToAll:
    """One dispatch or combine of a unit: what each rank of the expert group sends for its own tokens.

    op: "dispatch" (token to its experts) or "combine" (results back). The backward of a combine is a dispatch.
    direction: "F" or "B".
    tokens: tokens of the rank; bytes_per_token: payload of one copy, scales included.
    num_nodes: nodes that the expert group spans; ranks: GPUs of the group.
    nodes_per_token: expected distinct destination nodes, own node included; ranks_per_token: expected distinct GPUs.
    cached_layout: a backward all-to-all reuses the forward's layout.
    """

    op: Literal["dispatch", "combine"]
    direction: Literal["F", "B"]
    tokens: int
    bytes_per_token: int
    num_nodes: int
    ranks: int
    nodes_per_token: float
    ranks_per_token: float
    cached_layout: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """One transformer layer, or one output head with its loss, as a stage executes it for one micro-batch.

    blocks: block name → operators in order; a missing block is empty.
    all_to_all: keys of "dispatch_f", "combine_f", "combine_b" (a dispatch kernel), "dispatch_b" (a combine kernel); empty
        for dense layers and heads, and where one rank holds all experts.
    """

    name: str
    kind: UnitKind
    blocks: Mapping[BlockName, tuple[Op, ...]]
    all_to_all: Mapping[str, AllToAll] = field(default_factory=dict)

    def ops(self) -> Iterable[Op]:
        """All operators, block by block."""
        for name in BLOCKS:
            yield from self.blocks.get(name, ())


@dataclass(frozen=True, slots=True)
class StageWorkload:
    """A pipeline stage: its units in forward order, and its parameters on one rank (counts, not bytes).

    dense_params: replicated over the whole data-parallel group; expert_params: held by one rank of the expert group.
    """

    stage: int
    units: tuple[Unit, ...]
    dense_params: int
    expert_params: int


@dataclass(frozen=True, slots=True)
class Workload:
    """All stages of one step's micro-batch, and the sizes that leave a stage.

    boundary_bytes: activation (and gradient) of one micro-batch between two stages.
    """

    stages: tuple[StageWorkload, ...]
    boundary_bytes: int
