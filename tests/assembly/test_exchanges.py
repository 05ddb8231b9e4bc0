"""Laws of a host that waits for its GPU at pipeline exchanges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator import load_scenario
from simulator.assembly.expand import Form, expand
from simulator.assembly.repriced import repriced
from simulator.engine import sweep
from simulator.scenario.scenario import Scenario
from simulator.schedule.order import executable_order
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.prepared import prepare
from simulator.step.step import simulate_step, simulate_times
from tests.assembly.test_host import EXPERTS, ONE, PIPELINE

TWO = (
    *PIPELINE, "cluster.num_gpus=2", "training.global_batch_size=2", "host.launch_s=0.05", "draws=1",
)  # fmt: skip
INTERLEAVED = (
    *PIPELINE, "model.num_layers=8", "model.num_dense_layers=8", "parallel.schedule=interleaved_1f1b", "parallel.vpp=2",
)  # fmt: skip
PAIRS = (
    *EXPERTS, "cluster.num_gpus=16", "parallel.pp=2", "model.num_layers=4", "training.global_batch_size=32", "draws=1",
)  # fmt: skip


def _scenario(overrides: tuple[str, ...], *more: str, preset: str = "llama-3.1-70b") -> Scenario:
    return load_scenario(preset, overrides=[*overrides, *more])


def _actions_s(sync: str) -> tuple[float, list[tuple[int, int]]]:
    """Seconds of the actions of two stages and two micro-batches, in launches; kernels of each stage's forward and backward."""
    scenario = _scenario(TWO, f"host.pipeline_sync={sync}")
    step = prepare(scenario)
    graph = build_graph(step, order_of_actions(scenario))
    end_s = sweep(graph.dag, graph.class_seconds()).finish_s[: graph.tail_first, 0].max()
    ops = [[op for unit in stage.units for op in unit.ops()] for stage in step.workload.stages]
    forward = [sum(op.shape.num_kernels for op in of if op.phase == "F") for of in ops]
    backward = [sum(op.shape.num_kernels for op in of if op.phase != "F") for of in ops]
    return float(end_s) / 0.05, list(zip(forward, backward, strict=True))


def test_a_host_that_waits_issues_each_action_behind_what_it_receives() -> None:
    waiting, ((f0, b0), (f1, b1)) = _actions_s("always")
    both = 1 + f1 + b1 + 1  # it waits, issues forward and backward, and sends
    assert waiting == pytest.approx((f0 + 1) + 2 * both + (1 + b0), rel=5e-3)
    ahead, _ = _actions_s("none")
    assert ahead == pytest.approx(2 * (f1 + b1 + 1), rel=5e-3)  # the first stage's host is ahead all the time


def test_an_exchange_stands_where_something_is_sent_or_received() -> None:
    scenario = _scenario(PIPELINE, "training.global_batch_size=32")
    ordered = executable_order(order_of_actions(scenario))
    told: dict[int, list[bool]] = {0: [], 1: []}
    for rank, group in zip(ordered.ranks.tolist(), ordered.group_of.tolist(), strict=True):
        told[rank].append(ordered.groups[group].exchanges)
    assert [action.kind for action, rank in zip(ordered.actions, ordered.ranks, strict=True) if rank == 0] == list(
        "FFBFBFBB"
    )
    assert told[0] == [False, True, True, False, True, False, True, True]  # F behind B: nothing comes and nothing went
    assert told[1] == [True, False] * 4  # the last stage goes on with its own output


@pytest.mark.parametrize(
    ("preset", "overrides", "launch_s"),
    [
        ("llama-3.1-70b", PIPELINE, 3e-6),
        ("llama-3.1-70b", PIPELINE, 2e-3),
        ("llama-3.1-70b", INTERLEAVED, 5e-5),
        ("llama-3.1-70b", (*PIPELINE, "parallel.overlap.pp=false"), 5e-5),
        ("deepseek-v3", PAIRS, 2e-5),
    ],
)
def test_a_host_that_waits_is_never_faster(preset: str, overrides: tuple[str, ...], launch_s: float) -> None:
    none, always = (
        simulate_times(_scenario(overrides, f"host.launch_s={launch_s}", f"host.pipeline_sync={each}", preset=preset))
        for each in ("none", "always")
    )
    assert always.step_s > none.step_s
    parts = [each.seconds for each in always.by_category]
    assert sum(parts) == pytest.approx(always.step_s, rel=1e-9) and min(parts) >= 0


@pytest.mark.parametrize(
    ("overrides", "sync"),
    [
        (INTERLEAVED, "1f1b"),
        (ONE, "always"),
        ((*PIPELINE, "host.cuda_graph=full_iteration"), "always"),
        ((*PIPELINE, "mechanisms.host_stream=false"), "always"),
    ],
)
def test_no_exchange_at_which_it_waits_changes_nothing(overrides: tuple[str, ...], sync: str) -> None:
    plain, given = (
        simulate_times(_scenario(overrides, f"host.pipeline_sync={each}", "host.launch_s=1e-4"))
        for each in ("none", sync)
    )  # fmt: skip
    assert given == plain


def test_plain_1f1b_means_that_schedule() -> None:
    given = (*PIPELINE, "host.launch_s=1e-3")
    always, plain = (simulate_times(_scenario(given, f"host.pipeline_sync={each}")) for each in ("always", "1f1b"))
    assert always == plain


def test_both_engines_wait_alike() -> None:
    scenario = _scenario(PIPELINE, "host.launch_s=3e-5", "draws=1", "host.pipeline_sync=always")
    fast, slow = (simulate_step(scenario, engine=engine) for engine in ("sweep", "reference"))
    assert fast.step.step_s == slow.step.step_s


@pytest.mark.parametrize(
    ("preset", "overrides", "launch_s"),
    [("llama-3.1-70b", PIPELINE, 3e-6), ("llama-3.1-70b", PIPELINE, 6e-5), ("deepseek-v3", PAIRS, 2e-5)],
)
def test_what_is_left_out_holds_nothing_up(preset: str, overrides: tuple[str, ...], launch_s: float) -> None:
    given = (f"host.launch_s={launch_s}", "host.pipeline_sync=always")
    step = prepare(_scenario(overrides, *given, preset=preset))
    order = order_of_actions(step.scenario)
    pruned = build_graph(step, order)
    assert isinstance(pruned.form, Form) and pruned.form.priced.host is not None
    whole = expand(order, replace(pruned.form.priced, host=replace(pruned.form.priced.host, prunes=False)))
    assert whole.dag.num_ops > pruned.dag.num_ops
    ends = [sweep(each.dag, each.class_seconds()).finish_s.max() for each in (pruned, whole)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


@pytest.mark.parametrize(("before", "after"), [("always", "always"), ("none", "always"), ("always", "none")])
def test_a_graph_at_other_prices_is_a_new_one(before: str, after: str) -> None:
    graphs = []
    for sync, launch_s in ((before, 2e-4), (after, 2.05e-4)):
        step = prepare(_scenario(PIPELINE, f"host.launch_s={launch_s}", f"host.pipeline_sync={sync}"))
        order = order_of_actions(step.scenario)
        graphs.append(build_graph(step, order))
    like, anew = graphs
    assert isinstance(anew.form, Form)
    found = repriced(order, anew.form.priced, like)
    ends = [sweep(each.dag, each.class_seconds()).finish_s.max() for each in (found, anew)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)
    assert (found.dag is like.dag) == (before == after)
