"""Results at the ends of what a document may hold: every format tells them and none fails."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.report.formats import FORMATS, ReportItem
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import RunResult
from tests.report.test_console import RESULT, changed

STEP, MEMORY, TOTALS = RESULT.step, RESULT.memory, RESULT.totals


def of_step(**changes: Any) -> RunResult:
    return changed(step=STEP.model_copy(update=changes))


def scaled(factor: float) -> RunResult:
    """All hours, seconds and money so many times as large."""
    totals = {
        name: each.times(factor)
        for name in ("gpu_hours", "wall_s", "cost_usd")
        if (each := getattr(TOTALS, name)) is not None
    }
    phases = tuple(
        phase.model_copy(update={"gpu_hours": phase.gpu_hours * factor, "wall_s": phase.wall_s * factor})
        for phase in RESULT.phases
    )
    return changed(totals=TOTALS.model_copy(update=totals), phases=phases)


def without_tensors() -> RunResult:
    """As a document of an older version is."""
    stages = tuple(stage.model_copy(update={"tensors": None}) for stage in MEMORY.by_stage)
    return changed(memory=MEMORY.model_copy(update={"by_stage": stages}))


ODD = {
    "nothing told": of_step(by_category=(), binding=(), collectives=(), imbalance=None, exposed_comm_s=None),
    "one rank": of_step(by_rank=STEP.by_rank[:1]),
    "no interval": of_step(interval=Interval.exact(STEP.step_s)),
    "an interval from nothing": of_step(interval=Interval(low=0.0, high=STEP.step_s * 50)),
    "no assumptions": changed(assumptions=(), not_modelled=(), warnings=(), dropped=()),
    "no price": changed(price=None, totals=TOTALS.model_copy(update={"cost_usd": None})),
    "nothing costs": changed(totals=TOTALS.model_copy(update={"cost_usd": Estimate.exact(0.0)})),
    "no hours": scaled(0.0),
    "huge": scaled(1e250),
    "tiny": scaled(1e-250),
    "one stage": changed(memory=MEMORY.model_copy(update={"by_stage": MEMORY.by_stage[:1]})),
    "no tensors": without_tensors(),
    "an empty scenario": changed(scenario={}),
    "sections of other kinds": changed(
        scenario={
            "name": 7,
            "cluster": [1],
            "parallel": "x",
            "training": None,
            "model": 3,
            "phases": {"a": 1},
            "prices": [],
        }
    ),
    "numbers that are none": changed(
        scenario={
            "name": "",
            "cluster": {"num_gpus": "many", "node": {}},
            "parallel": {"pp": -1, "tp": True},
            "training": {},
        }
    ),
}


@pytest.mark.parametrize("name", ["json", "md", pytest.param("html", marks=pytest.mark.slow)])
@pytest.mark.parametrize("odd", ODD)
def test_a_report_tells_what_there_is(odd: str, name: str) -> None:
    content = FORMATS[name].render([ReportItem(ODD[odd], None, "why")])
    text = content.decode().partition("<script>")[0]
    assert len(text) > 100
    assert "nan" not in text.lower().split()


@pytest.mark.parametrize("name", ["md", pytest.param("html", marks=pytest.mark.slow)])
def test_odd_results_stand_beside_each_other(name: str) -> None:
    items = [ReportItem(RESULT), *(ReportItem(result) for result in list(ODD.values())[:4])]
    assert FORMATS[name].render(items)
