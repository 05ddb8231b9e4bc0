"""From one step to a run: the phases, their batch ramps, GPU-hours and cost.

No failures, checkpoints or restarts are assumed. How long a phase takes: `phases`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hwprofiles.stack_choice import stack_kind, stack_provenance
from hwprofiles.stack_folders import plain_name
from simulator.check import check_type
from simulator.results.document import canonical
from simulator.results.run_result import BaseStack, FrameworkSwitch, MeasuredOn, RunResult
from simulator.run.phase_runs import (
    SimulateStep,
    assumption_rows,
    not_modelled_of,
    run_phases,
    steady_state_of,
    totals_of,
)
from simulator.run.trained import Report
from simulator.scenario.scenario import Scenario
from simulator.version import package_version


def simulate_run(
    scenario: Scenario, *, simulate: SimulateStep | None = None, report: Report | None = None
) -> RunResult:
    """The result document of a scenario. simulate: what gives a step; default `simulator.step.batches.StepSimulator`. report:
    is told of phases whose layouts are searched for.

    Raises InputError: a ramp needs batches that its schedules cannot run, or there is no price for the GPU in the
    sheet.
    """
    check_type(scenario)
    if simulate is None:
        # Here and not above: the engine's compiled kernels take a while to load, and another `simulate` needs none.
        from simulator.step.batches import StepSimulator

        simulate = StepSimulator()
    runs = run_phases(scenario, simulate, report)
    first, price = runs[0].full, runs[0].price
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
        phases=tuple(run.result() for run in runs),
        totals=totals_of(runs),
        steady_state=steady_state_of(runs[0]),
        price=price.to_result() if price else None,
        assumptions=assumption_rows(runs),
        not_modelled=not_modelled_of(runs),
        warnings=scenario.warnings,
        basis=first.basis,
    )


def _measured_on(scenario: Scenario) -> MeasuredOn | None:
    """What the stack's calibration states of its machine."""
    stated = stack_provenance(scenario.stack).calibration
    if stated is None:
        return None
    return MeasuredOn(**stated.model_dump(include=set(MeasuredOn.model_fields)))


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
