"""Steps of one scenario at several batch sizes, and what its assumptions are worth: what a training run asks for."""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles.stack_records import Stack
from simulator.results.interval import Interval
from simulator.results.step_result import StepResult
from simulator.scenario.scenario import Scenario
from simulator.step.draws import Engine, Report
from simulator.step.effects import assumption_effects
from simulator.step.graph import order_of_actions
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.step import simulate_prepared


class StepSimulator:
    """`simulate_step` for several batches of a scenario: what does not depend on the batch is computed once."""

    def __init__(self, engine: Engine = "sweep", report: Report | None = None, stack: Stack | None = None) -> None:
        """report: is told which share of a step's draws, or of the assumptions, is done. explains: whether the full batch's
        step says what binds it and what uneven loads add, which takes as long again as the step. stack: as in `simulate_step`.
        """
        self._stack = stack
        self._engine: Engine = engine
        self.report = report
        self.explains = True
        self._step: PreparedStep | None = None

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """One step of `global_batch_size` sequences, the full batch's explained. Raises as `simulate_step`."""
        step = self._prepared(scenario)
        explained = self.explains and global_batch_size == scenario.training.global_batch_size
        return simulate_prepared(
            step, global_batch_size, schedule, self._engine, explained=explained, report=self.report
        )

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        """Relative change of the step when one assumption goes to the ends of its range (simulator/step/effects.py)."""
        order = order_of_actions(scenario, global_batch_size)
        return assumption_effects(self._prepared(scenario), order, self.report)

    def _prepared(self, scenario: Scenario) -> PreparedStep:
        if self._step is None or self._step.scenario is not scenario:
            self._step = prepare(scenario, self._stack)
        return self._step
