"""From scenarios and saved results to what a report is made of.

A result that this very program wrote must come out again; of any other one everything is taken from the file, and a
sentence says why there is no timeline.
"""

from __future__ import annotations

import math
from typing import Final

from hwprofiles.stack_choice import load_stack
from simulator.check import load_scenario
from simulator.errors import InconsistentSimulation, InputError
from simulator.report.formats import ReportItem
from simulator.results.run_result import RunResult
from simulator.run.phases import plan_phase
from simulator.run.training_run import simulate_run
from simulator.scenario.scenario import Scenario
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from simulator.version import package_version

SAME: Final = 1e-9
"""Relative difference of two step times of one program and one scenario, at most."""
UNSURE: Final = (".dirty", "unknown")
"""Ends of versions that stand for more than one program."""


def simulated_item(scenario: Scenario) -> ReportItem:
    """The scenario's run, simulated now. Raises InputError."""
    return ReportItem(simulate_run(scenario))


def saved_item(result: RunResult) -> ReportItem:
    """A result from a file, with its step simulated again where this version wrote it.

    Raises InconsistentSimulation: the same version and stack give another step, or the document is not of its scenario.
    """
    why = why_not_again(result)
    if why:
        return ReportItem(result, None, why)
    scenario = _scenario_of(result)
    full = plan_phase(scenario, scenario.phases[0]).full
    again = simulate_prepared(prepare(scenario), full.global_batch_size, full.schedule, explained=False).step.step_s
    if not math.isclose(again, result.step.step_s, rel_tol=SAME):
        raise InconsistentSimulation(
            f"the step of {result.scenario.get('name')!r} takes {again!r} s when its scenario is simulated again, and the "
            f"file says {result.step.step_s!r} s, with the same version and stack: the file was changed, or the machine "
            "computes otherwise; run the scenario again"
        )
    return ReportItem(result)


def why_not_again(result: RunResult) -> str:
    """Why the step of a saved result cannot be simulated again as it was; "" where it can."""
    ours = package_version()
    unsure = next((version for version in (result.version, ours) if version.endswith(UNSURE)), None)
    words = "No timeline: all figures come from the result file"
    if result.version != ours:
        return f"{words}, which moesim {result.version} wrote; this is moesim {ours}."
    if unsure is not None:
        return f"{words}, which moesim {unsure} wrote: a version of unknown code, that cannot be simulated again for certain."
    try:
        stack_sha256 = load_stack(load_scenario(result.scenario).stack).sha256
    except InputError as error:
        return f"{words}: its scenario does not load any more ({error.problems[0]})."
    if stack_sha256 != result.stack_sha256:
        return f"{words}, whose stack {result.stack} has other measurements than the one here of the same name."
    return ""


def _scenario_of(result: RunResult) -> Scenario:
    scenario = load_scenario(result.scenario)
    if scenario.scenario_sha256 != result.scenario_sha256:
        raise InconsistentSimulation(
            f"the result of {result.scenario.get('name')!r} has another hash than its scenario: the file was changed; "
            "run the scenario again"
        )
    return scenario
