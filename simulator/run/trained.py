"""What each phase of a run trains: its own sections over the scenario's, in the layout that it states or that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from simulator.check import check_scenario
from simulator.errors import InputError, Problem
from simulator.results.plan_result import LayoutPlan
from simulator.scenario.phase_scenarios import is_to_plan, own_scenarios
from simulator.scenario.scenario import Scenario

PRETRAIN = "pretrain"
"""Kind of a phase that trains on all tokens of its sequences."""

Report = Callable[[str, int, int], None]
"""Told of a phase whose layout is searched for: its name, layouts that are simulated, of how many."""


@dataclass(frozen=True)
class Trained:
    """What a phase trains, and how its layout was found; plan: None where it was stated."""

    scenario: Scenario
    plan: LayoutPlan | None = None


def trained_by_phases(scenario: Scenario, report: Report | None = None) -> tuple[Trained, ...]:
    """What each phase trains; equal ones are one object. Raises InputError where no layout fits, with the phase's key."""
    found: dict[int, Trained] = {}
    for own, phase in zip(own_scenarios(scenario), scenario.phases, strict=True):
        if phase.kind != PRETRAIN:
            key = f"phases.{phase.name}.kind"
            raise InputError(
                [Problem(scenario.where(key), key, f"not modelled yet ({phase.kind}); use kind: pretrain")]
            )
        if id(own) not in found:
            found[id(own)] = _trained(own, phase.name if phase.changes else "", report)
    return tuple(found[id(own)] for own in own_scenarios(scenario))


def _trained(scenario: Scenario, phase: str, report: Report | None) -> Trained:
    if not is_to_plan(scenario):
        check_scenario(scenario)
        return Trained(scenario)
    # Here and not above: a run whose layouts are all stated needs no planner.
    from simulator.run.planner import plan_layout

    told = None if report is None else lambda done, of: report(phase or "parallel: auto", done, of)
    try:
        planned, plan = plan_layout(scenario, report=told)
    except InputError as error:
        where, key = scenario.where("parallel"), f"phases.{phase}.parallel" if phase else "parallel"
        raise InputError([replace(each, where=each.where or where, field=key) for each in error.problems]) from None
    check_scenario(planned)
    return Trained(planned, plan)
