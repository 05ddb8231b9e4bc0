"""Steps that are kept: of what a run needs, all that has to be simulated.

Prices, tokens, the phases' lengths, names and dates change no step. A run with kept steps costs arithmetic only, and says
the same to the last byte as one that simulates them anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from simulator.results.interval import Interval
from simulator.results.step_result import StepResult
from simulator.run import kinds
from simulator.run.batch_ramp import BatchSize
from simulator.run.phase_runs import SimulateStep
from simulator.run.phases import plan_phase
from simulator.run.step_key import step_key
from simulator.run.trained import trained_by_phases
from simulator.scenario.phase_scenarios import is_to_plan
from simulator.scenario.scenario import Scenario


class StepNotKept(LookupError):
    """A run asks for a step that was not kept, or of another scenario."""


class SimulateSteps(SimulateStep, Protocol):
    """What simulates steps and says what the assumptions are worth (`simulator.step.batches.StepSimulator`)."""

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        """Relative change of the step when one assumption goes to the ends of its range."""


def batch_sizes(scenario: Scenario) -> tuple[BatchSize, ...]:
    """Batch sizes whose steps the phases of a scenario need that train as it says, the first one's full batch first.

    Raises InputError.
    """
    if is_to_plan(scenario):
        return ()
    plans = (plan_phase(scenario, phase) for phase in scenario.phases if not (phase.changes or kinds.packs(phase)))
    return tuple(dict.fromkeys(size for plan in plans for size in plan.sizes_to_simulate))


def trained_steps(scenario: Scenario) -> tuple[tuple[Scenario, tuple[BatchSize, ...]], ...]:
    """(what is trained, batch sizes) of all steps that a run needs, equal ones once, the first phase's first.

    Raises InputError.
    """
    found: dict[str, tuple[Scenario, tuple[BatchSize, ...]]] = {}
    for each in trained_by_phases(scenario):
        key = step_key(each.scenario)
        first, sizes = found.get(key, (each.scenario, ()))
        found[key] = (first, tuple(dict.fromkeys((*sizes, *batch_sizes(each.scenario)))))
    return tuple(found.values())


@dataclass(frozen=True)
class KeptSteps:
    """Simulated steps of a scenario, as `simulate_run` takes them; picklable.

    key: `step_key` of the scenario. steps: by batch size. changes: what the assumptions are worth; none in a first answer,
    which leaves them out. others: the same of phases that train something else, by the `step_key` of what they train.
    """

    key: str
    steps: Mapping[BatchSize, StepResult] = field(default_factory=dict)
    changes: Mapping[str, Interval] = field(default_factory=dict)
    others: Mapping[str, KeptSteps] = field(default_factory=dict)

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """The kept step. Raises StepNotKept."""
        kept, size = self._of(scenario), BatchSize(global_batch_size, schedule)
        if size not in kept.steps:
            raise StepNotKept(f"no step of {global_batch_size} sequences under {schedule} was kept")
        return kept.steps[size]

    def effects(self, scenario: Scenario, global_batch_size: int) -> Mapping[str, Interval]:
        """What the assumptions are worth at the full batch. Raises StepNotKept."""
        return self._of(scenario).changes

    def missing(self, scenario: Scenario) -> tuple[BatchSize, ...]:
        """Batch sizes that the scenario's own phases need beside the kept ones. Raises StepNotKept of another scenario."""
        kept = self._of(scenario)
        return tuple(size for size in batch_sizes(scenario) if size not in kept.steps)

    def _of(self, scenario: Scenario) -> KeptSteps:
        key = step_key(scenario)
        if key == self.key:
            return self
        if key not in self.others:
            raise StepNotKept("the kept steps are of a scenario that differs in more than its phases and prices")
        return self.others[key]


def kept_of(scenario: Scenario, found: Mapping[str, KeptSteps]) -> KeptSteps:
    """What a run of the scenario takes: the kept steps by `step_key` of what is trained."""
    key = step_key(scenario)
    return replace(
        found.get(key, KeptSteps(key)), others={other: kept for other, kept in found.items() if other != key}
    )


def keep_steps(scenario: Scenario, simulate: SimulateSteps, before: KeptSteps | None = None) -> KeptSteps:
    """The steps of a scenario and its phases, and what its assumptions are worth; those in `before` are not simulated again."""
    key = step_key(scenario)
    if before is None or before.key != key:
        before = KeptSteps(key, changes=_changes(scenario, simulate) if batch_sizes(scenario) else {})
    sizes, others = before.missing(scenario), dict(before.others)
    for trained in {id(each.scenario): each.scenario for each in trained_by_phases(scenario)}.values():
        of_phase = step_key(trained)
        if of_phase != key:
            others[of_phase] = keep_steps(trained, simulate, others.get(of_phase))
    return replace(before, steps={**before.steps, **_simulated(scenario, sizes, simulate)}, others=others)


def _changes(scenario: Scenario, simulate: SimulateSteps) -> Mapping[str, Interval]:
    return simulate.effects(scenario, scenario.training.global_batch_size)


def _simulated(scenario: Scenario, sizes: tuple[BatchSize, ...], simulate: SimulateStep) -> dict[BatchSize, StepResult]:
    return {
        size: simulate(scenario, global_batch_size=size.global_batch_size, schedule=size.schedule) for size in sizes
    }
