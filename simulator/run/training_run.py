"""From one step to a run: the phases, their batch ramps, GPU-hours and cost.

A phase runs its full batch at one step time. Where its batch ramps up, at most five batch sizes are simulated and the
step times of the others are interpolated linearly between them (`batch_ramp`). No failures, checkpoints or restarts
are assumed.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hwprofiles.units import TERA
from simulator.results.document import canonical
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import PhaseResult, Ramp, RampPoint, RunResult, SteadyState, Totals
from simulator.results.step_result import AssumptionRow, StepResult
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
from simulator.run.economics import Price, cost, gpu_hours, price_of
from simulator.scenario.derived import dp
from simulator.scenario.plan import BatchRamp, Phase
from simulator.scenario.scenario import Scenario

PACKAGE = "moesim"


class SimulateStep(Protocol):
    """What simulates a step of `global_batch_size` sequences under `schedule`, the other keys as in the scenario."""

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult: ...


@dataclass(frozen=True, slots=True)
class _PhasePlan:
    """A phase as levels: those of the ramp (of any batch size up to `full`), and the tokens at full batch after it."""

    phase: Phase
    full: BatchSize
    sizes: tuple[BatchSize, ...]
    ramp: tuple[Level, ...]
    rest: Level | None

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.ramp if self.rest is None else (*self.ramp, self.rest)


def simulate_run(scenario: Scenario, *, simulate: SimulateStep | None = None) -> RunResult:
    """The result document of a scenario. simulate: what gives a step; default `simulator.step.batches.StepSimulator`.

    Raises InputError: a ramp needs batches that its schedules cannot run, or there is no price for the GPU in the
    sheet.
    """
    if simulate is None:
        # Here and not above: the engine's compiled kernels take a while to load, and another `simulate` needs none.
        from simulator.step.batches import StepSimulator

        simulate = StepSimulator()
    effects: Callable[[Scenario, int], Mapping[str, Interval]] | None = getattr(simulate, "effects", None)
    plans = [plan_phase(scenario, phase) for phase in scenario.phases]
    steps: dict[BatchSize, StepResult] = {}
    for plan in plans:
        for size in (plan.full, *(sizes_to_simulate(plan.sizes) if plan.ramp else ())):
            if size not in steps:
                steps[size] = simulate(scenario, global_batch_size=size.global_batch_size, schedule=size.schedule)
    changes = effects(scenario, plans[0].full.global_batch_size) if effects else {}
    steps = {size: _widened(step, changes) for size, step in steps.items()}
    price = price_of(scenario)
    times = _step_times(steps)
    walls = [_wall(plan, times) for plan in plans]
    first = steps[plans[0].full]
    num_gpus = scenario.cluster.num_gpus
    totals = _totals(walls, num_gpus, price)
    return RunResult(
        scenario=_scenario_document(scenario),
        scenario_sha256=scenario.scenario_sha256,
        version=package_version(),
        stack=scenario.stack,
        stack_sha256=first.stack_sha256,
        seed=scenario.seed,
        defaults_used=scenario.defaults_used,
        model=first.model,
        step=first.step,
        memory=first.memory,
        phases=tuple(
            _phase_result(plan, times, wall, num_gpus, price) for plan, wall in zip(plans, walls, strict=True)
        ),
        totals=totals,
        steady_state=_steady_state(plans[0], first, num_gpus, price),
        assumptions=tuple(_with_effect(row, changes, totals.gpu_hours.value) for row in first.assumptions),
        not_modelled=first.not_modelled,
        basis=first.basis,
    )


def _widened(result: StepResult, changes: Mapping[str, Interval]) -> StepResult:
    """The result with the assumptions' effects in its interval, in quadrature with the ranges of the measurements."""
    step = result.step
    down = math.hypot(step.step_s - step.interval.low, *(step.step_s * change.low for change in changes.values()))
    up = math.hypot(step.interval.high - step.step_s, *(step.step_s * change.high for change in changes.values()))
    interval = Interval(low=max(0.0, step.step_s - down), high=step.step_s + up)
    return result.model_copy(update={"step": step.model_copy(update={"interval": interval})})


def _with_effect(row: AssumptionRow, changes: Mapping[str, Interval], hours: float) -> AssumptionRow:
    """The row with its effect on the run's GPU-hours: the relative change of the full-batch step times the hours."""
    change = changes.get(row.key)
    if change is None:
        return row
    return row.model_copy(update={"effect_on_gpu_hours": Interval(low=change.low * hours, high=change.high * hours)})


def plan_phase(scenario: Scenario, phase: Phase) -> _PhasePlan:
    """Batch sizes of a phase and the tokens at each; exact integrals, no step is rounded."""
    seq_len, full_batch = scenario.training.seq_len, scenario.training.global_batch_size
    full = BatchSize(full_batch, scenario.parallel.schedule)
    limits = {"tokens": phase.tokens or math.inf, "steps": float(phase.steps or math.inf)}
    sizes: tuple[BatchSize, ...] = (full,)
    ramp: tuple[Level, ...] = ()
    if _has_ramp(scenario, phase.batch_ramp):
        assert phase.batch_ramp is not None
        sizes = _ramp_sizes(scenario, phase.batch_ramp)
        ramp = cut(ramp_levels(sizes, phase.batch_ramp.from_, phase.batch_ramp.over_tokens, seq_len), **limits)
    tokens_left = limits["tokens"] - math.fsum(each.tokens for each in ramp)
    steps_left = limits["steps"] - math.fsum(each.steps for each in ramp)
    rest_tokens = min(tokens_left, steps_left * full_batch * seq_len)
    rest = level(full, rest_tokens, seq_len) if rest_tokens > 0 else None
    return _PhasePlan(phase, full, sizes, ramp, rest)


def package_version() -> str:
    """Version of the installed package; "0+unknown" in a checkout that is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def _has_ramp(scenario: Scenario, ramp: BatchRamp | None) -> bool:
    return (
        ramp is not None
        and ramp.shape == "linear"
        and ramp.from_ < scenario.training.global_batch_size
        and scenario.mechanisms.batch_ramp
    )


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


def _step_times(steps: Mapping[BatchSize, StepResult]) -> dict[str, dict[BatchSize, float]]:
    """Simulated step times by end of the estimate (value, low, high) and batch size, in seconds."""
    return {
        "value": {size: result.step.step_s for size, result in steps.items()},
        "low": {size: result.step.interval.low for size, result in steps.items()},
        "high": {size: result.step.interval.high for size, result in steps.items()},
    }


def _duration_s(levels: Sequence[Level], times: Mapping[BatchSize, float]) -> float:
    return math.fsum(each.steps * interpolate(each.batch, times) for each in levels)


def _wall(plan: _PhasePlan, times: Mapping[str, Mapping[BatchSize, float]]) -> Estimate:
    """Wall-clock seconds of a phase."""
    return Estimate(**{end: _duration_s(plan.levels, each) for end, each in times.items()})


def _phase_result(
    plan: _PhasePlan,
    times: Mapping[str, Mapping[BatchSize, float]],
    wall: Estimate,
    num_gpus: int,
    price: Price | None,
) -> PhaseResult:
    hours = gpu_hours(num_gpus, wall.value)
    return PhaseResult(
        name=plan.phase.name,
        kind=plan.phase.kind,
        tokens=math.fsum(each.tokens for each in plan.levels),
        steps=math.fsum(each.steps for each in plan.levels),
        step_s=times["value"][plan.full],
        wall_s=wall.value,
        gpu_hours=hours,
        cost_usd=_cost_usd(hours, price),
        ramp=_ramp_result(plan, times["value"]) if plan.ramp else None,
    )


def _ramp_result(plan: _PhasePlan, times: Mapping[BatchSize, float]) -> Ramp:
    simulated = {size: times[size] for size in sizes_to_simulate(plan.sizes)}
    return Ramp(
        tokens=math.fsum(each.tokens for each in plan.ramp),
        steps=math.fsum(each.steps for each in plan.ramp),
        wall_s=_duration_s(plan.ramp, times),
        points=tuple(
            RampPoint(global_batch_size=size.global_batch_size, schedule=size.schedule, step_s=step_s)
            for size, step_s in sorted(simulated.items())
        ),
        interpolation_error_frac=interpolation_error_frac(plan.sizes, simulated),
    )


def _totals(walls: Sequence[Estimate], num_gpus: int, price: Price | None) -> Totals:
    """Sums of the phases; their step times are wrong together, so the ends of the ranges add."""
    wall = sum(walls[1:], start=walls[0])
    hours = wall.times(gpu_hours(num_gpus, 1.0))
    return Totals(gpu_hours=hours, wall_s=wall, cost_usd=None if price is None else cost(hours, price).to_estimate())


def _steady_state(plan: _PhasePlan, first: StepResult, num_gpus: int, price: Price | None) -> SteadyState:
    """The first phase at full batch throughout."""
    hours_per_token = gpu_hours(num_gpus, first.step.step_s) / first.step.tokens_per_step
    hours = hours_per_token * math.fsum(each.tokens for each in plan.levels)
    return SteadyState(
        gpu_hours_per_trillion_tokens=hours_per_token * TERA,
        gpu_hours=hours,
        cost_usd=_cost_usd(hours, price),
    )


def _cost_usd(hours: float, price: Price | None) -> float | None:
    return None if price is None else cost(Estimate.exact(hours), price).to_estimate().value


def _scenario_document(scenario: Scenario) -> dict[str, Any]:
    """The scenario as resolved; its overrides are sorted, as the order in which a file lists them means nothing."""
    document = scenario.canonical()
    return document | {"assumptions": canonical(document["assumptions"])}
