"""Steps of one scenario at several batch sizes, and what its assumptions are worth: what a training run asks for."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.results.interval import Interval
from simulator.results.step_result import StepResult
from simulator.scenario.scenario import Scenario
from simulator.step.draws import Engine
from simulator.step.effects import assumption_effects
from simulator.step.inputs import StepInputs, step_inputs
from simulator.step.step import simulate_inputs


class StepSimulator:
    """`simulate_step` for several batches of a scenario: what does not depend on the batch is computed once."""

    def __init__(self, engine: Engine = "sweep") -> None:
        self._engine: Engine = engine
        self._inputs: StepInputs | None = None

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """One step of `global_batch_size` sequences, the full batch's explained. Raises as `simulate_step`."""
        inputs = self._inputs_of(scenario)
        is_full = global_batch_size == scenario.training.global_batch_size
        return simulate_inputs(inputs, global_batch_size, schedule, self._engine, explained=is_full)

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        """Relative change of the step when one assumption goes to the ends of its range (simulator/step/effects.py)."""
        return assumption_effects(self._inputs_of(scenario), global_batch_size)

    def _inputs_of(self, scenario: Scenario) -> StepInputs:
        if self._inputs is None or self._inputs.scenario is not scenario:
            self._inputs = step_inputs(scenario)
        return self._inputs
