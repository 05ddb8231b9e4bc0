"""A step on a stack that validation built: without a group of measurements, in place of the one that the scenario names."""

from __future__ import annotations

import pytest

from hwprofiles.leave_out import LeftOut
from hwprofiles.stack_choice import default_stack, load_stack
from simulator import load_scenario, simulate_step
from simulator.errors import InputError
from simulator.run.training_run import simulate_run
from simulator.step.batches import StepSimulator

SMALL = [
    "cluster.num_gpus=32", "parallel.pp=4", "parallel.ep=8", "training.global_batch_size=64", "draws=1",
    "phases=[{name: p, steps: 2}]",
]  # fmt: skip


def test_a_step_takes_the_stack_that_it_is_given() -> None:
    scenario = load_scenario("mixtral-8x22b", SMALL)
    usual = simulate_step(scenario)
    assert simulate_step(scenario, stack=load_stack(scenario.stack)) == usual
    without = LeftOut(families=frozenset({"hopper"}))
    name = default_stack("h100", without)
    blind = load_stack(name, without)
    found = simulate_step(load_scenario("mixtral-8x22b", [*SMALL, f"stack={name}"]), stack=blind)
    assert found.stack_sha256 == blind.sha256 != usual.stack_sha256
    assert abs(found.step.step_s / usual.step.step_s - 1.0) > 0.001, "the shares of other families on Hopper"
    run = simulate_run(load_scenario("mixtral-8x22b", [*SMALL, f"stack={name}"]), simulate=StepSimulator(stack=blind))
    assert run.step.step_s == found.step.step_s


def test_a_stack_of_another_gpu_is_refused() -> None:
    with pytest.raises(InputError, match=r"b200-public is of GPU b200, but cluster.node has h100"):
        simulate_step(load_scenario("mixtral-8x22b", SMALL), stack=load_stack("b200-public"))
