"""Messages of a step on one link: who meets whom, what it costs, that it can be switched off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulator import load_scenario
from simulator.assembly.chunks import COMM, DP, NUM_STREAMS
from simulator.assembly.link_sharing import LINK_SHARING, LINKS, flows_of, link_sharing
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import PP_TRANSFER, TP_COLLECTIVES
from simulator.engine import sweep
from simulator.engine.event_loop import event_loop
from simulator.results.explain import class_seconds_without
from simulator.step.graph import build_graph
from simulator.step.power import at_speeds_of, power_of
from simulator.step.prepared import prepare
from simulator.step.step import simulate_step

MOE = (
    "cluster.num_gpus=128", "parallel.pp=4", "parallel.schedule=1f1b", "parallel.ep=32", "model.num_layers=8",
    "training.global_batch_size=256", "phases=[{name: p, tokens: 4e9}]", "moe.balance=forced", "device.speed_cv=0",
    "draws=1",
)  # fmt: skip


def graph_of(*more: str) -> StepGraph:
    return build_graph(prepare(load_scenario("deepseek-v3", [*MOE, *more])))


def seconds(graph: StepGraph) -> float:
    return sweep(graph.dag, graph.class_seconds()).makespan_s


@pytest.fixture(scope="module")
def reduced_each_time() -> StepGraph:
    """Reductions of gradients behind each backward, beside the dispatches of the next."""
    return graph_of("parallel.zero_stage=2")


def test_a_transfer_leaves_one_rank_and_enters_the_next(reduced_each_time: StepGraph) -> None:
    """Out of the sender's NIC into the receiver's, up or down the pipeline; everything else stays on its rank's links."""
    graph, dag = reduced_each_time, reduced_each_time.dag
    flows = flows_of(graph)
    assert flows is not None
    rank, stream = np.divmod(dag.resource.astype(int), NUM_STREAMS)
    used = np.flatnonzero(flows.of_op >= 0)
    assert set(stream[used]) == {COMM, DP}
    out, into = (flows.links[flows.of_op[used], side] // LINKS for side in (0, 1))
    is_send = np.array([PP_TRANSFER in graph.classes[row].by_category for row in dag.op_class[used]])
    assert (out == rank[used]).all()
    assert (np.abs(into - out)[is_send] == 1).all() and is_send.sum() == 2 * 3 * graph.num_micro_batches
    assert (into == out)[~is_send].all()


def test_what_it_adds_is_what_the_event_loop_says(reduced_each_time: StepGraph) -> None:
    """The lengthened classes sum to it, the step is the event loop's, and without the category it is the old one."""
    graph, flows = reduced_each_time, flows_of(reduced_each_time)
    assert flows is not None
    found, shared = event_loop(graph.dag, graph.class_seconds(), flows), link_sharing(graph).apply(graph)
    per_op = shared.seconds_by_category[LINK_SHARING][shared.dag.op_class]
    assert per_op.sum() == pytest.approx(found.added_s.sum(), rel=1e-9) and per_op.sum() > 0.0
    assert seconds(shared) == pytest.approx(found.timeline.makespan_s, rel=2e-3)
    assert seconds(shared) > seconds(graph) * 1.001
    without = sweep(shared.dag, class_seconds_without(shared, LINK_SHARING)).makespan_s
    assert without == pytest.approx(seconds(graph), rel=1e-9)
    sharing = link_sharing(graph)
    for row, added, longer in zip(
        sharing.old_class, sharing.added_s, shared.classes[len(graph.classes) :], strict=True
    ):
        old = graph.classes[row]
        assert (longer.low - old.low, longer.high - old.high) == (pytest.approx(added), pytest.approx(added))
    for segment in shared.classes:
        assert sum(segment.by_category.values()) == pytest.approx(segment.seconds)
        assert sum(segment.by_basis.values()) == pytest.approx(segment.seconds)


def test_a_collective_that_kernels_hide_uses_links_for_longer_than_it_is_waited_for() -> None:
    """Reduce-scatters of tensor parallelism beside weight gradients: on links for all their seconds, waited for in a part."""
    graph = graph_of("parallel.tp=2", "parallel.sequence_parallel=true", "parallel.zero_stage=2", "parallel.ep=16")
    flows = flows_of(graph)
    assert flows is not None
    rows = dict(zip(graph.dag.op_class.tolist(), flows.of_op.tolist(), strict=True))
    hidden = 0
    for row, flow in rows.items():
        segment = graph.classes[row]
        if flow < 0 or not any(each.category == TP_COLLECTIVES for each in segment.messages):
            continue
        sent = min(segment.seconds, sum(each.cost.seconds for each in segment.messages))
        waited = min(sent, segment.by_category[TP_COLLECTIVES])
        assert flows.times[flow] == pytest.approx((sent / segment.seconds, waited / segment.seconds))
        hidden += waited < 0.9 * sent
    assert hidden


def test_another_graph_of_a_step_shares_its_own_links(reduced_each_time: StepGraph) -> None:
    """What was found for the step's operators is not laid on others."""
    step = prepare(load_scenario("deepseek-v3", [*MOE, "parallel.zero_stage=2", "mechanisms.power=false"]))
    power, other = (
        power_of(step, reduced_each_time),
        graph_of("parallel.zero_stage=2", "training.global_batch_size=128"),
    )
    assert other.dag.num_ops < reduced_each_time.dag.num_ops
    assert seconds(at_speeds_of(power, other)) == seconds(link_sharing(other).apply(other)) > seconds(other)


def test_nothing_is_shared_where_one_kind_of_message_has_a_link() -> None:
    """One rank's dispatches alone, with no pipeline and no data parallelism: equal bytes, equal seconds, the very graph."""
    graph = graph_of("parallel.pp=1", "cluster.num_gpus=32", "model.num_layers=4", "mechanisms.zero_collectives=false")
    assert flows_of(graph) is None
    assert link_sharing(graph).apply(graph) is graph


def test_it_applies_at_other_prices_of_the_same_operators(reduced_each_time: StepGraph) -> None:
    """What links add stays as it is, and goes where it was."""
    graph = reduced_each_time
    sharing = link_sharing(graph)
    slower = replace(graph, classes=tuple(replace(each, seconds=each.seconds * 2.0) for each in graph.classes))
    for before, after in ((graph, sharing.apply(graph)), (slower, sharing.apply(slower))):
        added = after.class_seconds()[after.dag.op_class] - before.class_seconds()[before.dag.op_class]
        assert added.sum() == pytest.approx(
            sharing.apply(graph).seconds_by_category[LINK_SHARING][sharing.dag.op_class].sum()
        )


def test_the_switch_and_the_result() -> None:
    whole = simulate_step(load_scenario("deepseek-v3", [*MOE, "parallel.zero_stage=2"])).step
    off = simulate_step(
        load_scenario("deepseek-v3", [*MOE, "parallel.zero_stage=2", "mechanisms.link_sharing=false"])
    ).step
    gains = {row.what: row.seconds for row in whole.binding}
    assert off.step_s < whole.step_s
    assert gains[LINK_SHARING] == pytest.approx(whole.step_s - off.step_s, rel=0.05)
    assert LINK_SHARING not in {row.what for row in off.binding}


def test_a_faster_nic_loses_less_to_sharing() -> None:
    lost = []
    for fabric in ("ib-200g-rail", "ib-400g-rail"):
        graph = graph_of("parallel.zero_stage=2", f"cluster.fabric={fabric}")
        lost.append(seconds(link_sharing(graph).apply(graph)) - seconds(graph))
    assert lost[0] > lost[1] > 0.0
