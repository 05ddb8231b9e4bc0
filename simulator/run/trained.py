"""What each phase of a run trains: its own sections over the scenario's, in the layout that it states or that is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from simulator.check import check_scenario
from simulator.errors import InputError
from simulator.results.plan_result import LayoutPlan
from simulator.run import kinds
from simulator.scenario.phase_scenarios import is_to_plan, own_scenarios
from simulator.scenario.scenario import Scenario

Report = Callable[[str, float], None]
"""Told of a phase whose layout is searched for: its name, and which share of the search is done."""


@dataclass(frozen=True)
class Trained:
    """What a phase trains, and how its layout was found; plan: None where it was stated."""

    scenario: Scenario
    plan: LayoutPlan | None = None


def trained_by_phases(scenario: Scenario, report: Report | None = None) -> tuple[Trained, ...]:
    """What each phase trains; equal ones are one object. Raises InputError where no layout fits, with the phase's key."""
    found: dict[tuple[int, str], Trained] = {}
    pairs = list(zip(own_scenarios(scenario), scenario.phases, strict=True))
    keys = [(id(own), phase.name if kinds.packs(phase) else "") for own, phase in pairs]
    for key, (own, phase) in zip(keys, pairs, strict=True):
        if key not in found:
            name = phase.name if phase.changes else ""
            found[key] = _trained(kinds.trained_scenario(own, phase), name, report)
    return tuple(found[key] for key in keys)


def _trained(scenario: Scenario, phase: str, report: Report | None) -> Trained:
    if not is_to_plan(scenario):
        check_scenario(scenario)
        return Trained(scenario)
    # Here and not above: a run whose layouts are all stated needs no planner.
    from simulator.run.planner import plan_layout

    name = phase or scenario.phases[0].name
    if report is not None:
        report(name, 0.0)
    told = None if report is None else lambda done, of: report(name, done / of)
    try:
        planned, plan = plan_layout(scenario, report=told)
    except InputError as error:
        where, key = scenario.where("parallel"), f"phases.{phase}.parallel" if phase else "parallel"
        raise InputError([replace(each, where=each.where or where, field=key) for each in error.problems]) from None
    check_scenario(planned)
    return Trained(planned, plan)
