"""Engines are equal only where every start, every finish and the batch's makespans are."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from simulator.engine import are_draws_equal, bench, critical_path, sweep
from tests.engine.graphs import make_dag

DAG = make_dag([(0, 0, [], 0, False), (1, 1, [], -1, False)], num_classes=2, num_draw_rows=1)
SECONDS = np.array([1.0, 2.0])
DRAWS = np.array([[[1.0]], [[1.5]]])
MODULE = sys.modules["simulator.engine.bench"]


def test_the_same_is_equal() -> None:
    assert are_draws_equal(DAG, SECONDS, DRAWS)
    found = bench(DAG, SECONDS, DRAWS[0])
    assert found["equal"]
    assert found["ratio_sweep_over_simpy"] == found["reference_s"] / found["sweep_s"], (
        "above 1 where the sweep is faster"
    )


@pytest.mark.parametrize("times", ["start_s", "finish_s"])
def test_one_bit_of_a_start_or_a_finish_is_a_difference(times: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*arguments: object) -> object:
        timeline = sweep(*arguments)  # type: ignore[arg-type]
        return replace(timeline, **{times: np.nextafter(getattr(timeline, times), 9.0)})

    monkeypatch.setattr(MODULE, "sweep", shifted)
    assert not are_draws_equal(DAG, SECONDS, DRAWS)
    assert not bench(DAG, SECONDS, DRAWS[0])["equal"]


def test_one_bit_of_a_makespan_of_the_batch_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    swept = MODULE.sweep_batch
    monkeypatch.setattr(
        MODULE, "sweep_batch",
        lambda *arguments: replace(swept(*arguments), makespan_s=np.array([2.0, np.nextafter(2.0, 9.0)])),
    )  # fmt: skip
    assert not are_draws_equal(DAG, SECONDS, DRAWS)


def test_a_critical_path_ends_with_the_latest_finish_not_with_the_latest_start() -> None:
    """Behind one second come a second more, and beside both one of five seconds from the start."""
    dag = make_dag([(0, 0, [], -1, False), (0, 0, [], -1, False), (1, 1, [], -1, False)], num_classes=2)
    assert critical_path(dag, sweep(dag, np.array([1.0, 5.0]))).tolist() == [2]
