"""What would move a run: its phases simulated, and all sources drawn at once."""

from __future__ import annotations

from simulator.check import check_scenario
from simulator.results.sensitivity import Sensitivity, sensitivity_of
from simulator.run.phase_runs import SimulateStep, not_modelled_of, run_joint, run_phases, totals_of
from simulator.scenario.scenario import Scenario


def sensitivity(scenario: Scenario, *, simulate: SimulateStep | None = None) -> Sensitivity:
    """What moves a run's GPU-hours, and by how much. simulate: as of `simulate_run`; one that draws. Raises as that."""
    check_scenario(scenario)
    if simulate is None:
        from simulator.step.batches import StepSimulator

        simulator = StepSimulator()
        simulator.explains = False
        simulate = simulator
    runs = run_phases(scenario, simulate)
    joint = run_joint(runs)
    assert joint is not None
    return sensitivity_of(totals_of(runs).gpu_hours, joint, not_modelled_of(runs))
