"""How the model is trained: batch, number formats, expert traffic, recompute, phases, prices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from simulator.scenario.parallel import ScheduleName
from simulator.scenario.section import AsPlain, AsTuple, Section, Sequences, Text, Tokens, Usd, unit_text

RecomputeModule = Literal[
    "rmsnorm", "mla_up_proj", "swiglu", "mlp", "attention", "layer", "moe", "shared_expert"
]  # fmt: skip


class Training(Section):
    """What a step trains on, and the optimizer."""

    seq_len: Annotated[int, Field(ge=1, le=100_000_000)] = 4096
    """Tokens of a sequence."""
    global_batch_size: Sequences = 256
    """Sequences of a step, over all data-parallel ranks."""
    micro_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Sequences of a micro-batch."""
    optimizer: Literal["adamw-bf16-moments", "adamw-fp32-moments"] = "adamw-fp32-moments"
    packing: Literal["none", "documents"] = "none"
    padding_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Precision(Section):
    """Number formats. The recipe sets the defaults of fp8_weight_cache, moe.dispatch_dtype and recompute.saved."""

    recipe: Literal["bf16", "fp8-blockwise", "fp8-tensor", "mxfp8"] = "bf16"
    head: Literal["bf16", "fp32"] = "bf16"
    attention: Literal["bf16", "fp8"] = "bf16"
    wgrad_accumulate: Literal["fp32", "bf16"] = "fp32"
    fp8_weight_cache: Literal["per_step", "per_micro_batch", "none"] = "none"
    """How often weights are quantised and transposed."""


class LoadImbalance(Section):
    """A given expert load: maximum over mean tokens of the GPUs of an expert group."""

    load_imbalance: Annotated[float, Field(ge=1, le=1_000)]


def _balance(value: Any) -> Any:
    """One of the names, or a mapping with load_imbalance."""
    if isinstance(value, LoadImbalance) or (isinstance(value, str) and value in ("forced", "learned", "natural")):
        return value
    if isinstance(value, dict) and set(value) == {"load_imbalance"}:
        return LoadImbalance.model_validate(value)
    raise PydanticCustomError("balance", "must be forced, learned, natural or {{load_imbalance: 1.2}}")


class Moe(Section):
    """How tokens reach their experts. Without meaning in a dense model."""

    dispatcher: Literal["deepep", "alltoall", "allgather"] = "deepep"
    dispatch_dtype: Literal["fp8", "bf16"] = "bf16"
    combine_dtype: Literal["bf16", "fp8"] = "bf16"
    max_nodes_per_token: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Nodes that a token's experts may lie on; null: as the model's router groups its experts."""
    balance: Annotated[
        str | LoadImbalance,
        PlainValidator(_balance),
        AsPlain,
        WithJsonSchema({"anyOf": [{"enum": ["forced", "learned", "natural"]}, {"type": "object"}]}),
    ] = "learned"
    """forced: every expert receives the same; learned: as a trained and balanced router; natural: without balancing."""
    capacity_factor: Annotated[float, Field(gt=0, le=1_000)] | None = None
    drop: Literal["none", "probs", "position"] = "none"
    row_padding: Annotated[int, Field(ge=1, le=100_000)] = 128
    """Rows of an expert are padded to a multiple of this."""
    permute_fusion: bool = True
    host_sync: Literal["none", "per_layer"] = "none"


class Saved(Section):
    """Number formats in which activations are kept for the backward."""

    attn_out: Literal["bf16", "e5m6", "fp8"] = "bf16"
    swiglu_in: Literal["bf16", "fp8"] = "bf16"


class Recompute(Section):
    """Activations that the backward computes again."""

    granularity: Literal["none", "selective", "full"] = "none"
    modules: Annotated[tuple[RecomputeModule, ...], AsTuple] = ()
    saved: Saved = Saved()


class Head(Section):
    """The output head and its loss."""

    cross_entropy: Literal["fused", "unfused"] = "fused"
    vocab_padding: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """The vocabulary is padded to a multiple of this."""
    chunk_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None


class Host(Section):
    """The CPU that launches kernels."""

    cuda_graph: Literal["none", "attn", "attn_router", "full"] = "none"
    launch_s: Annotated[Annotated[float, Field(ge=0, le=1)] | None, unit_text("s")] = None


class Device(Section):
    """How a GPU runs beside its datasheet."""

    power_cap_w: Annotated[Annotated[float, Field(gt=0, le=100_000)] | None, unit_text("w")] = None
    clock: Literal["sustained", "burst"] = "sustained"
    """sustained: as in hours of training under the power limit; burst: as in the short runs that benchmarks are."""
    speed_cv: Annotated[float, Field(ge=0, le=0.2)] | None = None
    """Coefficient of variation of the GPUs' speed; null: the assumption gpu_speed_cv."""


class BatchRamp(Section):
    """The global batch grows from `from` to training.global_batch_size over the phase's first `over_tokens` tokens."""

    from_: Annotated[int, Field(ge=1, le=100_000_000, alias="from")]
    """Sequences of the first step."""
    over_tokens: Tokens
    shape: Literal["linear", "none"] = "linear"
    schedule_below: ScheduleName | None = None
    """Schedule while the micro-batches are too few for parallel.schedule."""


class Phase(Section):
    """A part of the run; exactly one of tokens and steps says how long."""

    name: Text
    kind: Literal["pretrain", "sft", "rl"] = "pretrain"
    tokens: Tokens | None = None
    steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    batch_ramp: BatchRamp | None = None


class Prices(Section):
    """What a GPU-hour costs: a price, or a dated sheet of the catalogue."""

    usd_per_gpu_hour: Usd | None = None
    sheet: Text | None = None


class AssumptionOverride(Section):
    """A scenario's own value of a stated assumption; without low and high it is taken as exact."""

    value: float
    low: float
    high: float


class Mechanisms(Section):
    """Switches of single mechanisms, for ablations; all on unless switched off."""

    pp_transfer: bool = True
    """Time of sends and receives between stages."""
    zero_collectives: bool = True
    """Reduce-scatter and all-gather of ZeRO."""
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
    speed_spread: bool = True
    """GPUs of one kind that differ in speed."""
    stage_imbalance: bool = True
    """Unequal work of pipeline stages."""
