"""What a step puts on the links of its network."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dashboards.progress import report_progress
from simulator.check import load_scenario
from simulator.results.network_view import NetworkView
from simulator.results.step_result import CollectiveTime
from simulator.step.graph import build_graph
from simulator.step.network_load import network_view
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared


@dataclass(frozen=True)
class Network:
    """The network under a step whose seconds are the mean of so many draws, and the step's collectives."""

    view: NetworkView
    collectives: tuple[CollectiveTime, ...]
    draws: int


def network(document: str, draws: int) -> Network:
    """document: `simulator.run.step_key.step_document` of a scenario; draws: how many of its draws. Raises InputError."""
    scenario = load_scenario(json.loads(document), [f"draws={draws}"], reads_files=False)
    report_progress(0.1, "counting and pricing the work")
    step = prepare(scenario)
    result = simulate_prepared(
        step,
        explained=False,
        report=lambda done: report_progress(0.2 + 0.7 * done, f"{round(done * draws)} of {draws} draws"),
    )
    return Network(network_view(step, build_graph(step), result.step.step_s), result.step.collectives, draws)
