"""Steps of one scenario at several batch sizes, and what its assumptions are worth: what a training run asks for."""

from __future__ import annotations

from hwprofiles.stack_records import Stack
from simulator.results.joint import Joint
from simulator.results.step_result import StepResult
from simulator.scenario.scenario import Scenario
from simulator.step.draws import Engine, Report
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.joint import step_joint
from simulator.step.power import StepPower, power_of
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
        self._power: StepPower | None = None

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """One step of `global_batch_size` sequences, the full batch's explained. Raises as `simulate_step`."""
        step = self._prepared(scenario)
        is_full = global_batch_size == scenario.training.global_batch_size
        return simulate_prepared(
            step, global_batch_size, schedule, self._engine, explained=self.explains and is_full, ranged=is_full,
            report=self.report, power=self._full(step) if is_full and schedule == scenario.parallel.schedule else None,
        )  # fmt: skip

    def get_ready(self, scenario: Scenario) -> None:
        """Computes now what does not depend on the batch."""
        self._prepared(scenario)

    def effects(self, scenario: Scenario, global_batch_size: int) -> Joint:
        """The step with all that may be otherwise drawn at once, and what each is worth alone (step/joint.py)."""
        step = self._prepared(scenario)
        is_full = global_batch_size == scenario.training.global_batch_size
        order = order_of_actions(scenario, global_batch_size)
        return step_joint(step, order, self._full(step) if is_full else None, self.report)

    def _full(self, step: PreparedStep) -> StepPower:
        """The full batch's step under the scenario's schedule, at the speed that its watts leave."""
        if self._power is None:
            self._power = power_of(step, build_graph(step))
        return self._power

    def _prepared(self, scenario: Scenario) -> PreparedStep:
        if self._step is None or self._step.scenario is not scenario:
            self._step, self._power = prepare(scenario, self._stack), None
        return self._step
