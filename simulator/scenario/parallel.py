"""How the model is spread over GPUs: the degrees of every axis, the pipeline schedule, what overlaps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from simulator.scenario.section import MAX_LAYERS, MAX_STAGES, AsPlain, GpuCount, Section, named

ScheduleName = Annotated[str, named("schedule")]

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

    ep: Literal["pair", "none"] | None = None
    """Dispatch and combine: beside the other half of an overlapped pair, or not at all; null: as the schedule has it."""
    dp: bool = True
    """Gradient reduction beside the backward, where data_parallel.grad_reduce.overlap says so too."""


class Parallel(Section):
    """Degrees of the mesh's axes; dp and edp are derived (scenario/derived.py)."""

    tp: GpuCount = 1
    """GPUs over which the GEMMs of a layer, the embedding and the head are cut (tensor parallelism)."""
    pp: Annotated[int, Field(ge=1, le=MAX_STAGES)] = 1
    vpp: Annotated[int, Field(ge=1, le=MAX_STAGES)] = 1
    """Chunks of the model that a pipeline rank holds (interleaving): chunk c of pp * vpp stands on rank c mod pp."""
    ep: GpuCount = 1
    """GPUs over which the routed experts of a layer are spread."""
    etp: GpuCount = 1
    """GPUs over which one routed expert is cut (expert tensor parallelism); tp does not cut it."""
    sequence_parallel: bool = False
    """The tp GPUs share the tokens of norms, residuals and router too, instead of each doing all of them."""
    schedule: ScheduleName = "1f1b"
    layers_per_stage: LayersPerStage = None
    """Of the pp * vpp stages. null: the rule of scenario/layout.py; a list of layer counts; or a layout text."""
    overlap: Overlap = Overlap()
    comm_sms: Annotated[int, Field(ge=0, le=1_000)] = 20
    """SMs that dispatch and combine kernels hold while they run."""


class GradReduce(Section):
    """Reduction of gradients over the data-parallel group."""

    overlap: bool = True
    dtype: Literal["fp32", "bf16"] = "fp32"


class DataParallel(Section):
    """Collectives of data parallelism."""

    grad_reduce: GradReduce = GradReduce()
