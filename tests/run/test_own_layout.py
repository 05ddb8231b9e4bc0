"""The layout that a scenario states, beside the planned one: both are simulated, the difference is told by category."""

from __future__ import annotations

import math

import pytest

from simulator import load_scenario
from simulator.report import plan_words
from simulator.run.planner.cluster_sizes import AskedSizes
from simulator.run.planner.own_layout import beside_own, changed_keys
from simulator.run.planner.sizes import Limits, plan_sizes
from simulator.step.batches import StepSimulator
from tests.run import planned as double

SMALL = [
    "cluster.num_gpus=64", "parallel.pp=2", "parallel.ep=8", "training.global_batch_size=128", "draws=1",
    "model.num_layers=4", "phases=[{name: pretrain, tokens: 1e12}]",
]  # fmt: skip


def test_the_difference_is_that_of_the_two_simulated_steps() -> None:
    scenario = load_scenario("mixtral-8x22b", SMALL)
    planned = plan_sizes(scenario, AskedSizes(listed=(64,)), Limits(), double.plan_layout, double.fits_any)
    given = beside_own(scenario, planned).given
    assert given is not None and given.difference is not None and planned.at_own is not None
    own, other = (
        StepSimulator()(each, global_batch_size=128, schedule="1f1b").step.step_s for each in (scenario, planned.at_own)
    )
    assert given.row.step_s == own
    assert math.fsum(part.seconds for part in given.difference) == pytest.approx(other - own)
    assert given.keys["parallel.pp"] == 1 and "parallel.ep" not in given.keys
    words = plan_words.given(beside_own(scenario, planned))
    assert words[0].startswith("tp1 cp1 pp2") and "step" in words[0]
    assert any("parallel.pp=1" in line for line in words)


def test_a_size_that_was_not_planned_or_no_stated_layout_has_nothing_beside_it() -> None:
    scenario = load_scenario("mixtral-8x22b", SMALL)
    elsewhere = plan_sizes(scenario, AskedSizes(listed=(128,)), Limits(), double.plan_layout, double.fits_any)
    assert beside_own(scenario, elsewhere).given is None
    plain = load_scenario({"model": "mixtral-8x7b", "cluster": {"node": "h100-x8", "num_gpus": 64}})
    planned = plan_sizes(plain, AskedSizes(listed=(64,)), Limits(), double.plan_layout, double.fits_any)
    assert beside_own(plain, planned).given is None


def test_changed_keys_name_what_the_plan_sets_otherwise() -> None:
    scenario = load_scenario("mixtral-8x22b", SMALL)
    other = load_scenario("mixtral-8x22b", [*SMALL, "recompute=full"])
    assert changed_keys(scenario, other)["recompute.granularity"] == "full"
    assert changed_keys(scenario, scenario) == {}
