"""The phases of a run: which batches a phase trains, for how many tokens each, and how long that takes.

A phase runs its full batch at one step time. Where its batch ramps up, at most five batch sizes are simulated and the
step times of the others are interpolated linearly between them (`batch_ramp`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.results.interval import Estimate, Interval
from simulator.results.phase_parts import PhasePart
from simulator.results.run_result import PhaseResult, Ramp, RampPoint
from simulator.results.step_result import StepResult
from simulator.run.batch_ramp import (
    BatchSize,
    Level,
    cut,
    interpolate,
    interpolation_error_frac,
    level,
    ramp_levels,
    sizes_to_simulate,
    valid_batch_sizes,
)
from simulator.run.economics import Price, cost_usd, gpu_hours
from simulator.run.layout_text import layout_text
from simulator.scenario.derived import dp, useful_tokens
from simulator.scenario.phase import BatchRamp, Phase
from simulator.scenario.scenario import Scenario

StepTimesByEnd = Mapping[str, Mapping[BatchSize, float]]
"""Step time in seconds of every simulated batch size, by end of the estimate: value, low, high."""


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """A phase as levels: those of the ramp (of any batch size up to `full`), and the tokens at full batch after it.

    scenario: what the phase trains.
    """

    scenario: Scenario
    phase: Phase
    full: BatchSize
    sizes: tuple[BatchSize, ...]
    ramp: tuple[Level, ...]
    rest: Level | None

    @property
    def levels(self) -> tuple[Level, ...]:
        """What is trained, in order."""
        return self.ramp if self.rest is None else (*self.ramp, self.rest)

    @property
    def tokens(self) -> float:
        """Tokens that the steps train on, padding left out."""
        return math.fsum(each.tokens for each in self.levels)

    @property
    def steps(self) -> float:
        """Steps, the integral of tokens over the batch."""
        return math.fsum(each.steps for each in self.levels)

    @property
    def sizes_to_simulate(self) -> tuple[BatchSize, ...]:
        """Batch sizes whose steps give those of all others, the full one first."""
        return (self.full, *(sizes_to_simulate(self.sizes) if self.ramp else ()))


def plan_phase(scenario: Scenario, phase: Phase) -> PhasePlan:
    """Batch sizes of a phase and the tokens at each, padding not counted; exact integrals, no step is rounded.

    scenario: what the phase trains (`own_scenarios`).
    """
    useful, full_batch = useful_tokens(scenario), scenario.training.global_batch_size
    full = BatchSize(full_batch, scenario.parallel.schedule)
    limits = {"tokens": phase.tokens or math.inf, "steps": float(phase.steps or math.inf)}
    sizes: tuple[BatchSize, ...] = (full,)
    ramp: tuple[Level, ...] = ()
    if _has_ramp(scenario, phase.batch_ramp):
        assert phase.batch_ramp is not None
        sizes = _ramp_sizes(scenario, phase.batch_ramp)
        ramp = cut(ramp_levels(sizes, phase.batch_ramp.from_, phase.batch_ramp.over_tokens, useful), **limits)
    tokens_left = limits["tokens"] - math.fsum(each.tokens for each in ramp)
    steps_left = limits["steps"] - math.fsum(each.steps for each in ramp)
    rest_tokens = min(tokens_left, steps_left * full_batch * useful)
    rest = level(full, rest_tokens, useful) if rest_tokens > 0 else None
    return PhasePlan(scenario, phase, full, sizes, ramp, rest)


def _duration_s(levels: Sequence[Level], times: Mapping[BatchSize, float]) -> float:
    return math.fsum(each.steps * interpolate(each.batch, times) for each in levels)


def wall_time(plan: PhasePlan, times: StepTimesByEnd) -> Estimate:
    """Wall-clock seconds of a phase."""
    return _wall(plan.levels, times)


@dataclass(frozen=True, slots=True)
class OfKind:
    """What a phase's kind says beside its steps: tokens that it trains on (padding left out), optimizer updates, the lines of
    its hours.
    """

    tokens: float
    steps: float
    parts: tuple[PhasePart, ...]


def phase_result(
    plan: PhasePlan,
    times: StepTimesByEnd,
    step: StepResult,
    price: Price | None,
    wall: Estimate,
    of_kind: OfKind | None,
) -> PhaseResult:
    """A phase as the result document has it. step: of its full batch; wall: seconds of all of it; of_kind: None where it is its
    steps alone.
    """
    scenario, times_of = plan.scenario, step.step
    num_gpus = scenario.cluster.num_gpus
    hours = gpu_hours(num_gpus, wall.value)
    return PhaseResult(
        name=plan.phase.name,
        kind=plan.phase.kind,
        tokens=of_kind.tokens if of_kind else plan.tokens,
        steps=of_kind.steps if of_kind else plan.steps,
        step_s=times["value"][plan.full],
        step_interval=Interval(low=times["low"][plan.full], high=times["high"][plan.full]),
        wall_s=wall.value,
        wall_interval=wall.interval,
        gpu_hours=hours,
        cost_usd=cost_usd(hours, price),
        ramp=_ramp_result(plan, times) if plan.ramp else None,
        layout=layout_text(scenario),
        num_gpus=num_gpus,
        global_batch_size=plan.full.global_batch_size,
        seq_len=scenario.training.seq_len,
        fits=step.memory.fits,
        peak_bytes_per_gpu=step.memory.peak_bytes_per_gpu,
        tokens_per_s_per_gpu=times_of.tokens_per_s_per_gpu,
        tflops_causal=times_of.tflops.causal,
        binds=times_of.binding[0].what if times_of.binding else None,
        keys=dict(plan.phase.changes) or None,
        parts=of_kind.parts if of_kind else None,
    )


def _wall(levels: Sequence[Level], times: StepTimesByEnd) -> Estimate:
    return Estimate(**{end: _duration_s(levels, each) for end, each in times.items()})


def _ramp_result(plan: PhasePlan, times: StepTimesByEnd) -> Ramp:
    simulated = {size: times["value"][size] for size in sizes_to_simulate(plan.sizes)}
    wall = _wall(plan.ramp, times)
    return Ramp(
        tokens=math.fsum(each.tokens for each in plan.ramp),
        steps=math.fsum(each.steps for each in plan.ramp),
        wall_s=wall.value,
        wall_interval=wall.interval,
        first_global_batch_size=plan.ramp[0].batch.global_batch_size,
        last_global_batch_size=plan.ramp[-1].batch.global_batch_size,
        points=tuple(
            RampPoint(global_batch_size=size.global_batch_size, schedule=size.schedule, step_s=step_s)
            for size, step_s in sorted(simulated.items())
        ),
        interpolation_error_frac=interpolation_error_frac(plan.sizes, simulated),
    )


def _has_ramp(scenario: Scenario, ramp: BatchRamp | None) -> bool:
    return ramp is not None and ramp.from_ < scenario.training.global_batch_size and scenario.mechanisms.batch_ramp


def _ramp_sizes(scenario: Scenario, ramp: BatchRamp) -> tuple[BatchSize, ...]:
    training, parallel = scenario.training, scenario.parallel
    return valid_batch_sizes(
        ramp.from_,
        training.global_batch_size,
        dp(scenario) * training.micro_batch_size,
        parallel.pp,
        parallel.schedule,
        ramp.schedule_below,
    )
