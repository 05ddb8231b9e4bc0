"""A scenario's layout, found: enumerate, keep what is legal and fits, rank in closed form, simulate the best, choose."""

from __future__ import annotations

from collections.abc import Callable

from simulator.errors import InputError
from simulator.results.plan_result import LayoutPlan
from simulator.scenario.scenario import Scenario

Report = Callable[[int, int], None]
"""Told of layouts that are simulated: how many are done, of how many."""


def plan_layout(scenario: Scenario, *, report: Report | None = None) -> tuple[Scenario, LayoutPlan]:
    """The scenario in the layout that is chosen (its draws and seed as given), and how it was found.

    Raises InputError where no layout fits: it says the smallest number of GPUs on which one does, or that none does.
    """
    raise InputError("parallel: no layout can be searched for yet; state one")
