"""Laws of the host's stream: what issuing costs holds a device up where it is slower, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from simulator import load_scenario
from simulator.assembly.chunks import COMM, COMPUTE, DP, HOST, NUM_STREAMS, Issue
from simulator.assembly.expand import Form, expand
from simulator.assembly.host_waits import host_wait_s, host_waits
from simulator.assembly.issue import UnitIssue, issue_of
from simulator.assembly.repriced import repriced
from simulator.assembly.step_graph import StepGraph
from simulator.engine import sweep, sweep_batch
from simulator.results.timeline import HOST_WAIT
from simulator.scenario.scenario import Scenario
from simulator.step.draws import draw_rows
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.step import simulate_step, simulate_times
from simulator.step.timeline import step_timeline
from simulator.workload import counting as c
from simulator.workload.op import Op

ONE = (
    "cluster.num_gpus=8", "parallel.tp=1", "parallel.pp=1", "model.num_layers=2", "model.num_dense_layers=2",
    "training.global_batch_size=16", "training.seq_len=512", "recompute={granularity: none, modules: []}",
)  # fmt: skip
PIPELINE = (*ONE, "cluster.num_gpus=16", "parallel.pp=2", "model.num_layers=4", "model.num_dense_layers=4")
EXPERTS = (
    "cluster.num_gpus=32", "parallel.pp=4", "parallel.ep=8", "model.num_layers=8", "training.global_batch_size=64",
    "training.seq_len=512", "moe.max_nodes_per_token=null", "draws=2", "phases=[{name: p, steps: 1}]",
)  # fmt: skip


def _scenario(preset: str, overrides: tuple[str, ...], *more: str) -> Scenario:
    return load_scenario(preset, overrides=[*overrides, *more])


def _graph(step: PreparedStep) -> StepGraph:
    return build_graph(step, order_of_actions(step.scenario))


def _num_host(graph: StepGraph) -> int:
    return int((graph.dag.resource % NUM_STREAMS == HOST).sum())


def test_a_host_that_takes_no_time_is_none_to_the_bit() -> None:
    free = simulate_times(_scenario("llama-3.1-70b", PIPELINE, "host.launch_s=0"))
    off = _scenario("llama-3.1-70b", PIPELINE, "host.launch_s=0.01", "mechanisms.host_stream=false")
    assert free == simulate_times(off)
    assert _num_host(_graph(prepare(off))) == 0


def test_a_chain_that_the_host_paces_takes_the_sum_of_its_launches() -> None:
    launch_s = 0.01
    step = prepare(_scenario("llama-3.1-70b", ONE, f"host.launch_s={launch_s}"))
    graph = _graph(step)
    launches = sum(op.shape.num_kernels for unit in step.workload.stages[0].units for op in unit.ops())
    collectives = int((graph.dag.resource[: graph.tail_first] % NUM_STREAMS == DP).sum())
    in_actions = (graph.num_micro_batches * launches + collectives) * launch_s
    finish = sweep(graph.dag, graph.class_seconds()).finish_s[: graph.tail_first, 0]
    slowest = max(piece.cost.seconds for segment in graph.classes for piece in segment.pieces)
    assert in_actions <= finish.max() <= in_actions + slowest + 1e-4


@pytest.mark.parametrize("gap_s", [0.0, 2e-6])
def test_a_run_ends_as_its_kernels_one_by_one_would(gap_s: float) -> None:
    """Each begins behind its launch and behind the one before."""
    step = prepare(_scenario("llama-3.1-70b", ONE))
    pieces = max((each.pieces for each in _graph(step).classes), key=len)
    random = np.random.default_rng(0)
    for scale in (1e-6, 1e-4, 1e-2):
        issued = {id(each.what): scale * random.random() for each in pieces}
        host = end = busy = 0.0
        for each in pieces:
            seconds = each.cost.seconds + (each.what.shape.num_kernels * gap_s if isinstance(each.what, Op) else 0.0)
            host += issued[id(each.what)]
            end, busy = max(host, end) + seconds, busy + seconds
        found = issue_of(pieces, issued, gap_s)
        assert found.seconds == pytest.approx(host)
        assert found.lead_s + busy == pytest.approx(end)


def test_an_operator_waits_for_the_launches_inside_it() -> None:
    """The first one of a step: its kernels are shorter than their launches, so that it ends behind the last of these."""
    graph = _graph(prepare(_scenario("llama-3.1-70b", ONE, "host.launch_s=0.01")))
    first = int(np.flatnonzero(graph.dag.resource % NUM_STREAMS == COMPUTE)[0])
    segment = graph.classes[graph.dag.op_class[first]]
    end = sweep(graph.dag, graph.class_seconds()).finish_s[first, 0]
    assert segment.issue.lead_s > 0.5 * segment.issue.seconds > 0.01
    assert end == pytest.approx(segment.issue.lead_s + segment.seconds, rel=0.01)


@pytest.mark.parametrize(("preset", "overrides"), [("llama-3.1-70b", PIPELINE), ("deepseek-v3", EXPERTS)])
def test_a_faster_host_is_never_slower(preset: str, overrides: tuple[str, ...]) -> None:
    seconds = [
        simulate_times(_scenario(preset, overrides, f"host.launch_s={each}")).step_s for each in (0.0, 2e-6, 2e-5, 2e-3)
    ]
    assert seconds == sorted(seconds) and seconds[-1] > 1.5 * seconds[0]


@pytest.mark.parametrize("launch_s", [3e-6, 2e-5, 6e-5])
@pytest.mark.parametrize(("preset", "overrides"), [("llama-3.1-70b", PIPELINE), ("deepseek-v3", EXPERTS)])
def test_what_is_left_out_holds_nothing_up(preset: str, overrides: tuple[str, ...], launch_s: float) -> None:
    step = prepare(_scenario(preset, overrides, f"host.launch_s={launch_s}"))
    pruned, order = _graph(step), order_of_actions(step.scenario)
    assert isinstance(pruned.form, Form) and pruned.form.priced.host is not None
    whole = expand(order, replace(pruned.form.priced, host=replace(pruned.form.priced.host, prunes=False)))
    assert _num_host(pruned) < _num_host(whole)
    for draw in range(2):
        rows = draw_rows(step.random, pruned, draw)
        rows = np.ones((pruned.dag.num_draw_rows, 1)) if rows is None else rows
        ends = [sweep_batch(each.dag, each.class_seconds(), rows[None]).makespan_s[0] for each in (pruned, whole)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-12)


@pytest.mark.parametrize("launch_s", [1e-6, 2e-5, 2e-4])
def test_a_graph_at_another_host_s_prices_is_the_one_made_for_them(launch_s: float) -> None:
    """Also where operators of the host were left out that now hold something up."""
    like, anew = (
        _graph(prepare(_scenario("llama-3.1-70b", ONE, f"host.launch_s={each}"))) for each in (5e-6, launch_s)
    )
    assert isinstance(anew.form, Form)
    found = repriced(order_of_actions(_scenario("llama-3.1-70b", ONE)), anew.form.priced, like)
    ends = [sweep(each.dag, each.class_seconds()).finish_s[:, 0].max() for each in (found, anew)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_a_message_is_issued_behind_its_counts_and_its_cast() -> None:
    """2 s of counts ahead of the wait for the router, 3 s of a cast, 5 s of its own call."""
    cast_of = c.moved("quantise", "quantise", "F", 1, 1)
    unit = UnitIssue({"combine_b_cast": {id(cast_of): 3.0}}, {"dispatch_f": 5.0}, {"dispatch_f": 2.0})
    assert unit.of_message("dispatch_f", [cast_of]) == Issue(10.0, 10.0, 2.0)
    assert unit.of_message("combine_f", []) == Issue(0.0, 0.0, 0.0)


def test_waits_for_a_host_by_hand() -> None:
    """Rank 0: the host issues a message at 5 s, which ends at 8 s, and a product behind it at 9 s: 6 of 9 s are the host's.
    Rank 1: a product behind that one waits for its neighbour, not for a host; the next one for its own host from 13 to 14 s.
    Rank 2: its input comes at 10 s, which rank 0's host issued at 9 s: bubble up to there, then 2 s for its own host.
    """
    r1, r2 = NUM_STREAMS, 2 * NUM_STREAMS
    streams = [HOST, COMM, HOST, COMPUTE, r1 + COMPUTE, r1 + HOST, r1 + COMPUTE, COMM, r2 + HOST, r2 + COMPUTE]
    dag = SimpleNamespace(
        num_ops=10, resource=np.array(streams), pred_ptr=np.array([0, 0, 1, 1, 3, 4, 4, 6, 7, 7, 9]),
        pred=np.array([0, 1, 2, 3, 4, 5, 2, 7, 8]),
    )  # fmt: skip
    spans = SimpleNamespace(
        rank=np.arange(3), ends=np.array([[3, 1], [6, -1], [9, -1]]), inputs=np.array([[-1, -1], [3, -1], [7, -1]]),
        pairs_start_early=False,
    )  # fmt: skip
    graph = cast(StepGraph, SimpleNamespace(dag=dag, num_ranks=3, tail_first=10, spans=spans))
    start = np.array([0.0, 5, 5, 9, 11, 0, 14, 9, 0, 12])
    finish = np.array([5.0, 8, 9, 11, 13, 14, 15, 10, 12, 13])
    assert host_waits(graph, start, finish).tolist() == [0, 0, 0, 6, 0, 0, 1, 0, 0, 2]
    assert host_wait_s(graph, start, finish) == 3.0


@pytest.mark.parametrize("dispatcher", ["deepep", "alltoall"])
def test_a_graph_repriced_at_its_own_prices_is_itself_to_the_bit(dispatcher: str) -> None:
    base = _graph(
        step := prepare(_scenario("deepseek-v3", EXPERTS, f"moe.dispatcher={dispatcher}", "moe.host_sync=per_layer"))
    )
    assert isinstance(base.form, Form)
    again = repriced(order_of_actions(step.scenario), base.form.priced, base)
    assert again.dag is base.dag
    assert np.array_equal(again.class_seconds(), base.class_seconds())


def test_a_host_far_ahead_adds_few_operators() -> None:
    """But for those that wait for a router, of which every layer with experts has one a pass."""
    given = (*EXPERTS, "training.seq_len=4096", "host.launch_s=1e-6")
    free, waits = (
        _graph(prepare(_scenario("deepseek-v3", given, f"moe.host_sync={each}"))) for each in ("none", "per_layer")
    )
    assert 0 < _num_host(free) <= 4 * len(free.actions)
    assert _num_host(free) < _num_host(waits) <= 5 * len(waits.actions)


@pytest.mark.parametrize(("preset", "overrides"), [("llama-3.1-70b", PIPELINE), ("deepseek-v3", EXPERTS)])
def test_both_engines_run_the_host_alike(preset: str, overrides: tuple[str, ...]) -> None:
    scenario = _scenario(preset, overrides, "host.launch_s=3e-5", "draws=1")
    fast, slow = (simulate_step(scenario, engine=engine) for engine in ("sweep", "reference"))
    assert fast.step.step_s == slow.step.step_s


def test_the_result_says_what_the_host_holds_up() -> None:
    times = simulate_step(_scenario("llama-3.1-70b", ONE, "host.launch_s=5e-3")).step
    parts = {each.category: each.seconds for each in times.by_category}
    gains = {each.what: each.seconds for each in times.binding}
    assert sum(parts.values()) == pytest.approx(times.step_s, rel=1e-9)
    assert times.binding[0].what == "host" and gains["host"] == pytest.approx(parts["host"], rel=0.1)
    assert parts["exposed_communication"] < 0.1 * parts["host"]


def test_a_host_that_waits_for_routers_is_never_faster() -> None:
    given = (*EXPERTS, "parallel.schedule=1f1b", "host.launch_s=5e-5")
    free, waits = (
        simulate_times(_scenario("deepseek-v3", given, f"moe.host_sync={each}")) for each in ("none", "per_layer")
    )
    assert waits.step_s > 1.01 * free.step_s
    of_host = [{each.category: each.seconds for each in times.by_category}["host"] for times in (free, waits)]
    assert of_host[1] > of_host[0]


@pytest.mark.parametrize("ep", [1, 8])
@pytest.mark.parametrize(("recompute", "passes"), [("{granularity: none, modules: []}", 1), ("{granularity: full}", 2)])
def test_a_wait_for_a_router_takes_the_host_itself_time_too(ep: int, recompute: str, passes: int) -> None:
    """Once a layer with experts, micro-batch and forward, also one that is computed again; with and without messages."""
    given = (*EXPERTS, f"parallel.ep={ep}", f"recompute={recompute}", "parallel.schedule=1f1b", "host.launch_s=1e-4")
    step = prepare(_scenario("deepseek-v3", (*given, "parallel.overlap.ep=none")))
    form = _graph(step).form
    assert isinstance(form, Form) and form.priced.host is not None
    host = form.priced.host
    graphs = [
        expand(order_of_actions(step.scenario), replace(form.priced, host=replace(host, sync_s=each, prunes=False)))
        for each in (0.0, 1e-3)
    ]
    of_host = [sum(each.class_seconds()[each.dag.op_class[each.dag.resource % NUM_STREAMS == HOST]]) for each in graphs]
    routed = sum(unit.kind == "moe" for stage in step.workload.stages for unit in stage.units)
    assert of_host[1] - of_host[0] == pytest.approx(passes * routed * graphs[0].num_micro_batches * 1e-3)


def test_a_whole_iteration_that_is_captured_needs_no_host() -> None:
    given = (*PIPELINE, "host.launch_s=1e-3", "assumptions.host_other_s={value: 0, low: 0, high: 0}")
    captured = simulate_times(_scenario("llama-3.1-70b", given, "host.cuda_graph=full_iteration"))
    off = simulate_times(_scenario("llama-3.1-70b", given, "mechanisms.host_stream=false"))
    assert captured.step_s == pytest.approx(off.step_s + 2e-3, rel=1e-9)  # the norm is read, the optimizer issued


def test_the_timeline_shows_the_host_and_who_waits_for_it() -> None:
    timeline = step_timeline(_scenario("llama-3.1-70b", PIPELINE, "host.launch_s=5e-3"))
    spent, issued = (timeline.by_category(0, stream) for stream in (COMPUTE, HOST))
    assert sum(spent.values()) == pytest.approx(timeline.step_s, rel=1e-9)
    assert spent[HOST_WAIT] > 0.4 * issued["host"] > 0.1 * timeline.step_s
    plain = step_timeline(_scenario("llama-3.1-70b", PIPELINE, "host.launch_s=0"))
    assert HOST_WAIT not in plain.by_category(0) and not plain.by_category(0, HOST)
