"""Which calls a scenario's host makes: by the node's processor, by the software that is stated, and how sure that is."""

from __future__ import annotations

from dataclasses import astuple
from math import hypot, log

import pytest

from hwprofiles.hosts import BETWEEN, KEYS, dispatch_range, load_host
from hwprofiles.stack_choice import load_stack
from simulator import load_scenario
from simulator.assembly.issue import UnitIssue
from simulator.costs.host_issue import HostCosts, issue_s
from simulator.errors import InputError
from simulator.scenario.host_speed import BROUGHT, CALLS, GROUPS, HOST_SPEED, LARGEST
from simulator.scenario.scenario import Scenario
from simulator.step.host import host_prices
from simulator.step.prepared import prepare
from simulator.step.step import simulate_times
from simulator.workload.host_calls import graph_scope
from simulator.workload.op import Op, Unit, Work

NODE = (
    "{gpu: h100, gpus_per_node: 8, scale_up_name: NVLink, scale_up_bytes_per_s: 450 GB/s, scale_up_domain_gpus: 8, "
    "nic_bytes_per_s: 400 Gb/s, nics_per_node: 8, host_cpu: grase}"
)
ONE = (
    "cluster.num_gpus=8", "parallel.tp=1", "parallel.pp=1", "model.num_layers=2", "model.num_dense_layers=2",
    "training.global_batch_size=16", "training.seq_len=512", "recompute={granularity: none, modules: []}",
)  # fmt: skip


def scenario(*overrides: str) -> Scenario:
    """A small model on one node."""
    return load_scenario("llama-3.1-70b", (*ONE, *overrides))


def test_seconds_are_the_tables_times_the_processor() -> None:
    it = scenario("host.dispatch=eager", "cluster.node=gb200-nvl72")
    step = prepare(it)
    assert step.host is not None
    assert step.host.costs is not None
    expected = dispatch_range("eager").value.times(load_host("grace").seconds.value)
    assert astuple(step.host.costs) == pytest.approx(astuple(expected))
    assert step.host.plan.call_s == pytest.approx(expected.collective_s)


def test_every_unit_is_issued_whole() -> None:
    """Each operator and message has seconds, and what a layer does beside them counts once a forward and once a backward."""
    step = prepare(load_scenario("deepseek-v3", ("recompute={granularity: none, modules: []}",)))
    assert step.host is not None
    costs = step.host.costs
    assert costs is not None
    for unit in {unit.kind: unit for stage in step.workload.stages for unit in stage.units}.values():
        issued = step.host.unit(unit)
        assert set(issued.messages) == set(unit.all_to_all)
        assert all(seconds > 0 for block in issued.blocks.values() for seconds in block.values())
        total = sum(sum(block.values()) for block in issued.blocks.values())
        bare = sum(
            issue_s(each, name, costs)
            for name, work in unit.blocks.items()
            for each in {id(each): each for each in work}.values()
        )
        beside = costs.layer_f_s + costs.layer_b_s if unit.kind != "head" else 0.0
        more = costs.routed_f_s + costs.routed_b_s if unit.kind == "moe" else 0.0
        assert total - bare == pytest.approx(beside + more)


def test_what_is_not_known_widens_the_interval() -> None:
    """A stated way of issuing leaves less open than none; a flat figure leaves nothing."""
    found = {}
    for name, given in (
        ("none", ()),
        ("engine", ("host.dispatch=transformer_engine",)),
        ("flat", ("host.launch_s=1e-5",)),
    ):
        found[name] = prepare(scenario(*given)).assumptions[HOST_SPEED]
    none, engine, flat = (found[name] for name in ("none", "engine", "flat"))
    cpu = load_host("xeon-8480c").seconds
    assert none.low < engine.low < cpu.low / cpu.value < flat.low == 1
    assert none.high > engine.high > cpu.high / cpu.value > flat.high == 1


def test_every_call_is_of_one_group_and_groups_are_wrong_on_their_own() -> None:
    """The closed form of one way's range: processor, transfer and groups as squares, the least sure with the largest share."""
    assert sorted(key for keys in GROUPS for key in keys) == sorted(set(KEYS) - {"graph_node_s"})
    found = prepare(scenario("host.dispatch=transformer_engine")).assumptions[HOST_SPEED]
    costs, cpu = dispatch_range("transformer_engine"), load_host("xeon-8480c").seconds
    distances = []
    for keys in GROUPS:
        logs = [
            log(getattr(costs.high, key) / getattr(costs.value, key)) for key in keys if getattr(costs.value, key) > 0
        ]
        distances.append(sum(logs) / len(logs))
    largest, *others = sorted(distances, reverse=True)
    rest = (1 - LARGEST) / 4
    parts = (log(cpu.high / cpu.value), log(BROUGHT[1]), LARGEST * largest, *(rest * each for each in others))
    assert log(found.high) == pytest.approx(hypot(*parts))
    assert log(found.high) < max(distances)


def test_which_way_issues_work_is_open_where_nobody_says() -> None:
    """By the distance of the middle from either way, beside what is open of the less sure one."""
    ends = {
        each: prepare(scenario(*([f"host.dispatch={each}"] if each else []))).assumptions[HOST_SPEED]
        for each in (None, *BETWEEN)
    }
    middle, way = dispatch_range(None).value, dispatch_range("transformer_engine").value
    logs = [log(getattr(way, key) / at) for key in CALLS if (at := getattr(middle, key)) > 0 and getattr(way, key) > 0]
    apart = sum(logs) / len(logs)
    assert log(ends[None].high) == pytest.approx(hypot(apart, max(log(ends[each].high) for each in BETWEEN)), rel=0.02)


def test_own_code_is_never_slower() -> None:
    times = [
        simulate_times(scenario(f"host.dispatch={each}")).step_s for each in ("custom", "eager", "transformer_engine")
    ]
    assert times[0] < times[1] < times[2]


def test_a_node_of_an_unknown_processor_is_refused() -> None:
    with pytest.raises(InputError, match="no host processor is called grase"):
        scenario(f"cluster.node={NODE}")


def test_nothing_is_left_without_a_stream() -> None:
    it = scenario("mechanisms.host_stream=false")
    assert host_prices(it, prepare(it).assumptions, load_stack(it.stack)) is None
    assert len(KEYS) == 25


SCOPED = ("attn", "moe_router", "moe_preprocess")
FORWARD, BACKWARD = ("attn_f", "mlp_f_routed", "mlp_f_local"), ("mlp_b_routed", "mlp_b_local", "attn_b", "attn_w")


def issued(graph: str) -> tuple[Unit, UnitIssue, HostCosts]:
    """A layer with experts and what it takes to issue it."""
    given = ("host.dispatch=transformer_engine", "moe.host_sync=none", f"host.cuda_graph={graph}")
    step = prepare(load_scenario("deepseek-v3", given))
    assert step.host is not None and step.host.costs is not None
    unit = next(unit for stage in step.workload.stages for unit in stage.units if unit.kind == "moe")
    return unit, step.host.unit(unit), step.host.costs


def scoped(unit: Unit, block: str) -> list[Work]:
    """What of a block the graphs of SCOPED hold."""
    return [each for each in unit.blocks.get(block, ()) if graph_scope(each, block, "moe") in SCOPED]  # type: ignore[call-overload]


def kernels(work: Work) -> float:
    """Nodes of a graph that it is."""
    return work.shape.num_kernels if isinstance(work, Op) else 1


def test_a_graph_of_a_layer_is_one_replay_a_pass() -> None:
    unit, plain, costs = issued("none")
    _, graphed, _ = issued(f"[{', '.join(SCOPED)}]")
    held: dict[str, list[float]] = {
        name: [seconds for each, seconds in zip(work, graphed.blocks[name].values(), strict=True)
               if graph_scope(each, name, "moe") in SCOPED]
        for name, work in unit.blocks.items() if len({id(each) for each in work}) == len(work)
    }  # fmt: skip
    for of_pass in (FORWARD, BACKWARD):
        seconds = [each for name in of_pass for each in held.get(name, ())]
        assert len(seconds) > 5 and sum(map(bool, seconds)) == 1
        of_forward = [name for name in unit.blocks if name in (*FORWARD, "shared_f_up", "shared_f_down")]
        blocks = of_forward if of_pass is FORWARD else [name for name in unit.blocks if name not in of_forward]
        nodes = sum({id(each): kernels(each) for name in blocks for each in scoped(unit, name)}.values())
        assert nodes >= len(seconds)
        assert sum(seconds) == pytest.approx(costs.graph_s + nodes * costs.graph_node_s)
    assert plain.ahead["dispatch_f"] > 0 and not graphed.ahead
    assert graphed.messages == plain.messages


def test_what_a_graph_does_not_hold_is_issued_as_before() -> None:
    unit, plain, _ = issued("none")
    _, graphed, _ = issued("[attn, moe_router]")
    assert graphed.ahead == plain.ahead
    for name, work in unit.blocks.items():
        for each, before, now in zip(work, plain.blocks[name].values(), graphed.blocks[name].values(), strict=False):
            assert graph_scope(each, name, "moe") in SCOPED or now == before


def test_a_graph_of_experts_holds_their_messages() -> None:
    unit, plain, costs = issued("none")
    _, graphed, _ = issued("[moe]")
    assert set(unit.all_to_all) >= {"dispatch_f", "combine_f", "dispatch_b", "combine_b"}
    most = 2 * (costs.graph_s + 100 * costs.graph_node_s)
    assert sum(graphed.messages.values()) <= most < sum(plain.messages.values())
    forward = sum(
        seconds
        for name, work in unit.blocks.items()
        for each, seconds in zip(work, graphed.blocks[name].values(), strict=False)
        if name in FORWARD and graph_scope(each, name, "moe") == "moe"
    )
    nodes = 2 + sum(
        kernels(each)
        for name in FORWARD
        for each in unit.blocks.get(name, ())  # type: ignore[call-overload]
        if graph_scope(each, name, "moe") == "moe"
    )
    replay_s = costs.graph_s + nodes * costs.graph_node_s
    assert forward + graphed.messages["dispatch_f"] + graphed.messages["combine_f"] == pytest.approx(replay_s)
    before, now = (sum(sum(block.values()) for block in each.blocks.values()) for each in (plain, graphed))
    assert now < before
