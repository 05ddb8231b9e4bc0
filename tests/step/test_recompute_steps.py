"""Recompute in a whole step: seconds and bytes between those of nothing and of everything computed again."""

from __future__ import annotations

from functools import cache

import pytest

from simulator import load_scenario
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared

DENSE = (
    "llama-3.1-8b", "parallel={pp: 2, schedule: 1f1b}", "cluster={node: h100-x8, num_gpus: 8}", "training.seq_len=4096",
    "training.global_batch_size=64",
)  # fmt: skip
EXPERTS = (
    "mixtral-8x7b", "parallel={pp: 2, ep: 4, schedule: 1f1b}", "cluster={node: h100-x8, num_gpus: 8}",
    "training.seq_len=4096", "training.global_batch_size=64", "moe.balance=forced",
)  # fmt: skip


@cache
def figures(plan: tuple[str, ...], recompute: str) -> tuple[float, int, float]:
    """(seconds, activations of the fullest rank, bubble) of a step on GPUs of one speed."""
    model, *options = plan
    base = "mixtral-8x22b" if model.startswith("mixtral") else "llama-3.1-70b"
    given = [f"model={model}", *options, f"recompute={recompute}", "device.speed_cv=0", "draws=1"]
    result = simulate_prepared(prepare(load_scenario(base, given)), explained=False)
    activations = max(rank.activations_bytes for rank in result.memory.by_stage)
    return result.step.step_s, activations, result.step.bubble_s


NONE, FULL = "{granularity: none, modules: []}", "{granularity: full, modules: []}"


def chosen(*modules: str) -> str:
    return f"{{granularity: selective, modules: [{', '.join(modules)}]}}"


@pytest.mark.parametrize(("plan", "modules"), [(DENSE, ("attention", "mlp")), (EXPERTS, ("attention", "moe"))])
def test_modules_lie_between_nothing_and_everything(plan: tuple[str, ...], modules: tuple[str, ...]) -> None:
    steps = [figures(plan, each) for each in (NONE, chosen(modules[0]), chosen(modules[1]), chosen(*modules), FULL)]
    seconds, activations = [step[0] for step in steps], [step[1] for step in steps]
    assert seconds == sorted(seconds)
    assert activations == sorted(activations, reverse=True)
    assert activations[-1] < activations[0] / 4


@pytest.mark.parametrize("plan", [DENSE, EXPERTS])
def test_everything_again_is_a_third_more(plan: tuple[str, ...]) -> None:
    """Of forward and backward, the head aside: the forward of the layers is a third of both."""
    (none, _, none_bubble), (full, _, full_bubble) = figures(plan, NONE), figures(plan, FULL)
    assert 1.25 < (full - full_bubble) / (none - none_bubble) < 1.36


@pytest.mark.parametrize("plan", [DENSE, EXPERTS])
def test_a_block_of_all_layers_is_a_checkpoint_of_each(plan: tuple[str, ...]) -> None:
    everything = "{granularity: full, modules: [], method: block, num_layers: 16}"
    assert figures(plan, everything) == figures(plan, FULL) == figures(plan, chosen("layer"))
    half = figures(plan, "{granularity: full, modules: [], method: block, num_layers: 8}")
    none, full = figures(plan, NONE), figures(plan, FULL)
    assert none[0] < half[0] < full[0]
    assert none[1] > half[1] > full[1]


def test_groups_of_dense_layers_take_as_long() -> None:
    """The same operators in another order; fewer inputs are kept, and more is there when a group goes back."""
    one, four = figures(DENSE, FULL), figures(DENSE, "{granularity: full, modules: [], num_layers: 4}")
    assert four[0] == pytest.approx(one[0], rel=1e-9)
    assert four[1] != one[1]
