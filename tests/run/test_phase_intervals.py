"""The intervals of phases and their ramps are parts of the totals'."""

from __future__ import annotations

import math

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.run_result import RunResult

PHASES = (
    "phases=[{name: a, tokens: 1e11, batch_ramp: {from: 128, over_tokens: 2e10}}, {name: b, steps: 100},"
    " {name: c, tokens: 1e9, batch_ramp: {from: 64, over_tokens: 1e10}}]"
)


@pytest.fixture(scope="module")
def result() -> RunResult:
    return simulate_run(load_scenario("mixtral-8x22b", ["draws=1", PHASES]))


@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_the_phases_sum_to_the_ends_of_the_total(result: RunResult, end: str) -> None:
    ends = [getattr(phase.wall_interval, end) for phase in result.phases]
    assert math.fsum(ends) == pytest.approx(getattr(result.totals.wall_s, end), rel=1e-12)


@pytest.mark.parametrize("end", ["low", "high"])
def test_a_phase_is_its_ramp_and_its_steps_at_full_batch(result: RunResult, end: str) -> None:
    for phase in result.phases:
        assert phase.step_interval is not None
        ramp, steps = 0.0, phase.steps
        if phase.ramp is not None:
            ramp, steps = getattr(phase.ramp.wall_interval, end), phase.steps - phase.ramp.steps
        expected = ramp + steps * getattr(phase.step_interval, end)
        assert getattr(phase.wall_interval, end) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_each_interval_holds_its_value(result: RunResult) -> None:
    for phase in result.phases:
        assert phase.step_interval is not None
        assert phase.wall_interval is not None
        assert phase.step_interval.low <= phase.step_s <= phase.step_interval.high
        assert phase.wall_interval.low <= phase.wall_s <= phase.wall_interval.high
    assert result.phases[0].step_interval == result.step.interval
