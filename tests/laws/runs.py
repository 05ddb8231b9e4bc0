"""A drawn scenario simulated once, for all laws that speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator import load_scenario
from simulator.assembly.step_graph import StepGraph
from simulator.results.step_result import StepResult
from simulator.scenario.scenario import Scenario
from simulator.step.draws import Outcome, draw_rows, run_draws
from simulator.step.graph import build_graph
from simulator.step.power import power_of
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.step import simulate_prepared

ROUNDING = 1e-9
"""Relative: sums of some thousand floats in another order."""


@dataclass(frozen=True, eq=False)
class Run:
    """Everything from a prepared step to its result, which is made when it is asked for: most laws want the times alone."""

    prepared: PreparedStep
    graph: StepGraph
    outcome: Outcome

    @cached_property
    def result(self) -> StepResult:
        return simulate_prepared(self.prepared)

    @property
    def step_s(self) -> float:
        """Mean over the draws, as the result has it."""
        return float(np.mean(self.outcome.step_s))

    def draws(self, draw: int) -> NDArray[np.float64] | None:
        """(draw rows, lanes) multipliers of a random draw, None where nothing is random."""
        return draw_rows(self.prepared.random, self.graph, draw)


def simulate(document: Mapping[str, Any]) -> Run:
    """The whole chain."""
    return simulate_from(prepare(load_scenario(document)))


def simulate_from(prepared: PreparedStep) -> Run:
    """The chain from a prepared step on."""
    graph = power_of(prepared, build_graph(prepared)).graph
    return Run(prepared, graph, run_draws(prepared.random, graph, "sweep"))


def unexplained(scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
    """For `simulate_run`: a step without what binds it and without the effects of assumptions, which take most of its time."""
    return simulate_prepared(prepare(scenario), global_batch_size, schedule, explained=False)


def changed(document: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    """The scenario with keys of sections, or whole values, replaced: changed(d, moe={"balance": "forced"}, seed=1)."""
    new = deepcopy(dict(document))
    for section, value in sections.items():
        new[section] = {**new.get(section, {}), **value} if isinstance(value, Mapping) else value
    return new
