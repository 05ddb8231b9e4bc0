"""What a step asks of its rooms: the router, the loads, the prices, the draws; each against the scenario, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwprofiles.kernels.shape import KernelShape
from hwprofiles.provenance import State
from hwprofiles.stack_choice import load_stack
from simulator import load_scenario
from simulator.costs.collectives.all_to_all import all_to_all_cost, notify_floor
from simulator.costs.cost import weakest
from simulator.network.placement import Lie
from simulator.scenario.assumptions import resolve_assumptions
from simulator.step import pricing, routing
from simulator.step.batches import StepSimulator
from simulator.step.data_parallel import holders_of, plan_collectives
from simulator.step.draws import draw_rows, load_imbalance, randomness, run_draws
from simulator.step.effects import _scaled
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.memory import rank_memories
from simulator.step.prepared import memory_question, prepare
from simulator.step.step import simulate_prepared
from simulator.step.tail import _adamw, _shard, tail_costs
from simulator.workload.casts.weights import weight_casts
from simulator.workload.expert_load import LoadModel, draw_loads
from simulator.workload.op import Op
from simulator.workload.routing_rule import RoutingRule
from tests.laws.runs import changed
from tests.laws.test_expectations import wide

V3 = load_scenario("deepseek-v3")
SMALL = changed(wide(8, 2, "1f1b"), draws=3)
PREPARED = prepare(load_scenario(SMALL))


def asked(monkeypatch: pytest.MonkeyPatch, scenario: Any, nodes: int) -> tuple[RoutingRule, int]:
    """The rule and the seed that the router is simulated with."""
    seen: list[tuple[RoutingRule, int]] = []
    monkeypatch.setattr(routing, "routing_statistics", lambda rule, seed: seen.append((rule, seed)))
    stack = load_stack(scenario.stack)
    routing.ask_router(scenario, Lie(1, (scenario.parallel.ep // nodes,) * nodes), resolve_assumptions(scenario, stack))
    (found,) = seen
    return found


def test_the_router_is_asked_what_the_scenario_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSeek-V3: 8 of 256 experts on 64 ranks of 8 nodes, from 4 of 8 groups by their two best; a step of 15,360."""
    scenario = load_scenario(
        "deepseek-v3", ["seed=5", "training.micro_batch_size=2", "assumptions.bias_update_rate=0.002"]
    )
    rule, seed = asked(monkeypatch, scenario, 8)
    assert seed == 5
    assert (rule.num_experts, rule.top_k, rule.ep, rule.nodes) == (256, 8, 64, 8)
    assert (rule.groups, rule.max_groups, rule.group_top, rule.score) == (8, 4, 2, "sigmoid")
    assert (rule.sequences, rule.seq_len, rule.batch_sequences) == (128, 4096, 15360)
    assert (rule.balance, rule.bias_update_rate) == ("learned", 0.002)
    off = load_scenario("deepseek-v3", ["mechanisms.node_limited_dispatch=false"])
    assert (asked(monkeypatch, off, 8)[0].groups, asked(monkeypatch, off, 8)[0].max_groups) == (1, 1)


@pytest.mark.parametrize(
    ("balance", "has_bias", "expected"),
    [
        ("learned", True, "learned"), ("learned", False, "aux_loss"), ("natural", True, "natural"),
        ("forced", True, "forced"), ({"load_imbalance": 1.2}, False, "forced"),
    ],
)  # fmt: skip
def test_what_evens_the_load(balance: Any, has_bias: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bias, an auxiliary loss does (DeepSeek-V2, Mixtral)."""
    document = changed(SMALL, moe={"balance": balance})
    document["model"] = changed(document["model"], moe={"router_bias": has_bias})
    assert asked(monkeypatch, load_scenario(document), 1)[0].balance == expected


def test_a_given_imbalance_is_fresh_in_every_micro_batch_and_has_its_mean() -> None:
    """The fullest of eight ranks gets 1.3 times the mean, another one each time."""
    step = prepare(load_scenario(changed(SMALL, moe={"balance": {"load_imbalance": 1.3}})))
    load = step.random.load
    assert load is not None
    assert load.persistent_cv == 0.0
    rows = np.concatenate([draw_loads(load, 4, 64, 0, draw)[:, :, 0] for draw in range(8)])
    assert rows.max(axis=-1).mean() == pytest.approx(1.3, rel=0.02)
    assert len(np.unique(rows[0].argmax(axis=-1))) == 8, "each rank is the fullest in turn"


@pytest.mark.parametrize(
    ("given", "is_on", "expected"), [(None, True, 0.03), (0.0, True, 0.0), (0.07, True, 0.07), (0.07, False, 0.0)]
)
def test_the_spread_of_speed_is_the_given_one_else_the_stated(
    given: float | None, is_on: bool, expected: float
) -> None:
    document = changed(SMALL, device={"speed_cv": given}, mechanisms={"speed_spread": is_on}, seed=9, draws=7)
    found = randomness(load_scenario(document), None, 0.03)
    assert found.speed_cv == expected
    assert (found.seed, found.draws, found.lanes) == (9, 7, 8)


def test_as_many_draws_are_run_as_are_asked_for_and_the_seed_decides_them() -> None:
    graph = build_graph(PREPARED)
    many = replace(PREPARED.random, draws=11)
    steps = run_draws(many, graph, "sweep", told_apart=False).step_s
    assert len(np.unique(steps)) == 11
    other = replace(many, seed=many.seed + 1)
    assert not set(steps) & set(run_draws(other, graph, "sweep", told_apart=False).step_s)
    for draw in range(2):
        rows, others = (draw_rows(each, graph, draw) for each in (many, other))
        assert rows is not None and others is not None
        assert not np.isclose(rows, others).all()


def test_what_imbalance_tells_by_its_definition() -> None:
    """The mean fullest rank of the first draw, not the fullest of all; spread as a standard deviation of the draws."""
    graph = build_graph(PREPARED)
    outcome = run_draws(PREPARED.random, graph, "sweep")
    found, load = load_imbalance(PREPARED.random, graph, outcome), PREPARED.random.load
    assert found is not None and load is not None
    loads = draw_loads(load, len(graph.draw_units), graph.num_micro_batches, PREPARED.random.seed, 0)[:, :, 0]
    assert found.max_over_mean == pytest.approx(loads.max(axis=-1).mean())
    assert found.draws_sd_s == pytest.approx(np.sqrt(np.mean((outcome.step_s - outcome.step_s.mean()) ** 2)))
    slowed = np.array([".routed" in label for label in graph.labels])[graph.dag.op_class]
    routed_s = float((graph.class_seconds()[graph.dag.op_class] * slowed).sum())
    assert 0 < found.constant_factor_s <= (found.max_over_mean - 1) * routed_s, "the fullest rank's kernels, no message"


def test_nodes_become_more_alike_with_their_ranks() -> None:
    load = LoadModel(0.3, 0.1, 16, 2, 0.2, 0.05)
    halved = _scaled(load, 0.5)
    assert (halved.noise_cv, halved.node_noise_cv) == (0.15, 0.1)
    assert (halved.persistent_cv, halved.node_persistent_cv) == (0.1, 0.05)


def test_a_message_is_announced_unless_the_mechanism_is_off() -> None:
    message = next(m for unit in PREPARED.workload.stages[0].units for m in unit.all_to_all.values())
    on, off = PREPARED.messages, replace(PREPARED.messages, has_notify_floor=False)
    sent, floor = (
        all_to_all_cost(message, on.network, on.stack, "alone", on.comm_sms),
        notify_floor(message, on.stack, "alone"),
    )
    assert floor.seconds > 0
    assert off.all_to_all(message, "alone") == sent
    cost = on.all_to_all(message, "alone")
    assert (cost.seconds, cost.low, cost.high) == (
        sent.seconds + floor.seconds, sent.low + floor.low, sent.high + floor.high,
    )  # fmt: skip
    assert cost.basis == (sent if floor.seconds < sent.seconds else floor).basis
    switched = prepare(load_scenario(changed(SMALL, mechanisms={"notify_floor": False, "pp_transfer": False})))
    assert not switched.messages.has_notify_floor
    assert not switched.messages.has_transfers
    assert PREPARED.messages.has_transfers


def test_without_imbalance_no_load_is_drawn() -> None:
    assert PREPARED.random.load is not None
    assert prepare(load_scenario(changed(SMALL, mechanisms={"imbalance": False}))).random.load is None


def test_without_its_collectives_a_step_ends_with_norm_and_optimizer() -> None:
    order = order_of_actions(PREPARED.scenario)
    for is_on in (True, False):
        switches = {"mechanisms": {"zero_collectives": is_on}, "parallel": {"overlap": {"dp": False}}}
        step = prepare(load_scenario(changed(SMALL, **switches)))
        asked = step.scenario, step.workload, order
        costs = tail_costs(*asked, step.kernels, step.messages, plan_collectives(*asked, step.messages))
        assert all(bool(each) == is_on for each in (*costs.reduce, *costs.gather))
        beside = prepare(load_scenario(changed(SMALL, mechanisms={"zero_collectives": is_on})))
        planned = plan_collectives(beside.scenario, beside.workload, order, beside.messages)
        assert all(bool(stage.last_backward.reduces) == is_on and not stage.reduces_at_end for stage in planned)
        assert len(planned[1].last_backward.reduces) <= 1, "a stage behind the first has one bucket"
        assert all(each.seconds > 0 for each in costs.norm) and all(each.seconds > 0 for each in costs.optimizer)


def test_a_mix_of_grids_is_as_well_founded_as_its_weaker_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quarters of the kernels on all SMs, a quarter beside communication; a quarter of 3 s more."""
    seen = PREPARED.kernels.seconds(next(iter(PREPARED.workload.stages[0].units[-1].ops())), "alone")
    costs = {
        "alone": replace(seen, seconds=1.0, low=0.9, high=1.2, basis="measured"),
        "overlapped": replace(seen, seconds=4.0, low=3.0, high=6.0, basis="transferred"),
    }
    monkeypatch.setattr(pricing, "kernel_seconds", lambda shape, stack, gpu, regime, *sms: costs[regime])
    prices = replace(PREPARED.kernels, shared_sms=20, full_grid_frac=0.75)
    op = Op("x", "F", KernelShape("gemm", m=8, n=8, k=8), 0, 0, flop=1.0)
    mixed = prices.seconds(op, "alone")
    assert (mixed.seconds, mixed.low, mixed.high) == pytest.approx((1.75, 1.425, 2.4))
    assert mixed.basis == weakest("measured", "transferred") == "transferred"
    assert prices.seconds(op, "overlapped").seconds == 4.0
    assert replace(prices, full_grid_frac=1.0).seconds(op, "alone").seconds == 1.0
    assert prices.unshared_seconds(op).seconds == 1.0


@pytest.mark.parametrize("state", ["first_launches", "benchmark_loop", "sustained", "in_step"])
def test_rows_are_taken_to_first_launches_by_their_state(state: State) -> None:
    """The hotter the state, the faster the same kernel is after a rest; inside a step it is taken as it is."""
    shape = KernelShape("gemm", "fprop", "bf16", 8192, 8192, 8192)
    op = Op("x", "F", shape, 2 * 8192**2 * 2, 8192**2 * 2, flop=2.0 * 8192**3)
    prices = PREPARED.kernels
    alone = replace(prices.kernel(shape, "alone"), seconds=1.62e-3, low=1.62e-3, high=1.62e-3, state=state)
    found = replace(prices, known={(shape, "alone", None): alone}).unshared_seconds(op)
    assert found.state == state
    assert found.low <= found.seconds <= found.high
    share = found.seconds / alone.seconds
    if state in ("first_launches", "in_step"):
        assert share == 1.0
    else:
        assert share == pytest.approx(0.86, abs=0.03) if state == "sustained" else 0.87 < share < 0.99


def test_what_memory_bounds_is_not_converted() -> None:
    stage, holders = PREPARED.workload.stages[0], holders_of(PREPARED.messages, order_of_actions(PREPARED.scenario), 1)
    update = _adamw(PREPARED.scenario, _shard(PREPARED.scenario, stage, holders))
    for op in (update, *weight_casts(PREPARED.scenario, stage)):
        assert PREPARED.kernels.unshared_seconds(op).seconds == PREPARED.kernels.kernel(op.shape, "alone").seconds


def test_adamw_moves_gradient_state_and_weight() -> None:
    """FP32 moments: 4 + 12 bytes read and 12 + 2 written of each parameter of the shard; two bytes quantised to one."""
    stage, holders = PREPARED.workload.stages[0], holders_of(PREPARED.messages, order_of_actions(PREPARED.scenario), 1)
    shard = _shard(PREPARED.scenario, stage, holders)
    assert shard == -(-stage.dense_params // 8) + stage.expert_params
    (quantise,) = weight_casts(PREPARED.scenario, stage)
    assert _adamw(PREPARED.scenario, shard).shape.bytes == shard * (16 + 14)
    assert quantise.shape.bytes == 3 * (stage.dense_params + stage.expert_params)
    pure = load_scenario(changed(SMALL, training={"optimizer": "adamw-bf16"}))
    assert _adamw(pure, shard).shape.bytes == shard * (4 + 6 + 6), (
        "no master copy: weight and moments of 2 bytes, both ways"
    )


def test_a_simulator_answers_for_the_scenario_that_it_is_asked() -> None:
    """Not for the one before, and with the tokens of the batch and the schedule that are asked for."""
    simulate, batch = StepSimulator(), PREPARED.scenario.training.global_batch_size
    longer = load_scenario(changed(SMALL, training={"seq_len": 8192}))
    for scenario in (PREPARED.scenario, longer, PREPARED.scenario):
        found = simulate(scenario, global_batch_size=batch, schedule="1f1b").step
        assert found.step_s == simulate_prepared(prepare(scenario)).step.step_s
        assert found.tokens_per_step == batch * scenario.training.seq_len
    half = simulate(PREPARED.scenario, global_batch_size=batch // 2, schedule="gpipe").step
    assert half.tokens_per_step == batch // 2 * 4096
    order = order_of_actions(PREPARED.scenario, batch // 2, "gpipe")
    assert (order.name, order.num_micro_batches) == ("gpipe", 4)


def test_mfu_is_over_the_dense_bf16_peak_whatever_the_recipe() -> None:
    """An H800 multiplies 989.4 TFLOP/s in BF16, twice that in FP8, in which this step computes."""
    step = simulate_prepared(PREPARED, explained=False).step
    assert PREPARED.scenario.precision.recipe == "fp8-blockwise"
    rate = step.tokens_per_s_per_gpu * step.model_flop_per_token.causal
    assert step.mfu.bf16_dense_causal == pytest.approx(rate / 989.4e12, rel=1e-3)
    assert step.tflops.causal == pytest.approx(rate / 1e12, rel=1e-9)


def test_what_is_reserved_for_fragments_is_not_usable() -> None:
    """The allocator takes a share on top of what is asked of it."""
    memory = simulate_prepared(PREPARED, explained=False).memory
    reserved = PREPARED.assumptions["memory_fragmentation_frac"].value
    assert reserved > 0
    assert memory.usable_bytes == pytest.approx(memory.capacity_bytes / (1 + reserved), rel=1e-9)


def test_what_a_step_tells_is_what_its_parts_are() -> None:
    """Means over the ranks; exposed communication is what the actions take beyond their compute."""
    found = simulate_prepared(PREPARED, explained=False)
    step, mean = found.step, found.step.parts.mean
    assert (step.bubble_s, step.optimizer_s) == (mean.bubble_s, mean.optimizer_s)
    assert mean.bubble_s != step.parts.edge.bubble_s
    rows = {row.category: row.seconds for row in step.by_category}
    assert step.exposed_comm_s == pytest.approx(rows["exposed_communication"], rel=1e-12)
    longer = prepare(load_scenario(changed(SMALL, training={"seq_len": 8192})))
    more = simulate_prepared(longer, explained=False).step.model_flop_per_token
    heads, width, layers = 16, 128, 4
    per_token = 12 * heads * width * layers * 4096 / 2
    assert more.causal - step.model_flop_per_token.causal == pytest.approx(per_token, rel=1e-3)


def test_the_memory_of_a_rank_is_what_it_holds_and_sums_to_its_peak() -> None:
    memory = simulate_prepared(PREPARED, explained=False).memory
    ranks = rank_memories(memory_question(PREPARED), order_of_actions(PREPARED.scenario))
    keys = [f"{what}_bytes" for what in ("weights", "gradients", "optimizer", "activations", "buffers")]
    for told, held in zip(memory.by_stage, ranks, strict=True):
        for key in (*keys, "peak_bytes"):
            assert getattr(told, key) == getattr(held, key), key
        assert sum(getattr(told, key) for key in keys) == told.peak_bytes
        assert len({getattr(told, key) for key in keys}) == len(keys)
    gpu = PREPARED.hardware.gpu
    assert gpu.device_bytes is not None and gpu.device_bytes != gpu.hbm_bytes
    assert memory.capacity_bytes == gpu.device_bytes


def test_assumptions_are_told_as_they_are_stated() -> None:
    rows = simulate_prepared(PREPARED, explained=False).assumptions
    assert [row.key for row in rows] == sorted(PREPARED.assumptions)
    for row in rows:
        stated = PREPARED.assumptions[row.key]
        assert (row.value, row.low, row.high) == (stated.value, stated.low, stated.high)
        assert row.source == str(stated.source)
