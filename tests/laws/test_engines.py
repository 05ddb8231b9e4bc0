"""Law: the compiled sweep and the simpy reference give the same step bit for bit, on the graphs of drawn scenarios."""

from __future__ import annotations

from hypothesis import given, settings

from simulator.engine import certify, simulate_reference, sweep
from simulator.scenario import load_scenario
from simulator.step.draws import draw_rows, run_draws
from simulator.step.graph import build_graph
from simulator.step.inputs import step_inputs
from tests.laws.scenarios import LAW, Document, scenarios


@settings(LAW, max_examples=60)
@given(scenarios(max_ep=4))
def test_the_engines_agree_on_every_operator(document: Document) -> None:
    """One lane without random loads, and the lanes of an expert group with them."""
    inputs = step_inputs(load_scenario(document))
    graph = build_graph(inputs)
    seconds = graph.class_seconds()
    for draws in (None, draw_rows(inputs, graph, 0, inputs.load_model)):
        swept, reference = sweep(graph.dag, seconds, draws), simulate_reference(graph.dag, seconds, draws)
        assert swept.start_s.tobytes() == reference.start_s.tobytes()
        assert swept.finish_s.tobytes() == reference.finish_s.tobytes()
        certify(graph.dag, seconds, draws, swept)


@settings(LAW, max_examples=20)
@given(scenarios(max_ep=4))
def test_the_engines_agree_on_the_parts(document: Document) -> None:
    inputs = step_inputs(load_scenario(document))
    graph = build_graph(inputs)
    fast, slow = run_draws(inputs, graph, "sweep"), run_draws(inputs, graph, "reference")
    assert fast.step_s.tolist() == slow.step_s.tolist()
    assert fast.parts.by_kind.tolist() == slow.parts.by_kind.tolist()
    assert fast.parts.bubble_s.tolist() == slow.parts.bubble_s.tolist()
