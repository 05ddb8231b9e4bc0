"""Law: the compiled sweep and the simpy reference give the same step bit for bit, on the graphs of drawn scenarios."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from simulator import load_scenario
from simulator.engine import certify, simulate_reference, sweep
from simulator.step.draws import draw_rows, run_draws
from simulator.step.graph import build_graph
from simulator.step.prepared import prepare
from tests.laws.scenarios import LAW, Document, scenarios


@settings(LAW, max_examples=15)
@given(scenarios(max_ep=4))
def test_the_engines_agree_on_every_operator(document: Document) -> None:
    """One lane without random loads, and the lanes of an expert group with them."""
    prepared = prepare(load_scenario(document))
    graph = build_graph(prepared)
    seconds = graph.class_seconds()
    for draws in (None, draw_rows(prepared.random, graph, 0)):
        swept, reference = sweep(graph.dag, seconds, draws), simulate_reference(graph.dag, seconds, draws)
        assert swept.start_s.tobytes() == reference.start_s.tobytes()
        assert swept.finish_s.tobytes() == reference.finish_s.tobytes()
        certify(graph.dag, seconds, draws, swept)


@pytest.mark.slow
@settings(LAW, max_examples=20)
@given(scenarios(max_ep=4))
def test_the_engines_agree_on_the_parts(document: Document) -> None:
    prepared = prepare(load_scenario(document))
    graph = build_graph(prepared)
    fast, slow = run_draws(prepared.random, graph, "sweep"), run_draws(prepared.random, graph, "reference")
    assert fast.step_s.tolist() == slow.step_s.tolist()
    assert fast.parts.by_kind.tolist() == slow.parts.by_kind.tolist()
    assert fast.parts.bubble_s.tolist() == slow.parts.bubble_s.tolist()
