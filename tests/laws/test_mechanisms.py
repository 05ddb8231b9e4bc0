"""Law: every mechanism's switch does something, in a scenario in which the mechanism acts."""

from __future__ import annotations

from functools import cache

import pytest

from simulator import load_scenario, simulate_run
from simulator.scenario.plan import Mechanisms
from tests.laws.runs import unexplained

SMALL = (
    "cluster.num_gpus=256", "parallel.pp=8", "parallel.ep=16", "parallel.tp=2", "parallel.cp=2",
    "parallel.sequence_parallel=true", "training.global_batch_size=512", "model.num_layers=17",
    "training.packing={mean_tokens: 512, cv: 1.5}",
    "moe.max_nodes_per_token=1", "draws=2", "device.power_cap_w=350",
    "phases=[{name: p, tokens: 4e9, batch_ramp: {from: 64, over_tokens: 2e9, schedule_below: 1f1b}}]",
)  # fmt: skip


ACTS_WITH = {
    "offload_time": "offload.optimizer=0.5",
    "orthogonalisation": "training.optimizer=muon",
    "host_stream": "host.launch_s=5e-5",
}
"""Mechanisms that need a choice which excludes another one's."""


@cache
def figures(*overrides: str) -> tuple[float, float]:
    """Seconds of a step, and GPU-hours of the run."""
    result = simulate_run(load_scenario("deepseek-v3", [*SMALL, *overrides]), simulate=unexplained)
    return result.step.step_s, result.totals.gpu_hours.value


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(Mechanisms.model_fields))
def test_a_switched_off_mechanism_changes_the_result(name: str) -> None:
    given = [ACTS_WITH[name]] if name in ACTS_WITH else []
    step_s, hours = figures(*given)
    without_s, without_hours = figures(*given, f"mechanisms.{name}=false")
    assert hours != without_hours
    assert (step_s == without_s) == (name == "batch_ramp"), "the ramp acts on the run alone, all others on the step"
