"""Law: a graph that loses or repeats an action, an operator, FLOP or routed rows is refused; so is a step that is too short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator import load_scenario
from simulator.assembly.conservation import check_graph, check_loads, check_times
from simulator.assembly.shapes import ROWS_PER_UNIT
from simulator.assembly.step_graph import StepGraph, of_operators
from simulator.engine import sweep
from simulator.errors import InconsistentSimulation
from simulator.step.draws import run_draws
from simulator.step.graph import build_graph
from simulator.step.prepared import PreparedStep, prepare
from simulator.workload.expert_load import draw_loads

SMALL = [
    "cluster.num_gpus=64", "parallel.pp=4", "parallel.ep=16", "training.global_batch_size=128", "draws=2",
    "phases=[{name: short, steps: 2}]",
]  # fmt: skip


@pytest.fixture(scope="module", params=["dualpipe", "1f1b"])
def prepared(request: pytest.FixtureRequest) -> PreparedStep:
    return prepare(load_scenario("deepseek-v3", [*SMALL, f"parallel.schedule={request.param}"]))


@pytest.fixture(scope="module")
def graph(prepared: PreparedStep) -> StepGraph:
    return build_graph(prepared)


def refused(prepared: PreparedStep, graph: StepGraph, message: str, **fields: Any) -> None:
    with pytest.raises(InconsistentSimulation, match=message):
        check_graph(replace(graph, **fields), prepared.workload)


def test_what_is_built_is_whole(prepared: PreparedStep, graph: StepGraph) -> None:
    check_graph(graph, prepared.workload)


def test_a_lost_or_repeated_action(prepared: PreparedStep, graph: StepGraph) -> None:
    refused(prepared, graph, "does 0 passes F of", actions=graph.actions[1:])
    refused(prepared, graph, "does 2 passes F of", actions=(graph.actions[0], *graph.actions))
    refused(prepared, graph, "does 0 passes", actions=graph.actions[:-1])


def test_a_lost_operator(prepared: PreparedStep, graph: StepGraph) -> None:
    shifted = graph.spans.first.copy()
    shifted[3] += 1
    refused(prepared, graph, "overlap or leave a gap", spans=replace(graph.spans, first=shifted))
    refused(prepared, graph, "overlap or leave a gap", tail_first=graph.tail_first + 1)


def test_lost_flop(prepared: PreparedStep, graph: StepGraph) -> None:
    most = max(range(len(graph.classes)), key=lambda i: graph.classes[i].flop)
    classes = list(graph.classes)
    classes[most] = replace(classes[most], flop=classes[most].flop * (1 - 1e-6))
    refused(prepared, graph, "FLOP, but", classes=tuple(classes))


def test_lost_rows(prepared: PreparedStep) -> None:
    load = prepared.random.load
    assert load is not None
    loads = draw_loads(load, units=3, micro_batches=4, seed=0, draw=0).reshape(-1, load.ranks)
    check_loads(loads)
    loads[ROWS_PER_UNIT, 0] += 1e-3
    with pytest.raises(InconsistentSimulation, match="off by a share of"):
        check_loads(loads)


def test_a_step_that_is_too_short(prepared: PreparedStep, graph: StepGraph) -> None:
    outcome = run_draws(prepared.random, graph, "sweep")
    typical_s = sweep(graph.dag, graph.class_seconds(), outcome.multipliers[:, None]).makespan_s
    check_times(graph, outcome.multipliers, typical_s, outcome.step_s)
    with pytest.raises(InconsistentSimulation, match="the step of mean durations"):
        check_times(graph, outcome.multipliers, typical_s, outcome.step_s * (0.999 * typical_s / outcome.step_s.mean()))
    seconds = graph.class_seconds()[graph.dag.op_class] * of_operators(graph, outcome.multipliers)
    busiest = np.bincount(graph.dag.resource, seconds).max()
    with pytest.raises(InconsistentSimulation, match="its busiest stream"):
        check_times(graph, outcome.multipliers, 0.999 * busiest, outcome.step_s)
