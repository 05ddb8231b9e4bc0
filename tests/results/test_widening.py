"""The assumptions widen a step's interval in quadrature, and the step and the run give the same one."""

import math

import pytest

from simulator import load_scenario, simulate_run, simulate_step
from simulator.results.interval import Interval
from simulator.results.widening import widened
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared

SMALL = ["cluster.num_gpus=256", "training.global_batch_size=512", "parallel.pp=4", "draws=2"]
PHASE = "phases=[{name: short, steps: 2, batch_ramp: {from: 256, over_tokens: 4194304, schedule_below: 1f1b}}]"


def test_effects_and_ranges_add_in_quadrature_on_each_side() -> None:
    scenario = load_scenario("deepseek-v3", [*SMALL, PHASE])
    narrow = simulate_prepared(prepare(scenario))
    step = narrow.step
    wide = widened(narrow, {"a": Interval(low=-0.3, high=0.0), "b": Interval(low=-0.4, high=0.2)}).step
    assert step.step_s - wide.interval.low == pytest.approx(
        math.hypot(step.step_s - step.interval.low, 0.5 * step.step_s)
    )
    assert wide.interval.high - step.step_s == pytest.approx(
        math.hypot(step.interval.high - step.step_s, 0.2 * step.step_s)
    )
    assert widened(narrow, {}).step.interval.low == pytest.approx(step.interval.low, rel=1e-12)


def test_a_step_and_a_run_say_the_same_of_the_step() -> None:
    scenario = load_scenario("deepseek-v3", [*SMALL, PHASE])
    step, run = simulate_step(scenario), simulate_run(scenario)
    assert step.step == run.step
    narrow = simulate_prepared(prepare(scenario)).step
    assert step.step.interval.width > 1.05 * narrow.interval.width, "the assumptions count"


def test_the_step_of_another_schedule_has_that_schedules_effects() -> None:
    named, given = (load_scenario("deepseek-v3", [*SMALL, PHASE, f"parallel.schedule={s}"]) for s in ("1f1b", "gpipe"))
    assert simulate_step(named, schedule="gpipe").step == simulate_step(given).step
