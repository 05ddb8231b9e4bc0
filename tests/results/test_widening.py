"""The interval of a step is that of its joint draws, and the step and the run give the same one."""

import pytest

from simulator import load_scenario, simulate_run, simulate_step
from simulator.results.joint import Joint, Source, added
from simulator.results.widening import widened
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared

SMALL = ["cluster.num_gpus=256", "training.global_batch_size=512", "parallel.pp=4", "draws=2"]
PHASE = "phases=[{name: short, steps: 2, batch_ramp: {from: 256, over_tokens: 4194304, schedule_below: 1f1b}}]"


def test_a_step_has_the_interval_of_its_draws_and_lists_the_greatest_first() -> None:
    scenario = load_scenario("deepseek-v3", [*SMALL, PHASE])
    narrow = simulate_prepared(prepare(scenario))
    sources = (
        Source("a", -0.1, 0.0, 1.0, 1.0, 2.0),
        Source("b", -0.3, 0.4, 1.0, 1.0, 2.0),
        Source("c", 0.0, 0.0, 1, 1, 1),
    )
    joint = Joint(sources, added(sources, 0), 0)
    wide = widened(narrow, joint).step
    assert wide.interval.low == pytest.approx(narrow.step.step_s * joint.ends[0])
    assert wide.interval.high == pytest.approx(narrow.step.step_s * joint.ends[1])
    assert wide.ranges is not None
    assert [(part.what, part.low, part.high) for part in wide.ranges] == [("b", -0.3, 0.4), ("a", -0.1, 0.0)]
    assert widened(narrow, {}).step == narrow.step


def test_a_step_and_a_run_say_the_same_of_the_step() -> None:
    scenario = load_scenario("deepseek-v3", [*SMALL, PHASE])
    step, run = simulate_step(scenario), simulate_run(scenario)
    assert step.step == run.step
    narrow = simulate_prepared(prepare(scenario)).step
    assert step.step.interval.width > 1.05 * narrow.interval.width, "the assumptions count"


def test_the_step_of_another_schedule_has_that_schedules_effects() -> None:
    named, given = (load_scenario("deepseek-v3", [*SMALL, PHASE, f"parallel.schedule={s}"]) for s in ("1f1b", "gpipe"))
    assert simulate_step(named, schedule="gpipe").step == simulate_step(given).step
