"""Steps that are kept: of what a run needs, all that has to be simulated.

Prices, tokens, the phases' lengths, names and dates change no step. A run with kept steps costs arithmetic only, and says
the same to the last byte as one that simulates them anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from simulator.results.interval import Interval
from simulator.results.step_result import StepResult
from simulator.run.batch_ramp import BatchSize
from simulator.run.phases import plan_phase
from simulator.run.training_run import SimulateStep
from simulator.scenario.scenario import Scenario

NO_STEP_DEPENDS_ON: Final = ("name", "phases", "prices", "start_date", "currency")
"""Sections of a scenario that say how long a run is and what it costs. A step depends on all the others."""


class StepNotKept(LookupError):
    """A run asks for a step that was not kept, or of another scenario."""


class SimulateSteps(SimulateStep, Protocol):
    """What simulates steps and says what the assumptions are worth (`simulator.step.batches.StepSimulator`)."""

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        """Relative change of the step when one assumption goes to the ends of its range."""


def step_document(scenario: Scenario) -> str:
    """What the steps of a scenario depend on, as JSON that `load_scenario` takes once it is read: equal texts, equal steps."""
    document = {key: value for key, value in scenario.canonical().items() if key not in NO_STEP_DEPENDS_ON}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def step_key(scenario: Scenario) -> str:
    """Hash of all that the steps of a scenario depend on."""
    return hashlib.sha256(step_document(scenario).encode()).hexdigest()


def batch_sizes(scenario: Scenario) -> tuple[BatchSize, ...]:
    """Batch sizes whose steps a run of the scenario needs, the first phase's full batch first. Raises InputError."""
    plans = (plan_phase(scenario, phase) for phase in scenario.phases)
    return tuple(dict.fromkeys(size for plan in plans for size in plan.sizes_to_simulate))


@dataclass(frozen=True)
class KeptSteps:
    """Simulated steps of one `step_key`, as `simulate_run` takes them; picklable.

    steps: by batch size. changes: what the assumptions are worth; none in a first answer, which leaves them out.
    """

    key: str
    steps: Mapping[BatchSize, StepResult] = field(default_factory=dict)
    changes: Mapping[str, Interval] = field(default_factory=dict)

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """The kept step. Raises StepNotKept."""
        self._check(scenario)
        size = BatchSize(global_batch_size, schedule)
        if size not in self.steps:
            raise StepNotKept(f"no step of {global_batch_size} sequences under {schedule} was kept")
        return self.steps[size]

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        """What the assumptions are worth at the full batch. Raises StepNotKept."""
        self._check(scenario)
        return self.changes

    def missing(self, scenario: Scenario) -> tuple[BatchSize, ...]:
        """Batch sizes that a run of the scenario needs beside the kept ones. Raises StepNotKept of another scenario."""
        self._check(scenario)
        return tuple(size for size in batch_sizes(scenario) if size not in self.steps)

    def _check(self, scenario: Scenario) -> None:
        if step_key(scenario) != self.key:
            raise StepNotKept("the kept steps are of a scenario that differs in more than its phases and prices")


def keep_steps(scenario: Scenario, simulate: SimulateSteps, before: KeptSteps | None = None) -> KeptSteps:
    """The steps of a scenario and what its assumptions are worth; those in `before` are not simulated again."""
    key = step_key(scenario)
    if before is not None and before.key == key:
        sizes = before.missing(scenario)
        return replace(before, steps={**before.steps, **_simulated(scenario, sizes, simulate)})
    changes = simulate.effects(scenario, scenario.training.global_batch_size)
    return KeptSteps(key, _simulated(scenario, batch_sizes(scenario), simulate), changes)


def _simulated(scenario: Scenario, sizes: tuple[BatchSize, ...], simulate: SimulateStep) -> dict[BatchSize, StepResult]:
    return {
        size: simulate(scenario, global_batch_size=size.global_batch_size, schedule=size.schedule) for size in sizes
    }
