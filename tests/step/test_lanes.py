"""Many class tables of a step at once: the step as it is stays to the bit, effects are those of steps with that table."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from simulator import load_scenario, simulate_step
from simulator.engine import sweep
from simulator.results.joint import NUM_DRAWS, positions
from simulator.scenario.scenario import Scenario
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.joint import step_joint
from simulator.step.lanes import Lanes, Moved, joint_of, lanes_of, sources_of
from simulator.step.power import StepPower, power_of
from simulator.step.prepared import PreparedStep, prepare
from tests.laws.runs import changed
from tests.laws.test_assumptions import SMALL
from tests.laws.test_power import BUSY
from tests.step.test_link_sharing import MOE

SCENES: dict[str, Any] = {
    "experts": SMALL,
    "limited": changed(BUSY, parallel={"pp": 1}, device={"power_cap_w": 350.0}),
    "shared": ("deepseek-v3", [*MOE, "parallel.zero_stage=2"]),
}
"""Without a limit that binds; with one; with messages that add to one another on their links."""


@cache
def solved(scene: str) -> tuple[PreparedStep, StepPower]:
    step = prepare(loaded(scene))
    return step, power_of(step, build_graph(step))


def loaded(scene: str) -> Scenario:
    given = SCENES[scene]
    return load_scenario(*given) if isinstance(given, tuple) else load_scenario(given)


@pytest.mark.parametrize("scene", SCENES)
def test_the_lanes_of_a_step_take_what_the_step_takes(scene: str) -> None:
    power = solved(scene)[1]
    lanes = lanes_of(power)
    seconds = power.graph.class_seconds()[power.graph.dag.op_class]
    mine = (lanes.seconds[lanes.row] + lanes.added_s)[lanes.dag.op_class]
    assert mine == pytest.approx(seconds, rel=1e-9, abs=1e-15)
    swept = sweep(power.graph.dag, power.graph.class_seconds()).makespan_s
    assert lanes.makespans(lanes.seconds[:, None]) == pytest.approx([swept], rel=1e-9)
    assert power.is_limited == (scene == "limited")
    assert lanes.added_s.any() == (scene == "shared")


def chain() -> Lanes:
    """Three classes, one operator each, one after the other: 3, 2 and 5 seconds."""
    dag = solved("experts")[1].apart.graph.dag
    one = replace(
        dag, op_class=np.arange(3, dtype=np.int32), resource=np.zeros(3, dtype=np.int32),
        pred_ptr=np.array([0, 0, 1, 2], dtype=np.int32), pred=np.array([0, 1], dtype=np.int32),
        draw_row=np.full(3, -1, dtype=np.int32), is_join=np.zeros(3, dtype=np.bool_), num_resources=1, num_classes=3,
    )  # fmt: skip
    return Lanes(one, np.arange(3), np.zeros(3), np.array([3.0, 2.0, 5.0]))


def moved(key: str, at_low: list[float] | float | None, at_high: list[float] | float | None) -> Moved:
    ends = (np.array(end) if isinstance(end, list) else end for end in (at_low, at_high))
    return Moved(key, *ends, low=0.5, value=1.0, high=2.0)


def test_sources_that_move_seconds_and_those_that_move_the_step() -> None:
    given = [moved("seconds", [2.0, 2.0, 5.0], [3.0, 2.0, 7.0]), moved("step", -0.1, 0.3), moved("still", None, None)]
    found = sources_of(chain(), given)
    assert [(each.key, each.at_low, each.at_high) for each in found] == [
        ("seconds", pytest.approx(-0.1), pytest.approx(0.2)), ("step", -0.1, 0.3), ("still", 0.0, 0.0),
    ]  # fmt: skip
    assert [(each.low, each.value, each.high) for each in found] == [(0.5, 1.0, 2.0)] * 3


def test_a_draw_takes_the_seconds_of_all_its_sources_together() -> None:
    given = [
        moved("a", [2.0, 2.0, 5.0], [3.0, 2.0, 7.0]), moved("b", [3.0, 3.0, 5.0], [3.0, 1.5, 5.0]), moved("c", -0.1, 0.3),
        moved("mixed", -0.2, [3.0, 2.0, 6.0]),
    ]  # fmt: skip
    joint = joint_of(chain(), given, seed=5)
    a, b, c, mixed = (positions(5, each.key) for each in given)
    seconds = 10.0 + np.where(a < 0, a, 2.0 * a) + np.where(b < 0, -b, -0.5 * b) + np.where(mixed > 0, mixed, 0.0)
    factors = (1.0 + np.where(c < 0, 0.1 * c, 0.3 * c)) * (1.0 + np.where(mixed < 0, 0.2 * mixed, 0.0))
    assert joint.relative == pytest.approx(seconds / 10.0 * factors)
    assert len(joint.relative) == NUM_DRAWS


def test_no_class_takes_less_than_nothing() -> None:
    joint = joint_of(chain(), [moved("a", [0.0, 2.0, 5.0], None)], seed=0)
    assert joint.relative.min() == pytest.approx(0.7)


@pytest.mark.parametrize("scene", SCENES)
def test_the_joint_interval_of_a_step(scene: str) -> None:
    """It holds the step, is wider than that of any one source, and is to the bit the same again."""
    step, power = solved(scene)
    order = order_of_actions(step.scenario)
    joint = step_joint(step, order, power)
    result = simulate_step(loaded(scene)).step
    assert joint.interval(result.step_s) == result.interval
    assert result.interval.low < result.step_s < result.interval.high
    assert joint.ends[1] - joint.ends[0] > max(each.width for each in joint.values())
    assert (joint.relative == step_joint(step, order).relative).all()
    assert {"run.unrecorded", "gpu_speed_cv", "gemm"} <= set(joint)
    if scene == "limited":
        assert joint["power.energy"].width > 0.0


def test_a_widened_assumption_widens_the_step() -> None:
    narrow = simulate_step(load_scenario(SMALL)).step.interval
    entry = {"value": 0.011, "low": 0.0, "high": 0.1}
    wide = simulate_step(load_scenario(changed(SMALL, assumptions={"gpu_speed_cv": entry}))).step.interval
    assert wide.width > 1.02 * narrow.width
