"""At both ends of what its unit allows, every assumption gives a step: bounds that break something are wrong bounds."""

from __future__ import annotations

import math

import pytest

from hwprofiles.assumption_units import ASSUMPTION_UNITS
from simulator import load_scenario, simulate_run
from simulator.scenario.assumptions import read_assumptions
from tests.laws.test_assumptions import STATED, measured


@pytest.mark.parametrize(("scene", "key"), sorted(STATED))
def test_a_step_at_both_bounds(scene: str, key: str) -> None:
    bounds = ASSUMPTION_UNITS[STATED[scene, key].unit]
    for end in (bounds.low, bounds.high):
        seconds, share = measured(scene, key, end)
        assert 0 < seconds < math.inf and 0 < share < math.inf


@pytest.mark.slow
@pytest.mark.parametrize("key", read_assumptions())
def test_a_preset_at_both_bounds(key: str) -> None:
    bounds = ASSUMPTION_UNITS[read_assumptions()[key].unit]
    for end in (bounds.low, bounds.high):
        run = simulate_run(load_scenario("mixtral-8x22b", ["draws=2", f"assumptions.{key}={end!r}"]))
        assert 0 < run.totals.gpu_hours.value < math.inf
