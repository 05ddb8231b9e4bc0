"""What a step's interval is made of, and sums by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator import load_scenario, simulate_run, simulate_step
from simulator.assembly.chunks import COMPUTE, NUM_STREAMS, Segment
from simulator.results import explain
from simulator.results.interval import Estimate
from simulator.scenario.assumptions import read_assumptions
from simulator.schedule import build_schedule
from tests.assembly.test_step_graph import graph_of
from tests.laws.test_assumptions import SMALL

SEGMENTS = (
    Segment(10.0, 10.0, 10.0, {"gemm": 10.0}),
    Segment(4.0, 4.0, 4.0, {"gemm": 1.0, "all_to_all": 3.0}),
    Segment(2.0, 2.0, 2.0, {"optimizer": 2.0}),
)
COUNTS = np.array([3.0, 5.0, 1.0])


GRAPH = replace(graph_of(build_schedule("1f1b", 1, 1)), classes=SEGMENTS)
"""Its operators are not looked at: here they run one after the other, so that a step is a sum."""


def makespan(seconds: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(COUNTS @ seconds)


def test_a_free_category_leaves_the_others_of_its_classes() -> None:
    assert explain.class_seconds_without(GRAPH, "gemm") == pytest.approx([0.0, 3.0, 2.0])


def test_exact_assumptions_leave_the_other_ranges() -> None:
    """Those of the stack stay as they are: their ranges are in the prices too. A run's hours have its step's relative ends."""
    result = simulate_run(load_scenario(SMALL))
    hours = result.totals.gpu_hours
    exact = {row.key: row.value for row in result.assumptions if row.key in read_assumptions()}
    narrow = simulate_run(load_scenario({**SMALL, "assumptions": exact})).step
    step_s, step = result.step.step_s, result.step.interval
    assert narrow.step_s == step_s
    assert narrow.interval.width < 0.99 * step.width
    assert {part.what for part in narrow.ranges or ()} == {
        part.what for part in result.step.ranges or ()
    } - exact.keys()
    assert (hours.low / hours.value, hours.high / hours.value) == pytest.approx((step.low / step_s, step.high / step_s))
    assert simulate_step(load_scenario(SMALL)).step.interval == step


def test_ends_of_a_sum_and_of_a_multiple() -> None:
    one, other = Estimate(value=2.0, low=1.0, high=4.0), Estimate(value=3.0, low=2.5, high=5.0)
    assert (one + other) == Estimate(value=5.0, low=3.5, high=9.0)
    assert one.times(3.0) == Estimate(value=6.0, low=3.0, high=12.0)


def test_what_computes_ends_with_the_actions() -> None:
    """The optimizer is no compute of the actions, but its seconds have a basis like all others."""
    graph = graph_of(build_schedule("1f1b", 4, 6))
    work = explain.busy(graph, np.ones(graph.dag.num_draw_rows))
    seconds = graph.class_seconds()[graph.dag.op_class]
    on_compute = graph.dag.resource % NUM_STREAMS == COMPUTE
    before = np.arange(graph.dag.num_ops) < graph.tail_first
    assert work.compute_s == pytest.approx(seconds[on_compute & before].sum() / graph.num_ranks)
    assert sum(work.by_basis.values()) == pytest.approx(seconds.sum() / graph.num_ranks)
