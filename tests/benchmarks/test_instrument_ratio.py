"""Law: what predicting a measured run costs beside its step alone; ratios taken in one run, by hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from simulator.step.graph import build_graph, order_of_actions
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared, simulate_times
from validation.published.eligible import CASES
from validation.published.row import read_rows
from validation.published.state import state

pytestmark = pytest.mark.benchmark_ratio

NAMES = ("FOUNDRY-119", "MPF-024", "MEGASCALE-001", "SIMUMAX-018")
"""FSDP, experts, a deep pipeline, a model cut in depth."""


def median_s(run: Callable[[], object]) -> float:
    run()
    times_s = []
    for _ in range(5):
        began = time.process_time()
        run()
        times_s.append(time.process_time() - began)
    return statistics.median(times_s)


@pytest.mark.parametrize("name", NAMES)
def test_an_interval_costs_few_steps(name: str) -> None:
    """Eight ends of assumptions and more take less than six steps, as prices and graphs are shared."""
    scenario = state(next(row for row in read_rows(CASES) if row.text("case_id") == name)).scenario
    assert scenario is not None
    step_s = median_s(lambda: simulate_prepared(prepare(scenario), explained=False))
    times_s = median_s(lambda: simulate_times(scenario))
    print(f"{name}: step {step_s * 1e3:.0f} ms, with its interval {times_s * 1e3:.0f} ms")
    assert times_s < 6 * step_s


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_at_other_prices_costs_less_than_a_new_one(name: str) -> None:
    scenario = state(next(row for row in read_rows(CASES) if row.text("case_id") == name)).scenario
    assert scenario is not None
    step, order = prepare(scenario), order_of_actions(scenario)
    base = build_graph(step, order)
    new_s, like_s = median_s(lambda: build_graph(step, order)), median_s(lambda: build_graph(step, order, base))
    print(f"{name}: graph {new_s * 1e3:.1f} ms, at other prices {like_s * 1e3:.1f} ms")
    assert like_s < 0.9 * new_s
