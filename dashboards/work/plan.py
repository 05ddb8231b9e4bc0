"""Cluster sizes, each in its best layout."""

from __future__ import annotations

from functools import partial

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator.results.plan_table import PlanResult
from simulator.run import planner
from simulator.run.planner.cluster_sizes import read_sizes
from simulator.run.planner.own_layout import beside_own
from simulator.run.planner.sizes import Limits, plan_sizes, planned_part
from simulator.scenario.hardware import node_of


def plan(source: Source, sizes: str | None, days: float | None, usd: float | None) -> PlanResult:
    """sizes: as `moesim plan --num-gpus` takes them; days, usd: limits. Raises InputError as the command."""
    scenario = planned_part(source.load())
    asked = read_sizes(sizes, node_of(scenario).gpus_per_node)
    report = partial(_report, 0.9)
    planned = plan_sizes(scenario, asked, Limits(days, usd), planner.plan_layout, planner.fits_any, report)
    report_progress(0.9, "the scenario's own layout")
    return beside_own(scenario, planned)


def _report(share: float, done: float, words: str) -> None:
    """Progress of a part of the work."""
    report_progress(share * done, words)
