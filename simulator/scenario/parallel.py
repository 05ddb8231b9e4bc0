"""How the model is spread over GPUs: the degrees of every axis, the pipeline schedule, what overlaps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hwprofiles.units import PETA
from simulator.scenario.section import MAX_LAYERS, MAX_STAGES, AsPlain, GpuCount, Section, unit_text

ScheduleName = Literal[
    "gpipe", "1f1b", "interleaved_1f1b", "1f1b_ep_overlap", "interleaved_1f1b_ep_overlap", "zb_h1", "zb_v",
    "dualpipe", "dualpipe_v",
]  # fmt: skip

MAX_LAYOUT_TEXT = 10_000


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
    """Dispatch and combine: beside the other half of an overlapped pair, beside the shared expert, or not at all.
    null: `pair` in schedules that overlap a forward with a backward, else `none`."""
    dp: bool = True
    """Gradient reduction beside the backward, where data_parallel.grad_reduce.overlap says so too."""
    pp: bool = True
    """Sends and receives between stages beside compute."""
    tp: Literal["none", "full"] = "none"


class Parallel(Section):
    """Degrees of the mesh's axes; dp and edp are derived (scenario/derived.py)."""

    tp: GpuCount = 1
    cp: GpuCount = 1
    pp: Annotated[int, Field(ge=1, le=MAX_STAGES)] = 1
    vpp: Annotated[int, Field(ge=1, le=MAX_STAGES)] = 1
    """Stages that a pipeline rank holds in interleaved schedules."""
    ep: GpuCount = 1
    """GPUs over which the routed experts of a layer are spread."""
    etp: GpuCount = 1
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 1
    sequence_parallel: bool = False
    schedule: ScheduleName = "1f1b"
    layers_per_stage: LayersPerStage = None
    """null: the rule of scenario/layout.py; a list of layer counts; or a layout text."""
    overlap: Overlap = Overlap()
    comm_sms: Annotated[int, Field(ge=0, le=1_000)] = 20
    """SMs that dispatch and combine kernels hold while they run."""
    rank_order: Annotated[str, Field(pattern=r"^(tp|cp|ep|dp|pp)(-(tp|cp|ep|dp|pp)){4}$")] = "tp-cp-ep-dp-pp"
    """Axes from the fastest-running to the slowest: groups are consecutive ranks in this order."""
    cp_comm: Literal["a2a", "ring", "all_gather"] = "a2a"
    """Collective of context parallelism; without meaning where cp is 1."""


class ParamGather(Section):
    """All-gather of updated weights after the optimizer (ZeRO)."""

    overlap: bool = False
    dtype: Literal["bf16", "fp8"] = "bf16"


class GradReduce(Section):
    """Reduction of gradients over the data-parallel group."""

    overlap: bool = True
    dtype: Literal["fp32", "bf16"] = "fp32"


class DataParallel(Section):
    """Collectives of data parallelism."""

    param_gather: ParamGather = ParamGather()
    grad_reduce: GradReduce = GradReduce()
    bucket_bytes: Annotated[Annotated[float, Field(gt=0, le=PETA)] | None, unit_text("bytes")] = None
    hsdp_group: GpuCount | None = None
