"""Runs whose phases train otherwise than the scenario around them: steps, hours, totals."""

from __future__ import annotations

import math

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.consistency import consistency_problems
from simulator.results.document import to_json
from simulator.results.run_result import RunResult, from_json
from simulator.run.kept_steps import keep_steps
from simulator.scenario.phase_scenarios import phase_scenario
from simulator.scenario.scenario import Scenario
from simulator.step.batches import StepSimulator
from tests.scenario.test_phases import CONTEXT, small

PHASES = (
    {**CONTEXT, "cluster": {"num_gpus": 128}, "prices": {"usd_per_gpu_hour": 3}, "batch_ramp": None},
    {"name": "more", "steps": 5},
)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load_scenario({**small(*PHASES), "draws": 1, "prices": {"usd_per_gpu_hour": 2}})


@pytest.fixture(scope="module")
def result(scenario: Scenario) -> RunResult:
    return simulate_run(scenario)


def test_a_phase_costs_what_its_own_scenario_costs(scenario: Scenario, result: RunResult) -> None:
    alone = simulate_run(phase_scenario(scenario, 1))
    phase = result.phases[1]
    assert phase.model_copy(update={"keys": None}) == alone.phases[0]
    assert (phase.num_gpus, phase.seq_len, phase.global_batch_size) == (128, 8192, 64)
    assert phase.cost_usd == pytest.approx(3 * phase.gpu_hours)
    assert phase.gpu_hours == pytest.approx(128 * phase.wall_s / 3600)
    assert phase.step_s > result.phases[0].step_s / 4  # 64 of 8,192 on twice the GPUs, beside 128 of 4,096


def test_totals_are_sums_over_unlike_phases(result: RunResult) -> None:
    assert result.totals.gpu_hours.value == pytest.approx(math.fsum(each.gpu_hours for each in result.phases))
    assert result.totals.wall_s.value == pytest.approx(math.fsum(each.wall_s for each in result.phases))
    assert result.totals.cost_usd is not None
    assert result.totals.cost_usd.value == pytest.approx(math.fsum(each.cost_usd or 0 for each in result.phases))
    assert not list(consistency_problems(result))
    assert from_json(to_json(result)) == result


def test_equal_steps_are_simulated_once(scenario: Scenario, result: RunResult) -> None:
    asked = []
    simulator = StepSimulator()

    def simulate(scenario: Scenario, *, global_batch_size: int, schedule: str):  # type: ignore[no-untyped-def]
        asked.append((scenario.training.seq_len, global_batch_size))
        return simulator(scenario, global_batch_size=global_batch_size, schedule=schedule)

    phases = simulate_run(scenario, simulate=simulate).phases
    assert asked == [(4096, 128), (8192, 64)]
    assert phases[2].step_s == phases[0].step_s == result.phases[0].step_s


def test_kept_steps_of_all_phases_give_the_same_run(scenario: Scenario, result: RunResult) -> None:
    kept = keep_steps(scenario, StepSimulator())
    assert to_json(simulate_run(scenario, simulate=kept)) == to_json(result)
    assert keep_steps(scenario, lambda *_, **__: pytest.fail("simulated again"), kept) == kept  # type: ignore[arg-type]


def test_an_assumption_acts_in_every_phase(result: RunResult, scenario: Scenario) -> None:
    first = simulate_run(phase_scenario(scenario, 0)).assumptions
    single = {row.key: row.effect_on_gpu_hours for row in first}
    wider = [
        row.key
        for row in result.assumptions
        if row.effect_on_gpu_hours and (own := single.get(row.key)) and row.effect_on_gpu_hours.width > own.width > 0
    ]
    assert wider
