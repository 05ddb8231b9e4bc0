"""How the model is spread over GPUs: the degrees of every axis, the pipeline schedule, what overlaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    WrapSerializer,
)
from pydantic_core import PydanticCustomError

from hwprofiles.fields import Bytes
from simulator.scenario.section import MAX_LAYERS, MAX_STAGES, AsPlain, GpuCount, Section, named

ScheduleName = Annotated[str, named("schedule")]

MAX_LAYOUT_TEXT = 10_000
MAX_BUCKET_BYTES = 1_000_000_000_000


def _layers_per_stage(value: Any) -> Any:
    """null, a layout text, or a list of layer counts (held as a tuple)."""
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= MAX_LAYOUT_TEXT:
        return value
    is_list = isinstance(value, list | tuple) and 0 < len(value) <= MAX_STAGES
    if is_list and all(type(count) is int and 0 <= count <= MAX_LAYERS for count in value):
        return tuple(value)
    raise PydanticCustomError(
        "layers_per_stage",
        'must be null, a list of layer counts, one a stage, or a layout text such as "E d*3 m | (m*4)*14 | m mtp L"',
    )


LayersPerStage = Annotated[
    str | tuple[int, ...] | None,
    PlainValidator(_layers_per_stage),
    AsPlain,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "null"},
                {"type": "string", "minLength": 1, "maxLength": MAX_LAYOUT_TEXT},
                {"type": "array", "minItems": 1, "maxItems": MAX_STAGES, "items": {"type": "integer", "minimum": 0}},
            ],
            "default": None,
        }
    ),
]


class Overlap(Section):
    """Which communication runs beside compute."""

    ep: Literal["pair", "shared_expert", "none"] | None = None
    """Dispatch and combine: beside the other half of an overlapped pair; beside the shared experts of their own layer (and
    pairs then run one half after the other); or not at all. null: as the schedule has it."""
    delay_wgrad: bool = True
    """Weight gradients of an overlapped pair's backward: true, work beside its messages, behind the input gradients that these
    wait for; false, each directly behind its input gradient, as automatic differentiation has it.
    """
    pp: bool = True
    """Pipeline transfers: true, a rank goes on while what it sent is on its way, as far as its schedule's executor does;
    false, sender and receiver meet between two chunks and both wait for the transfer (with virtual stages, the sender).
    """
    dp: bool = True
    """Collectives of data parallelism beside compute, where data_parallel.*.overlap says so too."""
    tp: Literal["none", "chunked"] = "none"
    """Gathers and reductions around a layer's GEMMs: behind one another, or in chunks beside them (userbuffers)."""


class Parallel(Section):
    """Degrees of the mesh's axes; dp and edp are derived (scenario/derived.py)."""

    tp: GpuCount = 1
    """GPUs over which the GEMMs of a layer, the embedding and the head are cut (tensor parallelism)."""
    tp_tensors: Literal["sequence_first", "batch_first"] = "sequence_first"
    """Hidden states as sequence_parallel cuts them. sequence_first: what is gathered lies as the GEMMs read it. batch_first: it
    is laid out anew by a copy behind each gather and in front of each reduce-scatter (DTensor's second dimension); what
    overlaps in chunks writes it in place.
    """
    cp: GpuCount = 1
    """GPUs that share every sequence (context parallelism); each has two of its 2 * cp chunks, one from either end, so that all
    have as much causal attention.
    """
    cp_comm: Literal["a2a", "ring", "all_gather"] = "ring"
    """How they attend to one another's tokens. a2a: heads for tokens, exchanged before the core and behind it; ring: keys and
    values go round beside the core; all_gather: they are gathered in front of it.
    """
    cp_kv: Literal["expanded", "latent"] = "expanded"
    """What is sent of latent attention's keys and values: every head's, or the latent, projected up where it arrives."""
    pp: Annotated[int, Field(ge=1, le=MAX_STAGES)] = 1
    vpp: Annotated[int, Field(ge=1, le=MAX_STAGES)] = 1
    """Chunks of the model that a pipeline rank holds: with interleaving chunk c of pp * vpp stands on rank c mod pp. Left out:
    what the schedule has, 2 where the pipeline folds to a V (zb_v, dualpipe_v: chunk c on rank c or 2pp - 1 - c), else 1.
    """
    ep: GpuCount = 1
    """GPUs over which the routed experts of a layer are spread."""
    etp: GpuCount = 1
    """GPUs over which one routed expert is cut (expert tensor parallelism); tp does not cut it."""
    sequence_parallel: bool = False
    """The tp GPUs share the tokens of norms, residuals and router too, instead of each doing all of them."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 1
    """What the data-parallel ranks share: 0 nothing, 1 optimizer state, 2 gradients too, 3 (FSDP) parameters too."""
    schedule: ScheduleName = "1f1b"
    split_backward: bool = True
    """Weight gradients apart from input gradients where the schedule has them so; false: full backwards in their place
    (dualpipe, dualpipe_v: without the zero-bubble part of their ramps).
    """
    layers_per_stage: LayersPerStage = None
    """Of the pp * vpp stages. null: the rule of scenario/layout.py; a list of layer counts; or a layout text."""
    overlap: Overlap = Overlap()
    pipeline_buffers: Literal["in_flight", "per_micro_batch"] = "in_flight"
    """in_flight: messages between stages are held while they are on their way. per_micro_batch: as in
    torch.distributed.pipelining: a receive buffer for every micro-batch of the step, and the last stage keeps its outputs of
    all micro-batches and joins them at the end.
    """
    comm_sms: Annotated[int, Field(ge=0, le=1_000)] | None = None
    """SMs that dispatch and combine kernels hold while they run. null: as many as the dispatcher's own default."""


AUTO: Final = "auto"
"""In place of the section: a planner finds the degrees and the schedule, the other keys have their defaults."""


class PlannedParallel(Parallel):
    """The place of a layout that is not found yet: one GPU along every axis. A copy with other degrees is a layout."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Parallel:  # type: ignore[override]
        """A plain section where a key changes."""
        if not update:
            return super().model_copy(deep=deep)
        return Parallel.model_construct(**{key: getattr(self, key) for key in Parallel.model_fields} | dict(update))


def _planned(value: Any) -> Any:
    return PlannedParallel() if isinstance(value, str) and value == AUTO else value


def _auto(value: Parallel, handler: SerializerFunctionWrapHandler) -> Any:
    return AUTO if isinstance(value, PlannedParallel) else handler(value)


ParallelOrAuto = Annotated[Parallel, BeforeValidator(_planned), WrapSerializer(_auto)]


class ParamGather(Section):
    """Gather of parameters over the ranks that share them."""

    overlap: bool | None = None
    """Beside compute: with zero_stage 1 and 2 in the first forwards of a step, else behind the optimizer; with 3 one unit
    ahead. null: with zero_stage 3 alone."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """On the wire."""


class GradReduce(Section):
    """Reduction of gradients over the data-parallel group."""

    overlap: bool = True
    """Beside the backward that goes on, in buckets; else when all gradients are there."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """On the wire and in memory."""
    every: Literal["micro_batch", "step"] | None = None
    """How often; null: each micro-batch with zero_stage 2 and 3, else once a step. step with 3 is FSDP's no_sync."""
    over_groups: Literal["micro_batch", "step"] | None = None
    """How often shards are summed over the groups of hsdp_group; null: as often as gradients are reduced. step where these
    are reduced in each micro-batch: the two hops of MiCS (arXiv:2205.00119), FSDP2's set_requires_all_reduce.
    """


class DataParallel(Section):
    """Collectives of data parallelism."""

    param_gather: ParamGather = ParamGather()
    grad_reduce: GradReduce = GradReduce()
    bucket_bytes: Annotated[Bytes, Field(le=MAX_BUCKET_BYTES)] | None = None
    """Gradients that are reduced together, with zero_stage 0 to 2; null: 40 million parameters or a million a data-parallel
    rank, if that is more (Megatron-LM); by layer where they are reduced in each micro-batch."""
    hsdp_group: GpuCount | None = None
    """Ranks that share, of those with the same parameters; null: all. Gradients are then also summed over the groups."""
    reshard_after_forward: bool = True
    """With zero_stage 3: parameters are gathered again in the backward; else once a step, and held."""
    sharded_copies: Literal["none", "flat", "by_parameter"] = "none"
    """With zero_stage 3: copies inside a GPU's memory between shards and parameters. flat: torch's FSDP (a unit is one vector;
    gradients are joined, cast and divided); by_parameter: FSDP2 (each is copied out of a gather and into a reduction).
    """
