"""How the model is trained: batch, number formats, expert traffic, recompute, phases, prices."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hwprofiles.kernels.attention_libraries import LIBRARIES
from hwprofiles.names import nearest
from hwprofiles.offers import Wanted
from hwprofiles.price_records import Commitment
from simulator.scenario.dispatchers import DEFAULT as DISPATCHER
from simulator.scenario.section import (
    MAX_LAYERS,
    AsPlain,
    AsTuple,
    LayerCount,
    Section,
    Sequences,
    Text,
    Usd,
    named,
)

RecomputeModule = Literal[
    "rmsnorm", "mla_up_proj", "swiglu", "mlp", "attention", "layer", "moe", "shared_expert", "experts", "gemms"
]
"""attention: the attention core; mlp: the FFN of dense layers; moe: router, dispatch, experts, combine; layer: all of it.
experts: routed experts from the rows that came, which are kept, to their results, as torch's selective checkpoint of operators
does it where it keeps messages and no grouped GEMM.
gemms: every second GEMM (keys, attention output, up projection beside a gate), as torch's selective checkpoint of operators
does it; of dense layers with grouped-query attention.
"""


RecipeName = Annotated[str, named("precision recipe")]
SoftwareName = Annotated[str, named("software generation")]
DispatcherName = Annotated[str, named("dispatcher")]


def _attention(value: Any) -> Any:
    """The name of a library of attention cores, or None."""
    if value is None or (isinstance(value, str) and value in LIBRARIES):
        return value
    known = ", ".join(LIBRARIES)
    raise PydanticCustomError(
        "attention_library", f"must be {known} or null{nearest(str(value), LIBRARIES, listed=False)}"
    )


DocumentTokens = Annotated[int, Field(ge=1, le=100_000_000)]


class Packing(Section):
    """Documents that a sequence is packed from, each of which attends to itself alone (variable-length kernels).

    mean_tokens and cv: of log-normal lengths, a stream of which is cut every seq_len tokens: a document that does not fit
    goes on in the next sequence. lengths: of every sequence's documents instead, in order.
    """

    mean_tokens: Annotated[float, Field(ge=1, le=100_000_000)] | None = None
    """Mean tokens of a document."""
    cv: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Standard deviation over mean of the documents' tokens; 0: all are equal."""
    lengths: (
        Annotated[
            tuple[Annotated[int, Field(ge=1, le=100_000_000)], ...], AsTuple, Field(min_length=1, max_length=16_384)
        ]
        | None
    ) = None
    """Tokens of each document of a sequence; they sum to seq_len, less what is padding."""
    cut: Literal["documents", "sequence"] = "documents"
    """What GPUs that share a sequence (cp) cut into 2 cp pieces. documents: each for itself, as Transformer Engine does: all
    GPUs attend to as much. sequence: all of it, wherever documents end, as Llama 3's all-gather does.
    """


PACKING: Final = "{mean_tokens: 1500, cv: 1.5}"


def _packing(value: Any) -> Any:
    """The word none, or a mapping of documents: exactly one of mean_tokens and lengths."""
    if value == "none" or isinstance(value, Packing):
        return value
    if isinstance(value, dict):
        found = Packing.model_validate(value)
        if (found.mean_tokens is None) != (found.lengths is None) and not (found.lengths and "cv" in value):
            return found
        text = (
            "needs mean_tokens (with cv), or lengths alone, and not both; packing: none first drops what a file gives"
        )
        raise PydanticCustomError("packing", text)
    raise PydanticCustomError("packing", "must be none or {example}", {"example": PACKING})


class Muon(Section):
    """How the ranks share Muon's work. Has no meaning with other optimizers."""

    shards: Literal["gathered", "whole"] = "gathered"
    """Of matrices, over data-parallel ranks. gathered: equal shards, as with AdamW; the momentum of a matrix that ranks share
    is gathered before its update (arXiv:2502.16982, 2.3). whole: gradients are all-reduced, each matrix is one rank's, weights
    are gathered (Megatron-LM's layer-wise distributed optimizer).
    """
    tensor_parallel: Literal["duplicated", "blockwise"] = "duplicated"
    """Ranks that share a GEMM's matrix gather it and each updates all of it, or each its own block as if it were a matrix."""
    steps: Annotated[int, Field(ge=1, le=20)] = 5
    """Newton-Schulz iterations."""


class Training(Section):
    """What a step trains on, and the optimizer."""

    seq_len: Annotated[int, Field(ge=1, le=100_000_000)] = 4096
    """Tokens of a sequence."""
    global_batch_size: Sequences = 256
    """Sequences of a step, over all data-parallel ranks."""
    micro_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Sequences of a micro-batch."""
    optimizer: Literal["adamw-bf16", "adamw-bf16-moments", "adamw-fp32-moments", "muon"] = "adamw-fp32-moments"
    """The moments' format. adamw-bf16: BF16 moments, and BF16 weights without an FP32 master copy. muon: one FP32 momentum of
    the layers' matrices, AdamW with FP32 moments for all others."""
    muon: Muon = Muon()
    grad_norm_sync: Literal["barrier", "post_validation", "none"] = "barrier"
    """What the optimizer waits for. barrier: the norm of all gradients, for clipping, and with it every pipeline rank.
    post_validation: its own gradients and the norm so far of the ranks before; an update that clipping would have changed is
    taken back (none is assumed). none: its own gradients, without clipping. Without the barrier the next step begins on a rank
    when its optimizer is done.
    """
    packing: Annotated[
        str | Packing,
        PlainValidator(_packing),
        AsPlain,
        WithJsonSchema({"anyOf": [{"enum": ["none"]}, {"type": "object"}]}),
    ] = "none"
    """What sequences are packed from. none: every token attends to all before it in its sequence; else a mapping of documents
    that attend to themselves alone.
    """
    padding_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a sequence's tokens that are padding: they are computed and train nothing."""


class Kernels(Section):
    """What of the software is other than the stack's."""

    attention: Annotated[str | None, PlainValidator(_attention), WithJsonSchema({"enum": [None, *LIBRARIES]})] = None
    """Library of the attention core; null: the stack's own, else the newest that was measured on GPUs of this family."""
    autograd: Literal["fused", "transformer_engine", "eager"] = "fused"
    """What automatic differentiation keeps of a forward. fused: functions written for training keep the least that their
    backward needs and add weight gradients into the accumulated ones. transformer_engine: the same, with a placeholder of each
    weight shape for the gradient that autograd expects. eager: plain modules, each function of which keeps what its own
    backward needs; weight gradients are tensors of their own.
    """
    activation: Literal["fused", "eager"] | None = None
    """Of a feed-forward network. fused: one kernel. eager: one for each function (the gate's and the product; relu and its
    square). null: as autograd says, where the layers' GEMMs are in BF16, else fused.
    """
    grouped_heads: Literal["native", "repeated"] = "native"
    """Heads of keys that are fewer than those of queries. native: as the attention library takes them. repeated: copied to one
    a head of queries in front of it, which context parallelism then sends.
    """
    projections: Literal["joint", "separate"] = "joint"
    """Of one input. joint: queries, keys and values by one GEMM, gate and up by one. separate: each by its own."""
    norm: Literal["fused", "eager"] = "fused"
    """Of RMS norms. fused: one kernel. eager: one for each function, most of them on FP32, as plain modules of torch run them.
    """
    modules: Literal["fused", "transformers", "moesim-torch"] = "fused"
    """Norms, rotary embedding, activations, router, shuffling of rows and loss. fused: as the keys of this section say.
    transformers: functions of plain torch, each a kernel or more of its own, as Hugging Face transformers writes its models.
    moesim-torch: as the torch model of hwprofiles/calibration has them, its casts, gradients' sums and optimizer too.
    The other keys that say how these run have no meaning then.
    """
    grouped_gemm: Literal["loop", "grouped"] | None = None
    """How the GEMMs of a rank's experts run. loop: a launch an expert. grouped: one launch for all; null: as the stack's
    rows; where it has none, the faster of the two.
    """
    gemm: Literal["moesim"] | None = None
    """Whose FP8 products by blocks run, dense and grouped. moesim: this project's (hwprofiles/calibration/kernels), with its
    kernels that quantise, permute, and activate with the cast behind; a stack has them where `moesim calibrate` measured them.
    null: those of the library that the stack is of.
    """
    casts: SoftwareName | None = None
    """Which casts, transposes and token-shuffling kernels run around the GEMMs. null: those of the software that was measured
    on the GPU; where none was, of Transformer Engine in 2025.
    """


class Precision(Section):
    """Number formats. The recipe sets the defaults of fp8_weight_cache, moe.dispatch_dtype and recompute.saved."""

    recipe: RecipeName = "bf16"
    fp8_weight_cache: Literal["per_step", "none"] = "none"
    """How often weights are quantised and transposed."""
    scaling: Literal["delayed", "current"] | None = None
    """Of a recipe with one scale a tensor: from the maxima of earlier steps, or from the tensor's own, which is read for it.
    null: the recipe's default.
    """
    bf16_first_layers: LayerCount = 0
    """Layers at the start whose GEMMs stay in BF16 whatever the recipe."""
    bf16_last_layers: LayerCount = 0
    """The same at the end; MTP modules are not of them."""
    primary_weights: Literal["bf16", "quantised"] = "bf16"
    """What the layers hold of the weights that GEMMs read in 8 or 4 bits: BF16 ones, from which those are cast each step, or
    only the cast ones, which the optimizer writes from its FP32 masters.
    """


class LoadImbalance(Section):
    """A given expert load: maximum over mean tokens of the GPUs of an expert group."""

    load_imbalance: Annotated[float, Field(ge=1, le=1_000)]


Balance = Literal["forced", "learned", "natural"]
EXAMPLE: Final = "{load_imbalance: 1.2}"


def _balance(value: Any) -> Any:
    """One of the names, or a mapping with load_imbalance."""
    if isinstance(value, LoadImbalance) or (isinstance(value, str) and value in get_args(Balance)):
        return value
    if isinstance(value, dict) and set(value) == {"load_imbalance"}:
        return LoadImbalance.model_validate(value)
    raise PydanticCustomError("balance", f"must be {', '.join(get_args(Balance))} or {{example}}", {"example": EXAMPLE})


class Moe(Section):
    """How tokens reach their experts. Without meaning in a dense model."""

    dispatcher: DispatcherName = DISPATCHER
    """Library that sends tokens to their experts and results back."""
    permute_fusion: bool = True
    """Rows are ordered by experts, and summed by tokens, by one kernel each; false: by several of the framework's own."""
    dispatch_dtype: Literal["fp8", "bf16"] = "bf16"
    combine_dtype: Literal["bf16", "fp8"] = "bf16"
    """In what experts' results, and in the backward their inputs' gradients, are sent back. fp8: in the recipe's 8-bit
    format, cast on the experts' GPUs.
    """
    max_nodes_per_token: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Nodes that a token's experts may lie on; null: as the model's router groups its experts."""
    balance: Annotated[
        str | LoadImbalance,
        PlainValidator(_balance),
        AsPlain,
        WithJsonSchema({"anyOf": [{"enum": list(get_args(Balance))}, {"type": "object"}]}),
    ] = "learned"
    """forced: every expert receives the same; learned: as a trained and balanced router; natural: without balancing."""
    row_padding: Annotated[int, Field(ge=1, le=4_096)] | None = None
    """Rows of an expert are padded to a multiple of it, in layers whose GEMMs read the recipe's format. null: as the recipe's
    kernels need (BF16: 1, no padding).
    """
    capacity_factor: Annotated[float, Field(gt=0, le=1_000)] | None = None
    """Most rows of a rank's micro-batch for one expert over the even share; null: no row is dropped."""
    drop: Literal["none", "probs", "position"] = "none"
    """Which rows beyond the capacity are dropped: those of the least probability, or the last; the same time."""
    router_fusion: bool | None = None
    """Scores, selection and probabilities of the router in one kernel; null: as the generation of kernels.casts."""
    expert_fusion: bool = True
    """The experts' clamp and biases in the kernels before them; false: functions of their own where a model has them."""
    pad_copies: bool | None = None
    """Rows are padded for GEMMs in 8 or 4 bits by copies in front of the experts, and the results cut behind them; false: they
    arrive padded. null: copies under kernels.autograd: transformer_engine, unless the dispatcher pads them or all experts are
    padded to their capacity.
    """
    host_sync: Literal["none", "per_layer"] | None = None
    """Whether the host waits in every layer for its router, to know how many rows arrive. null: as the dispatcher has it; most
    wait unless experts are padded to a capacity.
    """
    pad_to_capacity: bool = False
    """Every expert receives as many rows as its capacity, zeros where there are no others."""


class Saved(Section):
    """Number formats in which activations are kept for the backward."""

    attn_out: Literal["bf16", "e5m6"] = "bf16"
    swiglu_in: Literal["bf16", "fp8"] = "bf16"


class Recompute(Section):
    """Activations that the backward computes again."""

    granularity: Literal["none", "selective", "full"] = "none"
    """selective: the modules; full: whole layers."""
    modules: Annotated[tuple[RecomputeModule, ...], AsTuple] = ()
    method: Literal["uniform", "block"] = "uniform"
    """Of full: uniform keeps the input of each num_layers layers; block recomputes the first num_layers of a stage."""
    num_layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)] | None = None
    """Of full: layers of a group (uniform; null: 1), or layers of each stage that are computed again (block)."""
    saved: Saved = Saved()


class Head(Section):
    """The output head and its loss."""

    vocab_padding: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """The vocabulary is padded to a multiple of this times tp."""
    cross_entropy: Literal["fused", "compiled", "unfused"] = "fused"
    """fused: one kernel, which leaves the logits' gradient in their place. unfused: FP32 logits, and a kernel for each function
    of the loss, which keep FP32 probabilities beside the logits. compiled: the same functions, of which torch.compile makes
    three kernels forward and two backward (Megatron-Core's cross_entropy_loss_fusion where its implementation is native).
    """
    chunk_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens whose logits are there at a time: of each such chunk the forward computes logits, loss and both gradients of the
    head, and keeps the input's gradient alone (Liger Kernel's fused linear cross entropy). null: all logits of a micro-batch,
    kept until the backward.
    """
    logits: Literal["sharded", "gathered"] = "sharded"
    """With tp: every rank takes the loss of its share of the vocabulary, or of all logits, which are gathered for it (as a
    DTensor head does unless its loss is parallel too).
    """


class Device(Section):
    """How a GPU runs beside its datasheet."""

    clock: Literal["sustained", "burst"] = "sustained"
    """sustained: as in hours of training under the power limit; burst: the speed of the first launches after a rest."""
    power_cap_w: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Power limit of a GPU, W, at most its board's; null: the board's own. Of a sustained clock alone."""
    speed_cv: Annotated[float, Field(ge=0, le=0.2)] | None = None
    """Coefficient of variation of the GPUs' speed; null: the assumption gpu_speed_cv."""


class Prices(Section):
    """What a GPU-hour costs: a price, taken as exact, or a dated sheet of the catalogue, or offers in it."""

    usd_per_gpu_hour: Usd | None = None
    sheet: Text | None = None
    provider: Text | None = None
    """Takes the sheet's offers of this provider: their median, and their ends as the range. null: of any."""
    region: Text | None = None
    """Takes the sheet's offers in this region. null: in any."""
    commitment: Commitment | None = None
    """Takes the sheet's offers for this long. null: for any; without provider, region and commitment: the sheet's own price."""

    @property
    def wanted(self) -> Wanted:
        """Which offers of the sheet."""
        return Wanted(self.provider, self.region, self.commitment)


class AssumptionOverride(Section):
    """A scenario's own value of a stated assumption; without low and high it is taken as exact."""

    value: float
    low: float
    high: float


class Mechanisms(Section):
    """Switches of single mechanisms, for ablations; all on unless switched off."""

    pp_transfer: bool = True
    """Time of sends and receives between stages."""
    tp_collectives: bool = True
    """Collectives of tensor and expert tensor parallelism inside the layers."""
    cp_collectives: bool = True
    """What context parallelism exchanges around the attention core."""
    zero_collectives: bool = True
    """Collectives of data parallelism: gathers of parameters, reductions of gradients."""
    offload_time: bool = True
    """Time of copies to the host and back, and of the host's update."""
    orthogonalisation: bool = True
    """Muon's Newton-Schulz iterations, and the gathers that they need."""
    imbalance: bool = True
    """Unequal expert load."""
    kernel_gaps: bool = True
    """Gaps between kernels of a stream."""
    sm_partition: bool = True
    """SMs that communication takes from compute."""
    node_limited_dispatch: bool = True
    """moe.max_nodes_per_token."""
    batch_ramp: bool = True
    """Smaller batches at the start of a phase."""
    notify_floor: bool = True
    """Fixed cost of the notification before a dispatch."""
    document_spread: bool = True
    """Sequences that are packed from documents and differ in what they attend to."""
    speed_spread: bool = True
    """GPUs of one kind that differ in speed."""
    power: bool = True
    """The power limit, which slows arithmetic down."""
    link_sharing: bool = True
    """Messages that share a link when they use it at the same time."""
    host_stream: bool = True
    """What it takes the host to issue kernels."""
    stage_imbalance: bool = True
    """Unequal work of pipeline stages."""
