"""From scenarios and saved results to what a report is made of.

A result that this very program wrote must come out again; of any other one everything is taken from the file, and a
sentence says why there is no timeline.
"""

from __future__ import annotations

import math
from typing import Final

from hwprofiles.problems import show
from hwprofiles.stack_choice import load_stack
from simulator.check import load_scenario
from simulator.errors import InconsistentSimulation, InputError
from simulator.report.formats import ReportItem
from simulator.results.run_result import RunResult
from simulator.run.phases import plan_phase
from simulator.run.trained import trained_by_phases
from simulator.run.training_run import simulate_run
from simulator.scenario.scenario import Scenario
from simulator.step.graph import order_of_actions
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from simulator.step.timeline import step_timeline, timeline_of
from simulator.version import names_one_state, package_version

SAME: Final = 1e-9
"""Relative difference of two step times of one program and one scenario, at most."""


def simulated_item(scenario: Scenario, *, with_timeline: bool = True) -> ReportItem:
    """The scenario's run, simulated now, and the timeline where it is wanted. Raises InputError."""
    result = simulate_run(scenario)
    return item_of(scenario, result, with_timeline=with_timeline)


def item_of(scenario: Scenario, result: RunResult, *, with_timeline: bool = True) -> ReportItem:
    """The result of a scenario that this process has, and the timeline where it is wanted."""
    if not with_timeline:
        return ReportItem(result, None)
    return ReportItem(result, step_timeline(_first(scenario), mean_step_s=result.step.step_s))


def saved_item(result: RunResult, *, with_timeline: bool = True) -> ReportItem:
    """A result from a file, with its step simulated again where this version wrote it.

    Raises InconsistentSimulation: the same version and stack give another step.
    """
    why = why_not_again(result)
    if why:
        return ReportItem(result, None, why)
    scenario = _first(load_scenario(result.scenario, reads_files=False))
    full = plan_phase(scenario, scenario.phases[0]).full
    step, stated = prepare(scenario), result.step.step_s
    again = simulate_prepared(step, full.global_batch_size, full.schedule, explained=False).step.step_s
    if not math.isclose(again, stated, rel_tol=SAME):
        raise InconsistentSimulation(
            f"the step of {_name(result)} takes {again!r} s when its scenario is simulated again, and the file says "
            f"{stated!r} s, with the same version and stack: the file was changed, or this machine computes otherwise; "
            "run the scenario again"
        )
    return ReportItem(result, timeline_of(step, order_of_actions(scenario), stated) if with_timeline else None)


def _first(scenario: Scenario) -> Scenario:
    """What the first phase trains: the step that a result tells of. Raises InputError."""
    return trained_by_phases(scenario)[0].scenario


def why_not_again(result: RunResult) -> str:
    """Why the step of a saved result cannot be simulated again as it was; "" where it can."""
    ours = package_version()
    words = "There is no timeline, and all figures are those of the result file"
    if result.version != ours:
        return f"{words}: moesim {result.version} wrote it, and this is moesim {ours}."
    if not names_one_state(ours):
        return f"{words}: moesim {ours} wrote it, a version that stands for code that may have changed since."
    try:
        stack = load_stack(load_scenario(result.scenario, reads_files=False).stack)
    except InputError as error:
        return f"{words}: its scenario does not load here ({error.problems[0]})."
    if stack.sha256 != result.stack_sha256:
        return f"{words}: its stack {result.stack} held other measurements than the one of this name here."
    return ""


def _name(result: RunResult) -> str:
    return show(result.scenario.get("name"))
