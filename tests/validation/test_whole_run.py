"""A whole training beside what was published of it, line by line."""

from __future__ import annotations

import math
from functools import cache

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.plan_result import LayoutPlan, PlannedLayout
from simulator.results.run_result import RunResult
from simulator.scenario.phase_scenarios import is_to_plan, own_scenarios, phase_scenario
from tests.scenario.test_phases import CONTEXT, small
from validation.whole_run import WholeRun, compared, document, layouts, load_whole_run, table, whole_run_names

LINES = {
    "case_id": "small",
    "scenario": "small",
    "source": "nowhere",
    "lines": (
        {"name": "first", "phases": ("pretrain",), "gpu_hours": 10.0, "usd": 20.0},
        {"name": "rest", "phases": ("context", "more"), "gpu_hours": 5.0, "usd": 10.0},
    ),
    "total": {"gpu_hours": 15.0, "usd": 30.0},
}
RUN = WholeRun.model_validate(LINES)


@cache
def result() -> RunResult:
    phases = (CONTEXT, {"name": "more", "steps": 5})
    scenario = load_scenario({**small(*phases), "draws": 1, "prices": {"usd_per_gpu_hour": 2}})
    return simulate_run(scenario)


def layout(step_s: float) -> PlannedLayout:
    return PlannedLayout(
        layout=f"of {step_s} s", keys={}, fits=True, margin_bytes=0, step_s=step_s, closed_form_s=step_s
    )


def planned() -> RunResult:
    """The same, as if the second phase's layout had been found: the second of three by its step."""
    found = result()
    first, context, more = found.phases
    steps = [context.step_s * factor for factor in (0.9, 1.0, 2.0)]
    plan = LayoutPlan(
        num_candidates=9, num_legal=8, num_feasible=7, num_simulated=3, rejected={}, rule="the second",
        chosen=layout(steps[1]), simulated=tuple(map(layout, steps)),
    )  # fmt: skip
    return found.model_copy(update={"phases": (first, context.model_copy(update={"plan": plan}), more)})


def test_lines_are_sums_of_their_phases_and_the_total_is_of_all() -> None:
    first, rest, total = compared(RUN, result())
    phases = result().phases
    assert first.predicted.value == phases[0].gpu_hours
    assert rest.predicted.value == pytest.approx(phases[1].gpu_hours + phases[2].gpu_hours)
    assert rest.predicted.low < rest.predicted.value < rest.predicted.high
    assert rest.usd == pytest.approx(2 * rest.predicted.value)
    assert total.predicted == result().totals.gpu_hours
    assert first.error_frac == pytest.approx(phases[0].gpu_hours / 10 - 1)


def test_layouts_that_were_found_are_told_with_the_best_and_the_median() -> None:
    assert layouts(result()) == ()
    (found,) = layouts(planned())
    hours = planned().phases[1].gpu_hours
    assert (found.phase, found.num_simulated) == ("context", 3)
    assert (found.best_hours, found.chosen_hours, found.median_hours) == pytest.approx((0.9 * hours, hours, hours))
    told = table(RUN, planned())
    assert "context: best layout" in told.note and [row[0] for row in told.rows] == ["first", "rest", "total"]
    assert document(RUN, planned())["layouts"][0]["chosen_hours"] == hours


def test_the_published_lines_of_deepseek_v3_sum_to_its_total_and_name_phases_of_its_scenario() -> None:
    assert whole_run_names() == ("deepseek-v3",)
    run = load_whole_run("deepseek-v3")
    assert math.fsum(line.gpu_hours for line in run.lines) == run.total.gpu_hours == 2788e3
    assert math.fsum(line.usd for line in run.lines) == run.total.usd == 5.576e6
    scenario = load_scenario(run.scenario)
    named = [name for line in run.lines for name in line.phases]
    assert named == [phase.name for phase in scenario.phases]
    assert [is_to_plan(each) for each in own_scenarios(scenario)] == [False, True, True, False, False]
    lengths = [phase_scenario(scenario, idx).training.seq_len for idx in range(3)]
    assert lengths == [4096, 32768, 131072]
    assert phase_scenario(scenario, 0).canonical() | {"name": ""} == load_scenario("deepseek-v3").canonical() | {
        "name": ""
    }
    assert scenario.warnings == ()
