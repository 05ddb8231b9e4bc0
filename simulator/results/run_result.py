"""The result document of `moesim run`: one step, its memory, the phases of the run, their GPU-hours and their cost."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hwprofiles.stack_choice import StackKind
from simulator.results.document import SCHEMA_VERSION, JsonValue, ResultModel, Seconds
from simulator.results.interval import Estimate, Interval
from simulator.results.phase_parts import PhasePart
from simulator.results.placement_result import Placement
from simulator.results.plan_result import LayoutPlan
from simulator.results.step_memory import Memory
from simulator.results.step_result import AssumptionRow, Basis, ModelCounts, RangePart, StepTimes


class RampPoint(ResultModel):
    """A batch size of the ramp that was simulated."""

    global_batch_size: int = Field(gt=0)
    schedule: str
    step_s: float = Field(gt=0)


class Ramp(ResultModel):
    """The part of a phase in which the batch still grows (already counted in the phase).

    first_global_batch_size, last_global_batch_size: of the batches that are run, in sequences: a phase that ends first
    never reaches its full batch. points: the simulated batch sizes, ascending, larger ones than the last included;
    between two of one schedule the step time is interpolated linearly.
    interpolation_error_frac: of the step time, an upper estimate: how far the simulated point in the middle of the
    longest stretch lies off the straight line between that stretch's ends. Absent where there was no such point; 0
    where every valid batch size was simulated. wall_interval: of wall_s, absent in older documents.
    """

    tokens: float = Field(gt=0)
    steps: float = Field(gt=0)
    wall_s: Seconds
    wall_interval: Interval | None = None
    first_global_batch_size: int = Field(gt=0)
    last_global_batch_size: int = Field(gt=0)
    points: tuple[RampPoint, ...] = Field(min_length=1)
    interpolation_error_frac: float | None = Field(default=None, ge=0)


class PhaseResult(ResultModel):
    """A phase of the run. step_s is at full batch; steps is the integral of tokens over the batch, not rounded.

    step_interval, wall_interval: of step_s and wall_s; absent in older documents, as all that follows ramp.
    layout: in words; keys: section → what the phase says otherwise than the scenario, absent where it says nothing. fits,
    peak_bytes_per_gpu, tokens_per_s_per_gpu, tflops_causal, binds (what the step would gain most by): of the full batch's step.
    plan: how the layout was found, absent where it was stated.
    parts: what the hours are made of, absent where they are the steps alone.
    """

    name: str
    kind: str
    tokens: float = Field(gt=0)
    steps: float = Field(gt=0)
    step_s: float = Field(gt=0)
    step_interval: Interval | None = None
    wall_s: Seconds
    wall_interval: Interval | None = None
    gpu_hours: float = Field(ge=0)
    cost_usd: float | None = Field(default=None, ge=0)
    ramp: Ramp | None = None
    layout: str | None = None
    num_gpus: int | None = Field(default=None, gt=0)
    global_batch_size: int | None = Field(default=None, gt=0)
    seq_len: int | None = Field(default=None, gt=0)
    fits: bool | None = None
    peak_bytes_per_gpu: int | None = Field(default=None, ge=0)
    tokens_per_s_per_gpu: float | None = Field(default=None, ge=0)
    tflops_causal: float | None = Field(default=None, ge=0)
    binds: str | None = None
    keys: dict[str, JsonValue] | None = None
    plan: LayoutPlan | None = None
    parts: tuple[PhasePart, ...] | None = None


class Totals(ResultModel):
    """Sums over the phases: the ramp included, failures only if the scenario gives them. 90 % intervals.

    ranges: what the interval of gpu_hours is made of, the greatest first; absent in a first answer, in older documents, and
    where all phases run the same steps: it is the step's. gpu_hours, cost_usd: of the GPUs that are used. gpu_hours_paid:
    with those that stay idle in their scale-up domains; absent where none do.
    """

    gpu_hours: Estimate
    gpu_hours_paid: Estimate | None = None
    wall_s: Estimate
    cost_usd: Estimate | None = None
    ranges: tuple[RangePart, ...] | None = None


class SteadyState(ResultModel):
    """The first phase as if it ran at full batch throughout: no ramp, no failures, no checkpoints."""

    gpu_hours_per_trillion_tokens: float = Field(gt=0)
    gpu_hours: float = Field(gt=0)
    cost_usd: float | None = Field(default=None, ge=0)


class BaseStack(ResultModel):
    """What the scenario was before its GPU was changed: what `moesim run` takes to get it, and the stack it rests on."""

    scenario: str
    stack: str
    stack_kind: StackKind


class MeasuredOn(ResultModel):
    """What a measured stack states of its machine: what of it is not known is absent.

    date: of the measurement; device: as its driver names it; power_limit_w: of the board then; driver, torch, cuda: versions.
    """

    date: str
    device: str | None = None
    driver: str | None = None
    power_limit_w: float | None = Field(default=None, gt=0)
    torch: str | None = None
    cuda: str | None = None


class TakenOffer(ResultModel):
    """An offer of a price sheet, in USD for a GPU and hour; low, high: where its source gives a range."""

    provider: str
    region: str | None = None
    commitment: str
    usd_per_gpu_hour: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float = Field(ge=0)
    date: str
    source: str


class GpuHourPrice(ResultModel):
    """The price that the cost rests on, in USD for a GPU and hour, its range (low = high where it was given as exact), and
    where it stands.

    sheet: of the catalogue, absent where the scenario gives the price itself; date: of the sheet, or of the offers taken.
    offers: those taken, absent where the sheet's own price was; provider, region, commitment: of all of them, absent where
    they differ or no one says.
    """

    usd_per_gpu_hour: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float = Field(ge=0)
    source: str
    sheet: str | None = None
    date: str | None = None
    provider: str | None = None
    region: str | None = None
    commitment: str | None = None
    offers: tuple[TakenOffer, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.usd_per_gpu_hour <= self.high:
            raise ValueError(f"{self.usd_per_gpu_hour} is not between {self.low} and {self.high}")
        return self


class FrameworkSwitch(ResultModel):
    """A key that the framework's release says, because the scenario did not. is_modelled: false where it set nothing."""

    key: str
    value: JsonValue
    source: str
    is_modelled: bool


class RunResult(ResultModel):
    """The whole document. scenario is the scenario as resolved, its assumption overrides sorted by key.

    stack_kind: whether the stack was measured on this GPU or transferred from others; stack_measured_on: what its calibration
    states, absent where none made it; base: what a scenario with another
    GPU is compared with. dropped: inherited values that fell because the key that they were chosen for changed. warnings:
    what is odd and was kept, as on standard error. These tell of how the scenario came about, so that the resolved
    scenario alone has fewer.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    scenario: dict[str, JsonValue]
    scenario_sha256: str
    version: str
    stack: str
    stack_sha256: str
    stack_kind: StackKind
    stack_measured_on: MeasuredOn | None = None
    base: BaseStack | None = None
    dropped: tuple[str, ...] = ()
    seed: int
    defaults_used: tuple[str, ...]
    framework_switches: tuple[FrameworkSwitch, ...] | None = None
    model: ModelCounts
    step: StepTimes
    memory: Memory
    placement: Placement | None = None
    phases: tuple[PhaseResult, ...] = Field(min_length=1)
    totals: Totals
    steady_state: SteadyState
    price: GpuHourPrice | None = None
    assumptions: tuple[AssumptionRow, ...]
    not_modelled: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    basis: Basis


def from_json(text: str) -> RunResult:
    """The document that `to_json` wrote. Raises pydantic.ValidationError where it is none."""
    return RunResult.model_validate_json(text)
