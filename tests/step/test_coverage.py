"""Coverage on synthetic truth: worlds drawn from the ranges lie inside the 90 % interval that is told, about as often.

A world has its own number for every source, of a generator that shares nothing with the joint draws. The fast one moves class
tables of the predicted step; the slow one states every assumption anew and simulates it: router, prices, graph and power limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hwprofiles.assumption_units import ASSUMPTION_UNITS
from simulator import load_scenario, simulate_step
from simulator.results.interval import Interval
from simulator.results.joint import Joint, Source
from simulator.scenario.run_ranges import run_ranges
from simulator.scenario.scenario import Scenario
from simulator.step.draws import run_draws
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.joint import step_joint
from simulator.step.lanes import Moved
from simulator.step.power import power_of as solved
from simulator.step.power import seconds_if_longer
from simulator.step.prepared import prepare
from simulator.step.ranges import ARITHMETIC, measured_sources
from tests.laws.runs import changed
from tests.step.test_lanes import SCENES as every

WORLDS = 400
REACH = 1.6448536269514722
SCENES = {name: every[name] for name in ("experts", "limited")}


def inside(truths: Iterator[float], told: Interval) -> float:
    found = [told.low <= truth <= told.high for truth in truths]
    assert len(found) == WORLDS
    return sum(found) / WORLDS


def a_place(random: np.random.Generator, source: Source | Moved) -> float:
    """Where a source lies: -1 at its low, 1 at its high, 90 % of the worlds between them."""
    below, above = source.furthest
    return float(np.clip(random.standard_normal() / REACH, -below, above))


def at(place: float, low: float, value: float, high: float) -> float:
    return value + place * (value - low if place < 0.0 else high - value)


@pytest.mark.parametrize("scene", SCENES)
def test_worlds_of_the_predicted_step(scene: str) -> None:
    step = prepare(load_scenario(SCENES[scene]))
    power = solved(step, build_graph(step))
    joint = step_joint(step, order_of_actions(step.scenario), power)
    lanes, measured = measured_sources(step, power)
    tables = {each.key: each for each in measured}
    random = np.random.default_rng(20)
    places = np.array([[a_place(random, each) for each in joint.sources] for _ in range(WORLDS)])
    table, factors = np.repeat(lanes.seconds[:, None], WORLDS, axis=1), np.ones(WORLDS)
    for column, each in zip(places.T, joint.sources, strict=True):
        of = tables.get(each.key)
        if of is None or not isinstance(of.at_low, np.ndarray) or not isinstance(of.at_high, np.ndarray):
            factors *= 1.0 + each.changes(column)
            continue
        for end, side in ((of.at_low, np.maximum(0.0, -column)), (of.at_high, np.maximum(0.0, column))):
            table += (end - lanes.seconds)[:, None] * side
    truths = lanes.makespans(np.maximum(table, 0.0)) * factors / lanes.makespans(lanes.seconds[:, None])
    assert 0.85 <= inside(iter(truths.tolist()), joint.interval(1.0)) <= 0.95


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scene", SCENES)
def test_worlds_whose_assumptions_are_stated_and_simulated(scene: str) -> None:
    scenario = load_scenario(SCENES[scene])
    told = simulate_step(scenario).step.interval
    joint = step_joint(prepare(scenario), order_of_actions(scenario))
    assert 0.85 <= inside(truths_of(scenario, joint, scene), told) <= 0.95


def truths_of(scenario: Scenario, joint: Joint, scene: str) -> Iterator[float]:
    """Seconds of steps: every assumption that moves the step is stated at a drawn number, every category is as much longer, and
    a run is as much longer as runs of equal inputs are, and as the power constants make it, whose numbers no scenario states.
    """
    random = np.random.default_rng(21)
    as_told = (*run_ranges(scenario), *(key for key in joint.by_key if key.startswith("power.")))
    entries = {key: entry for key, entry in prepare(scenario).assumptions.items() if joint[key].width > 0.0}
    for _ in range(WORLDS):
        drawn = {}
        for key, entry in entries.items():
            bounds = ASSUMPTION_UNITS[entry.unit]
            number = at(a_place(random, joint.by_key[key]), entry.low, entry.value, entry.high)
            drawn[key] = (entry.low if number < 0.5 else entry.high) if bounds.only_ends else number
        stated = changed(SCENES[scene], assumptions={**SCENES[scene].get("assumptions", {}), **drawn})
        step = prepare(load_scenario(stated))
        power = solved(step, build_graph(step))
        lanes, measured = measured_sources(step, power)
        own = power.apart.graph.seconds_by_category
        table = lanes.seconds.copy()
        for each in measured:
            if each.key in own:
                factor = at(a_place(random, each), each.low, each.value, each.high) - 1.0
                table += (
                    seconds_if_longer(power, factor * own[each.key], is_arithmetic=each.key in ARITHMETIC)
                    - lanes.seconds
                )
        before, after = lanes.makespans(np.stack((lanes.seconds, np.maximum(table, 0.0)), axis=1)).tolist()
        longer = after / before
        step_s = float(np.mean(run_draws(step.random, power.graph, "sweep", told_apart=False).step_s))
        for key in as_told:
            longer *= max(0.0, 1.0 + joint.by_key[key].changes(np.array([a_place(random, joint.by_key[key])]))[0])
        yield step_s * longer
