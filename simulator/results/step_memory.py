"""Memory of a step: what a GPU of each pipeline rank holds at its fullest, and whether that fits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Self, get_args

from pydantic import Field, model_validator

from simulator.errors import InconsistentSimulation
from simulator.results.document import Bytes, ResultModel
from simulator.results.interval import Estimate
from simulator.results.pipeline_rank import OnPipelineRank

MemoryKind = Literal["weights", "gradients", "optimizer", "activations", "buffers"]
"""What memory holds."""
MEMORY_KINDS: Final[tuple[MemoryKind, ...]] = get_args(MemoryKind)


class StageTensor(ResultModel):
    """A named tensor at a stage's fullest instant, summed over layers and micro-batches: "expert.input", "weights.fp8".

    What is below half a percent of the peak stands together under "<kind>.small".
    """

    name: str
    kind: MemoryKind
    bytes: Bytes


class StageMemory(OnPipelineRank):
    """Bytes on a GPU of one pipeline rank by what they hold; peak_bytes is the peak over the step, no sum of maxima.

    tensors: what is there at that instant, largest first; absent in documents of releases that did not tell it. They sum to
    the bytes of their kinds, and these to the peak, else InconsistentSimulation is raised. host_bytes: what the host holds for
    the GPU at most; absent where nothing is offloaded.
    """

    weights_bytes: Bytes
    gradients_bytes: Bytes
    optimizer_bytes: Bytes
    activations_bytes: Bytes
    buffers_bytes: Bytes
    peak_bytes: Bytes
    tensors: tuple[StageTensor, ...] | None = None
    host_bytes: Bytes | None = None

    def bytes_of(self, kind: MemoryKind) -> int:
        """Bytes of one kind at the peak."""
        size: int = getattr(self, f"{kind}_bytes")
        return size

    @model_validator(mode="after")
    def _tensors_sum(self) -> Self:
        if self.tensors is None:
            return self
        sums = dict.fromkeys(MEMORY_KINDS, 0)
        for tensor in self.tensors:
            sums[tensor.kind] += tensor.bytes
        wrong = [kind for kind in MEMORY_KINDS if sums[kind] != self.bytes_of(kind)]
        if wrong or sum(sums.values()) != self.peak_bytes:
            which = (
                f"{wrong[0]} hold {self.bytes_of(wrong[0])} bytes" if wrong else f"the peak is {self.peak_bytes} bytes"
            )
            raise InconsistentSimulation(f"tensors of pipeline rank {self.pp_rank} sum to {sums}, but {which}")
        return self


Verdict = Literal["fits", "marginal", "does not fit"]
"""Whether a plan fits in a GPU's memory, as far as the ranges tell."""


class Memory(ResultModel):
    """capacity_bytes: what the driver reports; usable_bytes: less what is reserved; fits: the worst peak ≤
    usable_bytes.

    margin: what the worst rank needs beyond its peak, as a share of it (no unit): memory that the allocator holds and cannot
    use, and, in the range, what libraries hold otherwise and how wrong predicted peaks have been (low may be below 0).
    verdict: fits where peak and the highest margin do (in capacity_bytes), does not fit where not even the lowest does,
    marginal between. Both are of the GPU. host_capacity_bytes: a GPU's share of its host's memory, for the host_bytes of the
    stages; absent where nothing is offloaded.
    """

    capacity_bytes: Bytes
    usable_bytes: Bytes
    peak_bytes_per_gpu: Bytes
    fits: bool
    margin: Estimate
    verdict: Verdict
    by_stage: tuple[StageMemory, ...] = Field(min_length=1)
    host_capacity_bytes: Bytes | None = None

    @classmethod
    def of(
        cls, capacity_bytes: int, usable_bytes: int, by_stage: Iterable[StageMemory], margin: Estimate,
        host_capacity_bytes: int | None = None,
    ) -> Memory:  # fmt: skip
        """The summary of the stages: the peak is the worst stage's."""
        stages = tuple(by_stage)
        peak = max(stage.peak_bytes for stage in stages)
        verdict: Verdict = "marginal"
        if peak * (1 + margin.high) <= capacity_bytes:
            verdict = "fits"
        elif peak * (1 + margin.low) > capacity_bytes:
            verdict = "does not fit"
        return cls(
            capacity_bytes=capacity_bytes,
            usable_bytes=usable_bytes,
            peak_bytes_per_gpu=peak,
            fits=peak <= usable_bytes,
            margin=margin,
            verdict=verdict,
            by_stage=stages,
            host_capacity_bytes=host_capacity_bytes,
        )

    @property
    def most_host_bytes(self) -> int:
        """What the host holds for a GPU at most; 0 where nothing is offloaded."""
        return max(stage.host_bytes or 0 for stage in self.by_stage)

    @property
    def worst_stage(self) -> StageMemory:
        """The stage with the highest peak; the first of equals."""
        return max(self.by_stage, key=lambda stage: stage.peak_bytes)
