"""Cluster sizes, each in its best layout."""

from __future__ import annotations

from typing import Final

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator.results.plan_table import PlanResult
from simulator.run import planner
from simulator.run.planner.cluster_sizes import read_sizes
from simulator.run.planner.own_layout import beside_own
from simulator.run.planner.sizes import Limits, plan_sizes, planned_part
from simulator.scenario.hardware import node_of

OF_SIZES: Final = 0.9
"""Share of the work that all sizes take; the scenario's own layout takes the rest."""


def plan(source: Source, sizes: str | None, days: float | None, usd: float | None) -> PlanResult:
    """sizes: as `moesim plan --num-gpus` takes them; days, usd: limits. Raises InputError as the command."""
    scenario = planned_part(source.load())
    asked = read_sizes(sizes, node_of(scenario).gpus_per_node)
    planned = plan_sizes(scenario, asked, Limits(days, usd), planner.plan_layout, planner.fits_any, _report)
    report_progress(OF_SIZES, "the scenario's own layout")
    return beside_own(scenario, planned)


def _report(done: float, words: str) -> None:
    report_progress(OF_SIZES * done, words)
