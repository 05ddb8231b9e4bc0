"""What the simulation of one step says: times by rank, category, cause, basis (memory: step_memory.py).

The keys are those of the result document; all times are seconds and means over the random draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from simulator.errors import InconsistentSimulation
from simulator.results.document import Bytes, JsonValue, ResultModel, Seconds, Share
from simulator.results.interval import Interval
from simulator.results.pipeline_rank import OnPipelineRank
from simulator.results.placement_result import Placement
from simulator.results.rates import FlopPerToken, Mfu, Tflops
from simulator.results.step_memory import Memory
from simulator.results.step_power import StepWatts

SUM_TOLERANCE = 1e-6
"""Relative tolerance, without unit, of "the parts sum to the whole": rounding of float sums, far above their 1e-12."""


class ModelCounts(ResultModel):
    """Parameters of the model: the main model's, those that one token uses (embedding and head counted), the MTP
    modules' own.
    """

    num_parameters: int = Field(ge=0)
    num_active_parameters: int = Field(ge=0)
    num_mtp_parameters: int = Field(ge=0)


class PartTimes(ResultModel):
    """The parts of a step on one rank (or their mean over the ranks); they sum to the step time.

    An action's interval runs from the moment that its pipeline input is there and the rank is free to the end of its
    last operator. forward_s, backward_s (input-only and full, the weight gradients inside a full backward included),
    weight_s (stand-alone weight gradients), overlapped_f_b_s: summed intervals by kind, exposed dispatch and combine
    and waits for the expert group inside. bubble_s: idle between intervals before the optimizer, waits for a pipeline
    input included. optimizer_s: from the last backward of all ranks to the step's end, exposed reduce-scatter and
    all-gather and what the host does before the next step included.
    """

    forward_s: Seconds
    backward_s: Seconds
    weight_s: Seconds
    overlapped_f_b_s: Seconds
    bubble_s: Seconds
    optimizer_s: Seconds

    @property
    def total_s(self) -> float:
        """Sum of the parts, in seconds."""
        return math.fsum(getattr(self, name) for name in PART_NAMES)


PART_NAMES: tuple[str, ...] = tuple(PartTimes.model_fields)
"""The keys of PartTimes, in order."""


class RankTimes(PartTimes, OnPipelineRank):
    """The parts of a step on one pipeline rank."""


class Parts(ResultModel):
    """edge: pipeline rank 0; mean: over all pipeline ranks; middle: pipeline rank num_ranks // 2."""

    edge: PartTimes
    mean: PartTimes
    middle: PartTimes


def parts_of(by_rank: Sequence[RankTimes]) -> Parts:
    """The three summaries of the ranks' times (ascending pp_rank, at least one)."""

    def summary(ranks: Sequence[RankTimes]) -> PartTimes:
        means = {name: math.fsum(getattr(rank, name) for rank in ranks) / len(ranks) for name in PART_NAMES}
        return PartTimes(**means)

    middle = by_rank[len(by_rank) // 2]
    return Parts(edge=summary(by_rank[:1]), mean=summary(by_rank), middle=summary([middle]))


class CategoryTime(ResultModel):
    """Time of one kernel category, mean over the ranks: `seconds`, and `share` of the step time."""

    category: str
    seconds: Seconds
    share: Share


class Binding(ResultModel):
    """A limit that holds the step back: what, the seconds that it costs, and why."""

    what: str
    seconds: Seconds
    why: str


class CollectiveTime(ResultModel):
    """A collective of the step, alone on its links, every rank evenly loaded; equal ones stand there once.

    name: what it is for; with ".beside_compute" while compute kernels run on the GPU. combine_b is a dispatch kernel and
    dispatch_b a combine kernel, as each sends what the forward received. ranks, nodes: of the group; a copy between a GPU and
    its host has one. bytes: of the message of one rank (the whole vector of a reduce-scatter, all-gather or all-reduce).
    gb_per_s: as its community counts it, in units of 1e9 bytes; counted_as: how that is. limit: what sets the time: nic,
    scale_up, sms, latency or host_link. basis: where the seconds come from.
    """

    name: str
    ranks: int = Field(ge=1)
    nodes: int = Field(ge=1)
    bytes: Bytes
    seconds: Seconds
    gb_per_s: float = Field(ge=0)
    counted_as: str
    limit: str
    basis: str


class LoadImbalanceTimes(ResultModel):
    """What uneven expert load does to the step; against even load. Factors and their effects are of the
    first draw, differences between random steps means over draws.

    max_over_mean: load of the fullest rank of an expert group over the mean. mean_effect_s: what the load adds to the
    mean rank's own work (routing moves rows and makes none, so it is nothing but rounding). amplification_s: the rest,
    from waiting for the fullest rank at every dispatch and combine in lockstep. constant_factor_s: what a constant factor
    of max_over_mean on the routed kernels of every rank would add instead. speed_spread_s: what unequal GPUs add,
    without uneven load. draws_sd_s: standard deviation of the step over the draws.
    """

    max_over_mean: float = Field(ge=1)
    mean_effect_s: float
    amplification_s: float
    constant_factor_s: float
    speed_spread_s: float
    draws_sd_s: Seconds


class DocumentTimes(ResultModel):
    """What packed documents do. attended_frac: pairs of a query and a key inside them over those of whole sequences, causal.

    longest_over_mean: time of the attention cores of the longest sequence that is simulated beside others over the mean, mean
    of the first draw's micro-batches. added_s: what unequal sequences add to the step, mean of a few draws.
    """

    attended_frac: Share
    longest_over_mean: float = Field(ge=0)
    added_s: float


class RangePart(ResultModel):
    """Relative change of the step at both ends of one range, the others as they are: low ≤ 0 ≤ high.

    what: a category of time, an assumption, `power.<constant>`, `run.unrecorded` or `software.unknown`. at_low, at_high: the
    change with its own number at the low and the high end; absent in documents of releases that did not tell them.
    """

    what: str
    low: float = Field(le=0)
    high: float = Field(ge=0)
    at_low: float | None = None
    at_high: float | None = None

    @property
    def size(self) -> float:
        """What it takes to be told: the greater of both ends."""
        return max(-self.low, self.high)


class StepTimes(ResultModel):
    """The step of one phase at full batch.

    tokens_per_step, tokens_per_s_per_gpu, and so TFLOPS and MFU: of all tokens that are computed, padding included;
    useful_tokens_per_step, useful_tokens_per_s_per_gpu: without it, present where there is some.
    bubble_s, exposed_comm_s (communication with no compute beside it: cuts across the parts, no summand), optimizer_s
    are means over the pipeline ranks. by_rank is ascending in pp_rank. power: absent in documents of releases that did not
    tell it. interval: of joint draws of all ranges. ranges: what it is made of, independent of one another, the greatest first;
    absent in documents of releases that did not tell it. Raises InconsistentSimulation where the parts of a rank do not sum to
    step_s, or the interval does not hold it.
    """

    step_s: float = Field(gt=0)
    interval: Interval
    tokens_per_step: int = Field(gt=0)
    tokens_per_s_per_gpu: float = Field(gt=0)
    useful_tokens_per_step: int | None = Field(default=None, gt=0)
    useful_tokens_per_s_per_gpu: float | None = Field(default=None, gt=0)
    model_flop_per_token: FlopPerToken
    tflops: Tflops
    mfu: Mfu
    bubble_s: Seconds
    exposed_comm_s: Seconds | None = None
    optimizer_s: Seconds
    by_rank: tuple[RankTimes, ...] = Field(min_length=1)
    parts: Parts
    by_category: tuple[CategoryTime, ...] = ()
    binding: tuple[Binding, ...] = ()
    collectives: tuple[CollectiveTime, ...] = ()
    power: StepWatts | None = None
    imbalance: LoadImbalanceTimes | None = None
    documents: DocumentTimes | None = None
    ranges: tuple[RangePart, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.interval.low <= self.step_s <= self.interval.high:
            raise InconsistentSimulation(
                f"the step time {self.step_s} s is outside its interval, {self.interval.low} to {self.interval.high} s"
            )
        for rank in self.by_rank:
            if not math.isclose(rank.total_s, self.step_s, rel_tol=SUM_TOLERANCE):
                raise InconsistentSimulation(
                    f"the parts of pipeline rank {rank.pp_rank} sum to {rank.total_s} s, the step takes {self.step_s} s"
                )
        return self


class AssumptionRow(ResultModel):
    """An assumption that this result used: its value and range, where it stands, and its effect on the run's GPU-hours.

    unit: of the three, SI or a word (fraction, switch, chunks …); absent in older documents. effect_on_gpu_hours: change
    of the GPU-hours when the assumption alone goes to the end of its range; absent where not computed.
    """

    key: str
    value: JsonValue
    low: JsonValue = None
    high: JsonValue = None
    unit: str | None = None
    source: str
    effect_on_gpu_hours: Interval | None = None


class Basis(ResultModel):
    """Shares of the step time by where durations come from; they sum to 1, else InconsistentSimulation is raised."""

    measured: Share
    interpolated: Share
    extrapolated: Share
    transferred: Share
    assumed: Share

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = math.fsum(getattr(self, name) for name in BASIS_NAMES)
        if not math.isclose(total, 1.0, rel_tol=SUM_TOLERANCE):
            raise InconsistentSimulation(f"the shares of the step time by basis sum to {total}, not to 1")
        return self

    @classmethod
    def of_seconds(cls, seconds: dict[str, float]) -> Basis:
        """Shares from durations (seconds ≥ 0, any positive total) by basis; a missing basis has none."""
        total = math.fsum(seconds.values())
        return cls(**{name: seconds.get(name, 0.0) / total for name in BASIS_NAMES})


BASIS_NAMES: tuple[str, ...] = tuple(Basis.model_fields)
"""The keys of Basis, from the best founded to the least."""


class StepResult(ResultModel):
    """One simulated step: everything of the result document that one step decides. stack_sha256: `Stack.sha256`."""

    stack_sha256: str
    model: ModelCounts
    step: StepTimes
    memory: Memory
    placement: Placement | None = None
    assumptions: tuple[AssumptionRow, ...] = ()
    not_modelled: tuple[str, ...] = ()
    basis: Basis
