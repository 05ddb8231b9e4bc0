"""Law: input and weight gradients apart gather and reduce what a full backward does, each what it needs."""

from __future__ import annotations

from collections import Counter

import pytest

from simulator import load_scenario
from simulator.assembly.step_graph import StepGraph
from simulator.step.graph import build_graph
from simulator.step.prepared import prepare

DENSE = (
    "cluster.num_gpus=16", "parallel.pp=4", "model.num_layers=8", "model.num_dense_layers=8", "training.seq_len=1024",
    "training.global_batch_size=32",
)  # fmt: skip


def graph_of(schedule: str, zero: int) -> StepGraph:
    options = (*DENSE, f"parallel.schedule={schedule}", f"parallel.zero_stage={zero}")
    return build_graph(prepare(load_scenario("llama-3.1-70b", options)))


def collectives(graph: StepGraph) -> Counter[str]:
    return Counter(
        graph.labels[row]
        for row in graph.dag.op_class.tolist()
        if "all_gather" in graph.labels[row] or "reduce_" in graph.labels[row]
    )


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_as_many_of_each_as_with_full_backwards(zero: int) -> None:
    apart, whole = (collectives(graph_of(name, zero)) for name in ("zb_h1", "1f1b"))
    assert apart == whole
    assert sum(whole.values()) > 8


def test_an_input_gradient_gathers_and_a_weight_gradient_reduces() -> None:
    graph = graph_of("zb_h1", 3)
    by_kind = {kind: Counter[str]() for kind in "FIW"}
    for action, first, last in zip(graph.actions, graph.spans.first.tolist(), graph.spans.last.tolist(), strict=True):
        names = [graph.labels[row].rpartition(".")[2] for row in graph.dag.op_class[first:last].tolist()]
        by_kind[action.kind].update(name for name in names if name.startswith(("all_gather", "reduce_scatter")))
    assert set(by_kind["F"]) == set(by_kind["I"]) == {"all_gather_dense"}
    assert set(by_kind["W"]) == {"reduce_scatter_dense"}
