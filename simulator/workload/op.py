"""What a rank computes and sends, counted: FLOP, bytes, shapes. Knows no hardware and no seconds.

Shape letters: m rows (tokens), n output columns, k reduced dimension; `groups` GEMMs of one grouped call share the m rows.
A linear layer y[m,n] = x[m,k] w[k,n] has three GEMMs: fprop (m,n,k), dgrad (m,k,n), wgrad (n,k,m).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum
from typing import Literal

from hwprofiles.kernels.shape import KernelShape
from simulator.workload.capacity import UNLIMITED, Capacity

Pass = Literal["F", "I", "W"]
"""F forward, I backward for the input (dgrad; recomputed operators belong to it), W backward for the weights (wgrad)."""

BlockName = Literal[
    "attn_f",
    "mlp_f_local",
    "mlp_f_routed",
    "attn_r",
    "mlp_r_local",
    "mlp_r_routed",
    "combine_b_cast",
    "mlp_b_local",
    "mlp_b_routed",
    "mlp_w",
    "attn_b",
    "attn_w",
    "shared_f_up",
    "shared_f_down",
    "shared_b_down",
    "shared_b_up",
    "shared_w_down",
    "shared_w_up",
]
"""The compute of a unit in the pieces between which it may wait for communication.

attn_f         everything before the experts: norms, attention, router, quantising what is dispatched
mlp_f_local    forward of what needs no dispatch: shared experts; the whole FFN of a dense layer; a head
mlp_f_routed   forward of the routed experts, needs dispatch(F)
attn_r, mlp_r_local, mlp_r_routed   the forward blocks, or what of them is computed again, before the unit's backward, with
               dispatch(R) and combine(R) between and behind them; what is recomputed inside a backward block stands in it
combine_b_cast quantising the gradient that combine(B) sends, on the communication stream
mlp_b_local    input gradient of mlp_f_local; mlp_b_routed: of mlp_f_routed, needs combine(B)
mlp_w          weight gradients of both; attn_b, attn_w: input (with recompute) and weight gradients of attn_f
shared_f_up    of shared experts that run beside messages, in place of their part of the mlp blocks: up projections and
               activation; shared_f_down: their down projection; shared_b_*, shared_w_*: input and weight gradients of these
"""

BLOCKS: tuple[BlockName, ...] = (
    "attn_f", "mlp_f_local", "mlp_f_routed", "attn_r", "mlp_r_local", "mlp_r_routed", "combine_b_cast", "mlp_b_local",
    "mlp_b_routed", "mlp_w", "attn_b", "attn_w", "shared_f_up", "shared_f_down", "shared_b_down", "shared_b_up",
    "shared_w_down", "shared_w_up",
)  # fmt: skip

UnitKind = Literal["dense", "moe", "head"]


@dataclass(frozen=True, slots=True)
class Op:
    """One kernel call of a layer and pass on one rank, for one micro-batch. Built by the functions of counting.py.

    shape: the call as a stack's kernel table looks it up: kernel, format, sizes, launches, bytes moved.
    flop: what the kernel executes (multiply-add = 2).
    model_flop: the part that counts as the model's own work (0 for recompute and for everything but GEMM and attention).
    bytes_read, bytes_written: device memory traffic with every operand read and written once; shape.bytes is their sum.
    routed: the work is proportional to the expert rows that this rank received.
    """

    name: str
    phase: Pass
    shape: KernelShape
    bytes_read: int
    bytes_written: int
    flop: float = 0.0
    model_flop: float = 0.0
    routed: bool = False


CollectiveOp = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "send_recv"]


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective inside a block, among the ranks that share a GEMM's matrix (axis tp), a routed expert (etp) or
    sequences (cp).

    It stands on the compute stream where the block needs its result. num_bytes: the whole tensor, of all ranks: output of an
    all-gather, input of a reduce-scatter or all-reduce; of an all-to-all what a rank has (and keeps 1/n of), of a send_recv
    what it sends to its neighbour.
    beside: operator of the same unit that runs at the same time; "": none. One of phase W only does where I and W of a
    micro-batch run one behind the other. chunked_with: GEMM that makes or takes the tensor, and can do so in chunks; "": none.
    routed: the tensor is proportional to the expert rows that this rank received.
    """

    name: str
    op: CollectiveOp
    axis: Literal["tp", "etp", "cp"]
    num_bytes: int
    phase: Pass
    beside: str = ""
    chunked_with: str = ""
    routed: bool = False


Work = Op | Collective


@dataclass(frozen=True, slots=True)
class AllToAll:
    """One dispatch or combine of a unit: what each rank of the expert group sends for its own tokens.

    op: "dispatch" (token to its experts) or "combine" (results back). The backward of a combine is a dispatch.
    direction: "F" or "B".
    tokens: tokens of the rank; bytes_per_token: payload of one copy, scales included.
    num_nodes: nodes that the expert group spans; ranks: GPUs of the group.
    nodes_per_token: expected distinct destination nodes, own node included; ranks_per_token: expected distinct GPUs.
    remote_per_token: copies a token over the busiest NICs, fullest_node: members on the node with most; None where every node
    of the group has as many.
    cached_layout: a backward all-to-all reuses the forward's layout.
    dispatcher: library that sends it. rows_per_token: rows of experts that a token is, capacity and drops counted; num_experts:
    routed ones of the layer. is_scaled: in 8 bits with scales of their own. sends_weights: the rows' weights, or their
    gradients, go with it. host_syncs: how often the host waits for counts before it can issue what follows.
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
    remote_per_token: float | None = None
    fullest_node: int | None = None
    dispatcher: str = "deepep"
    rows_per_token: float = 1.0
    num_experts: int = 1
    is_scaled: bool = False
    sends_weights: bool = False
    host_syncs: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """One transformer layer, or one output head with its loss, as a stage executes it for one micro-batch.

    blocks: block name → operators and collectives in order; a missing block is empty.
    all_to_all: keys of "dispatch_f", "combine_f", "combine_b" (a dispatch kernel), "dispatch_b" (a combine kernel), and of
        "dispatch_r", "combine_r" where they are sent again; empty for dense layers and heads, and where one rank holds all
        experts.
    replays: units, this one the last, whose blocks `attn_r` to `mlp_r_routed` run before this one's backward; 0: those of a
        unit that is recomputed together with a later one.
    """

    name: str
    kind: UnitKind
    blocks: Mapping[BlockName, tuple[Work, ...]]
    all_to_all: Mapping[str, AllToAll] = field(default_factory=dict)
    replays: int = 1

    def work(self) -> Iterable[Work]:
        """All operators and collectives, block by block."""
        for name in BLOCKS:
            yield from self.blocks.get(name, ())

    def ops(self) -> Iterable[Op]:
        """All operators, block by block."""
        return (each for each in self.work() if isinstance(each, Op))

    def collectives(self) -> Iterable[Collective]:
        """All collectives inside the blocks, block by block."""
        return (each for each in self.work() if isinstance(each, Collective))


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """Parameters of one part of a model (embedding, layer, head …) on one rank: what is gathered and reduced together.

    unit: index in the stage of the first unit that computes with them. dense, expert: as in StageWorkload.
    """

    unit: int
    dense: int
    expert: int = 0


@dataclass(frozen=True, slots=True)
class StageWorkload:
    """A pipeline stage: its units in forward order, and its parameters on one rank (counts, not bytes).

    dense_params: replicated over the whole data-parallel group; of these replicated_params also over the ranks of a
    tensor-parallel group, which share the others. expert_params: held by one rank of the expert group.
    groups: the same by part, in forward order. like: the stage whose parts these are, where another one's; -1: its own.
    """

    stage: int
    units: tuple[Unit, ...]
    dense_params: int
    expert_params: int
    groups: tuple[ParamGroup, ...] = ()
    replicated_params: int = 0
    like: int = -1

    @property
    def layout_stage(self) -> int:
        """The stage of the layout whose parts these are."""
        return self.stage if self.like < 0 else self.like


@dataclass(frozen=True)
class Workload:
    """All stages of one step's micro-batch, and the sizes that leave a stage.

    boundary_bytes: activation (and gradient) of one micro-batch between two stages.
    """

    stages: tuple[StageWorkload, ...]
    boundary_bytes: int
    capacity: Capacity = UNLIMITED

    @cached_property
    def flop(self) -> float:
        """FLOP of one micro-batch in all stages, forward and backward."""
        return fsum(op.flop for stage in self.stages for unit in stage.units for op in unit.ops())
