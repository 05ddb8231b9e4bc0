"""A small run with its timeline, simulated once for all tests of reports."""

from __future__ import annotations

from functools import cache

from simulator import load_scenario
from simulator.report.formats import ReportItem
from simulator.report.items import simulated_item

SMALL = ("draws=1", "training.global_batch_size=128")


@cache
def small_item() -> ReportItem:
    """A preset of which one step is simulated once."""
    return simulated_item(load_scenario("mixtral-8x22b", SMALL))
