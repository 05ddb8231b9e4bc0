"""Prices and stacks that are older than they say they are good for, at the run's start or the catalogue's newest date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from hwprofiles import age, catalog
from hwprofiles.age import Age
from hwprofiles.stack_choice import stack_provenance
from hwprofiles.stack_folders import plain_name
from simulator.scenario.hardware import newest_sheet, node_of
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem


def age_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """A sheet and a stack that are outdated when the run starts. No clock is read: the same scenario says the same."""
    sheet = scenario.prices.sheet if scenario.prices else None
    if sheet is not None:
        found = age.price_age(catalog.load_prices(sheet), _start(scenario))
        if found.is_outdated:
            yield "prices.sheet", f"{sheet} is {_words(scenario, found)}{_newer_sheet(scenario, sheet)}"
    provenance = stack_provenance(scenario.stack)
    if provenance.holds_months is not None:
        stack = age.stack_age(provenance, _start(scenario))
        if stack is not None and stack.is_outdated:
            newer = "measure again with `moesim calibrate`" if provenance.calibration else "see `moesim list stacks`"
            yield (
                "stack",
                f"{plain_name(scenario.stack)} is {_words(scenario, stack)}; software gets faster: {newer}",
            )


def _start(scenario: Scenario) -> date:
    return scenario.start_date or age.newest_date()


def _words(scenario: Scenario, found: Age) -> str:
    """The age, and what it is taken at."""
    taken = "the start_date" if scenario.start_date else "no start_date is given: the newest date in the catalogue"
    return f"{found} ({taken})"


def _newer_sheet(scenario: Scenario, name: str) -> str:
    """'; newer: …' with the newest sheet that has a price of the GPU; '' where this is the newest."""
    newest = newest_sheet(node_of(scenario).gpu)
    return "" if newest is None or newest.name == name else f"; newer: --set prices.sheet={newest.name}"
