"""What is not computed again is to the bit what it would be: prices, collectives, times alone; effects of assumptions, to the
rounding of a step's seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulator import load_scenario, simulate_step
from simulator.step import effects, prepared
from simulator.step.graph import build_graph, order_of_actions, waits_for_its_transfers
from simulator.step.joint import step_joint
from simulator.step.messages import message_prices
from simulator.step.power import power_of
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.step import simulate_times

EXPERTS = [
    "cluster.num_gpus=128", "training.global_batch_size=256", "parallel.pp=2", "parallel.ep=16", "draws=1",
    "phases=[{name: short, steps: 2}]", "parallel.schedule=1f1b", "model.num_layers=8",
]  # fmt: skip
PAIRS = [
    "cluster.num_gpus=16", "training.global_batch_size=64", "parallel.pp=2", "parallel.ep=8", "draws=1",
    "phases=[{name: short, steps: 2}]", "parallel.schedule=1f1b_ep_overlap", "model.num_layers=4",
    "moe.max_nodes_per_token=null", "recompute={granularity: none, modules: []}", "parallel.zero_stage=0",
]  # fmt: skip
TENSORS = [
    "cluster.num_gpus=128", "training.global_batch_size=32", "parallel.pp=2", "parallel.vpp=1", "parallel.schedule=1f1b",
    "draws=1", "model.num_layers=8", "model.num_dense_layers=8", "recompute.granularity=none",
    "data_parallel.grad_reduce.overlap=true", "data_parallel.param_gather.overlap=true",
]  # fmt: skip


MODELS = {"experts": ("deepseek-v3", EXPERTS), "pairs": ("deepseek-v3", PAIRS), "tensors": ("llama-3.1-405b", TENSORS)}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def step(request: pytest.FixtureRequest) -> PreparedStep:
    name, changes = request.param
    return prepare(load_scenario(name, changes))


@pytest.mark.slow
def test_effects_are_those_of_steps_priced_and_built_anew(step: PreparedStep, monkeypatch: pytest.MonkeyPatch) -> None:
    order = order_of_actions(step.scenario)
    soon = step_joint(step, order, power=power_of(step, build_graph(step, order)))
    real = prepared.price
    monkeypatch.setattr(effects, "price", lambda *given: real(*given[:-1]))
    monkeypatch.setattr(PreparedStep, "has_prices_of", lambda self, other: False)
    monkeypatch.setattr(effects, "build_graph", lambda step, order, like=None: build_graph(step, order))
    anew = step_joint(step, order)
    assert anew.keys() == soon.keys()
    for key, each in soon.items():
        assert (anew[key].low, anew[key].high) == pytest.approx((each.low, each.high), rel=0, abs=1e-14), key
    assert any(each.width for each in soon.values())
    assert not all(each.width for each in soon.values())


def test_a_graph_at_other_prices_is_the_one_built_anew(step: PreparedStep) -> None:
    """Where nothing but seconds moves the operators are the same objects; where waits move, nothing is taken over."""
    order = order_of_actions(step.scenario)
    base = build_graph(step, order)
    for key, is_same in (("collective_sms", True), ("collective_stretch", True), ("pp_boundary_wait", False)):
        entry = step.assumptions[key]
        end = entry.low if entry.low != entry.value else entry.high
        fixed = entry.model_copy(update={"value": end, "low": end, "high": end})
        changed = prepared.price(
            step.scenario, step.hardware, {**step.assumptions, key: fixed}, step.workload, step.random.load, step
        )
        anew, soon = build_graph(changed, order), build_graph(changed, order, base)
        is_alike = waits_for_its_transfers(changed, order) == waits_for_its_transfers(step, order)
        assert (soon.dag is base.dag) == (is_same or is_alike)
        assert (soon.classes, soon.labels) == (anew.classes, anew.labels)
        for name in ("op_class", "resource", "pred_ptr", "pred", "draw_row", "is_join"):
            assert np.array_equal(getattr(soon.dag, name), getattr(anew.dag, name))


@pytest.mark.parametrize("overlap", ["none", "chunked"])
def test_costs_that_are_kept_are_those_priced_anew(step: PreparedStep, overlap: str) -> None:
    """Kernels, messages and collectives of every block, whichever assumption moves."""
    scenario = step.scenario
    if overlap != "none" and scenario.parallel.tp > 1:
        step = prepare(load_scenario("llama-3.1-405b", [*TENSORS, f"parallel.overlap.tp={overlap}"]))
    overlapped = ("collective_sms", "collective_stretch", "tp_overlap_chunks", "tp_overlap_sms", "lone_chunk_full_sms")
    for key in (*overlapped, "host_speed", "host_other_s"):
        entry = step.assumptions[key]
        for end in (entry.low, entry.high):
            fixed = entry.model_copy(update={"value": end, "low": end, "high": end})
            given = ({**step.assumptions, key: fixed}, step.workload, step.random.load)
            anew = prepared.price(step.scenario, step.hardware, *given)
            assert prepared.price(step.scenario, step.hardware, *given, step).stages == anew.stages


def test_an_assumption_that_moves_a_price_is_never_skipped(step: PreparedStep) -> None:
    """Each part of the prices tells two steps apart."""
    assert step.has_prices_of(replace(step, stages=()))
    for other in (
        replace(step, kernels=replace(step.kernels, collective_sms=step.kernels.collective_sms + 1)),
        replace(step, kernels=replace(step.kernels, gap_s=1.0)),
        replace(step, messages=replace(step.messages, collective_stretch=9.0)),
        replace(step, chunking=replace(step.chunking, number=9.0)),
    ):
        assert not step.has_prices_of(other)


def test_known_prices_stay_with_their_stack(step: PreparedStep) -> None:
    """The same hardware shares what it knows; a stack with other values, though of the same name, knows nothing yet."""
    first, hardware = step.messages, step.hardware
    build_graph(step)
    assert first.known
    again = message_prices(step.scenario, hardware, step.assumptions, first)
    other = replace(hardware, stack=replace(hardware.stack))
    assert again.known is first.known
    assert not message_prices(step.scenario, other, step.assumptions, first).known


def test_the_times_alone_are_those_of_the_whole_step() -> None:
    scenario = load_scenario("deepseek-v3", EXPERTS)
    alone, whole = simulate_times(scenario), simulate_step(scenario).step
    assert whole.binding
    assert alone == whole.model_copy(update={"binding": (), "imbalance": None})
