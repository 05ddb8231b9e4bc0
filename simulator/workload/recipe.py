"""What of a scenario the counting needs, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from simulator.scenario.dispatchers import DEFAULT, DISPATCHERS, DispatcherRule, Sends
from simulator.scenario.recipes import SEPARATE
from simulator.scenario.software import SOFTWARE, Software
from simulator.workload.capacity import UNLIMITED, Capacity
from simulator.workload.casts.casts import Casts
from simulator.workload.counting import operand_bytes
from simulator.workload.documents import Documents
from simulator.workload.recompute import Checkpoint
from simulator.workload.sharded_copies import IN_PLACE, ShardedCopies
from simulator.workload.tensors import sent_format

CpComm = Literal["a2a", "ring", "all_gather"]
CpKv = Literal["expanded", "latent"]
Loss = Literal["fused", "compiled", "unfused"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One rank's micro-batch and numeric formats.

    batch, seq: sequences and tokens a sequence of one micro-batch, which cp ranks share; cp_comm, cp_kv: as in the scenario.
    casts: format of the layers' GEMMs, and what it adds to them (router and heads stay in BF16). dispatch_fp8, combine_fp8:
    dispatch and combine in 8 bits with scales, else BF16.
    recompute: modules computed again in the backward ("layer": everything from the layer's input on). checkpoint: which
    layers of a stage are recomputed whole; None: none is.
    save_attn_out_e5m6, save_swiglu_fp8: formats of saved activations.
    row_padding: rows of an expert are padded to a multiple of it; 1 pads nothing. capacity: rows that are dropped.
    tp, etp: ranks that share the GEMMs of a layer, one routed expert. shards_sequence: the tp ranks share the tokens of what
    is outside these GEMMs too (sequence parallelism).
    is_eager: plain modules: the weights of the experts' outputs are a function of their own (in BF16).
    splits_activation: the activation of a feed-forward network is a kernel for each of its functions.
    own_modules: what stands between GEMMs and attention cores is that of the torch model of hwprofiles/calibration
    (simulator/workload/modules).
    own_gemms: FP8 products, and what makes their operands, are this project's kernels.
    accumulated: share of a step's micro-batches whose gradients are added to those of earlier ones.
    repeats_heads: heads of keys and values are copied to one a head of queries in front of the attention core.
    splits_norms: an RMS norm is a kernel for each of its functions.
    splits_projections: projections of one input are GEMMs of their own.
    plain_modules: modules around GEMMs and attention cores are functions of plain torch (simulator/workload/plain).
    copies_gathers: what a tensor-parallel group gathers, or is about to scatter, is laid out anew by a copy.
    loss: fused, one kernel on BF16 logits; compiled or unfused: several on FP32 ones.
    head_chunk: tokens of a chunk whose forward has the head's gradients too; None: all at once, gradients in the backward.
    gathers_logits: every one of the tp ranks takes the loss of the whole vocabulary.
    casts_weights: GEMMs cast the weights that they read.
    grouped_gemm: library of the experts' GEMMs (KernelShape.library). expert_rows_cv: standard deviation over mean of the rows
    of a rank's experts.
    attention: library of the attention core; "": the stack's own.
    ep: ranks of an expert group; nodes: nodes it spans. nodes_per_token, ranks_per_token: expected distinct destinations.
    remote_per_token, fullest_node: as in AllToAll. bf16_layers: how many at the start and at the end stay in BF16.
    dispatcher: library of dispatch and combine; host_syncs: of a layer's forward. fuses_permute: as moe.permute_fusion.
    software: which kernels route and shuffle tokens. fuses_experts, pads_by_copy: as the scenario's section moe says.
    fuses_scaled_rope: rotating and scaling is one kernel. groups_heads: projected queries stand with their key head.
    copies: those of sharded parameters. documents: what sequences are packed from; None: each attends to all of it.
    """

    batch: int
    seq: int
    casts: Casts
    dispatch_fp8: bool
    recompute: frozenset[str]
    save_attn_out_e5m6: bool
    save_swiglu_fp8: bool
    ep: int
    nodes: int
    nodes_per_token: float
    ranks_per_token: float
    row_padding: int = 1
    checkpoint: Checkpoint | None = None
    capacity: Capacity = UNLIMITED
    tp: int = 1
    cp: int = 1
    cp_comm: CpComm = "ring"
    cp_kv: CpKv = "expanded"
    shards_sequence: bool = False
    etp: int = 1
    gathers_logits: bool = False
    loss: Loss = "fused"
    head_chunk: int | None = None
    combine_fp8: bool = False
    is_eager: bool = False
    own_modules: bool = False
    own_gemms: bool = False
    accumulated: float = 0.0
    splits_activation: bool = False
    repeats_heads: bool = False
    splits_norms: bool = False
    splits_projections: bool = False
    plain_modules: bool = False
    copies_gathers: bool = False
    casts_weights: bool = False
    grouped_gemm: str = ""
    expert_rows_cv: float = 0.0
    attention: str = ""
    remote_per_token: float | None = None
    fullest_node: int | None = None
    bf16_layers: tuple[int, int] = (0, 0)
    software: Software = SOFTWARE[SEPARATE]
    fuses_experts: bool = True
    pads_by_copy: bool = False
    fuses_scaled_rope: bool = True
    groups_heads: bool = False
    copies: ShardedCopies = IN_PLACE
    documents: Documents | None = None
    shared_beside: bool = False
    dispatcher: str = DEFAULT
    fuses_permute: bool = True
    host_syncs: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch on the rank, all of which pass its share of the tensor-parallel GEMMs."""
        return self.batch * self.seq // self.cp

    @property
    def dispatching(self) -> DispatcherRule:
        """The rules of the dispatcher."""
        return DISPATCHERS[self.dispatcher]

    @property
    def sends(self) -> Sends:
        """Which copies of a token leave for its experts; with ep 1, where none does, as if each went once."""
        return self.dispatching.sends if self.ep > 1 else "distinct"

    def plain(self) -> Recipe:
        """The recipe of a layer that stays in BF16."""
        return replace(
            self,
            casts=Casts(),
            dispatch_fp8=False,
            combine_fp8=False,
            own_gemms=False,
            row_padding=1,
            save_attn_out_e5m6=False,
            save_swiglu_fp8=False,
        )

    def without(self, *modules: str) -> Recipe:
        """The recipe of what is inside something that is computed again whole: these modules are there by then."""
        return replace(self, recompute=self.recompute.difference(modules))

    @property
    def sequence_tokens(self) -> int:
        """Tokens of the rank outside the tensor-parallel GEMMs: norms, residuals, router, dispatch."""
        return -(-self.tokens // self.tp) if self.shards_sequence else self.tokens

    @property
    def gemm_dtype(self) -> str:
        """Format of the layers' GEMM operands."""
        return self.casts.dtype

    def sent_bytes(self, hidden: int) -> int:
        """Bytes of a token that is sent to an expert, scales included."""
        return operand_bytes(sent_format(self.gemm_dtype) if self.dispatch_fp8 else "bf16", hidden)

    def returned_bytes(self, hidden: int) -> int:
        """Bytes of a token that an expert's GPU sends back, scales included."""
        return operand_bytes(sent_format(self.gemm_dtype) if self.combine_fp8 else "bf16", hidden)
