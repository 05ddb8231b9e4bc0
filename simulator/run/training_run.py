"""From one step to a run: the phases, their batch ramps, GPU-hours and cost.

No failures, checkpoints or restarts are assumed. How long a phase takes: `phases`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from hwprofiles.stack_choice import stack_kind, stack_provenance
from hwprofiles.stack_folders import plain_name
from hwprofiles.units import TERA
from simulator.check import check_scenario
from simulator.results.document import canonical
from simulator.results.interval import Estimate, Interval
from simulator.results.placement_result import Placement
from simulator.results.run_result import BaseStack, FrameworkSwitch, MeasuredOn, RunResult, SteadyState, Totals
from simulator.results.step_result import AssumptionRow, StepResult
from simulator.results.widening import widened
from simulator.run.batch_ramp import BatchSize
from simulator.run.economics import Price, cost, cost_usd, gpu_hours, price_of
from simulator.run.phases import PhasePlan, phase_result, plan_phase, wall_time
from simulator.scenario.scenario import Scenario
from simulator.version import package_version


class SimulateStep(Protocol):
    """What simulates a step of `global_batch_size` sequences under `schedule`, the other keys as in the scenario."""

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult: ...


def simulate_run(scenario: Scenario, *, simulate: SimulateStep | None = None) -> RunResult:
    """The result document of a scenario. simulate: what gives a step; default `simulator.step.batches.StepSimulator`.

    Raises InputError: a ramp needs batches that its schedules cannot run, or there is no price for the GPU in the
    sheet.
    """
    check_scenario(scenario)
    if simulate is None:
        # Here and not above: the engine's compiled kernels take a while to load, and another `simulate` needs none.
        from simulator.step.batches import StepSimulator

        simulate = StepSimulator()
    effects: Callable[[Scenario, int], Mapping[str, Interval]] | None = getattr(simulate, "effects", None)
    plans = [plan_phase(scenario, phase) for phase in scenario.phases]
    steps = _simulated(scenario, plans, simulate)
    changes = effects(scenario, plans[0].full.global_batch_size) if effects else {}
    steps = {size: widened(step, changes) for size, step in steps.items()}
    price, num_gpus = price_of(scenario), scenario.cluster.num_gpus
    times = _step_times(steps)
    walls = [wall_time(plan, times) for plan in plans]
    first = steps[plans[0].full]
    totals = _totals(walls, num_gpus, price, first.placement)
    return RunResult(
        scenario=_scenario_document(scenario),
        scenario_sha256=scenario.scenario_sha256,
        version=package_version(),
        stack=plain_name(scenario.stack),
        stack_sha256=first.stack_sha256,
        stack_kind=stack_kind(scenario.stack),
        stack_measured_on=_measured_on(scenario),
        base=_base(scenario),
        dropped=scenario.dropped,
        seed=scenario.seed,
        defaults_used=scenario.defaults_used,
        framework_switches=_switches(scenario),
        model=first.model,
        step=first.step,
        memory=first.memory,
        placement=first.placement,
        phases=tuple(phase_result(plan, times, num_gpus, price) for plan in plans),
        totals=totals,
        steady_state=_steady_state(plans[0], first, num_gpus, price),
        price=price.to_result() if price else None,
        assumptions=tuple(_with_effect(row, changes, totals.gpu_hours.value) for row in first.assumptions),
        not_modelled=first.not_modelled,
        warnings=scenario.warnings,
        basis=first.basis,
    )


def _measured_on(scenario: Scenario) -> MeasuredOn | None:
    """What the stack's calibration states of its machine."""
    stated = stack_provenance(scenario.stack).calibration
    if stated is None:
        return None
    return MeasuredOn(**stated.model_dump(include=set(MeasuredOn.model_fields)))


def _simulated(scenario: Scenario, plans: Iterable[PhasePlan], simulate: SimulateStep) -> dict[BatchSize, StepResult]:
    """The step of every batch size that the phases need, each simulated once, the first phase's full batch first."""
    steps: dict[BatchSize, StepResult] = {}
    for plan in plans:
        for size in plan.sizes_to_simulate:
            if size not in steps:
                steps[size] = simulate(scenario, global_batch_size=size.global_batch_size, schedule=size.schedule)
    return steps


def _with_effect(row: AssumptionRow, changes: Mapping[str, Interval], hours: float) -> AssumptionRow:
    """The row with its effect on the run's GPU-hours: the relative change of the full-batch step times the hours."""
    change = changes.get(row.key)
    if change is None:
        return row
    return row.model_copy(update={"effect_on_gpu_hours": Interval(low=change.low * hours, high=change.high * hours)})


def _step_times(steps: Mapping[BatchSize, StepResult]) -> dict[str, dict[BatchSize, float]]:
    """Simulated step times by end of the estimate (value, low, high) and batch size, in seconds."""
    return {
        "value": {size: result.step.step_s for size, result in steps.items()},
        "low": {size: result.step.interval.low for size, result in steps.items()},
        "high": {size: result.step.interval.high for size, result in steps.items()},
    }


def _totals(
    walls: Sequence[Estimate], num_gpus: int, price: Price | None, placement: Placement | None = None
) -> Totals:
    """Sums of the phases; their step times are wrong together, so the ends of the ranges add."""
    wall = sum(walls[1:], start=walls[0])
    hours = wall.times(gpu_hours(num_gpus, 1.0))
    paid = placement.gpus_paid if placement is not None and placement.gpus_idle else None
    return Totals(
        gpu_hours=hours,
        gpu_hours_paid=None if paid is None else wall.times(gpu_hours(paid, 1.0)),
        wall_s=wall,
        cost_usd=None if price is None else cost(hours, price).to_estimate(),
    )


def _steady_state(plan: PhasePlan, first: StepResult, num_gpus: int, price: Price | None) -> SteadyState:
    """The first phase at full batch throughout."""
    useful = first.step.useful_tokens_per_step or first.step.tokens_per_step
    hours_per_token = gpu_hours(num_gpus, first.step.step_s) / useful
    hours = hours_per_token * math.fsum(each.tokens for each in plan.levels)
    return SteadyState(
        gpu_hours_per_trillion_tokens=hours_per_token * TERA,
        gpu_hours=hours,
        cost_usd=cost_usd(hours, price),
    )


def _switches(scenario: Scenario) -> tuple[FrameworkSwitch, ...] | None:
    """What the framework's release set; None where the scenario names none."""
    if scenario.framework is None:
        return None
    return tuple(FrameworkSwitch(**asdict(switch)) for switch in scenario.framework_switches)


def _base(scenario: Scenario) -> BaseStack | None:
    base = scenario.base
    return (
        None
        if base is None
        else BaseStack(scenario=base.name, stack=plain_name(base.stack), stack_kind=base.stack_kind)
    )


def _scenario_document(scenario: Scenario) -> dict[str, Any]:
    """The scenario as resolved; its overrides are sorted, as the order in which a file lists them means nothing."""
    document = scenario.canonical()
    return document | {"assumptions": canonical(document["assumptions"])}
