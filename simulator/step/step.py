"""One step, from scenario to result: the place to start reading.

scenario → hardware, what the router does, counted work, seconds by operator and message (step.prepared) → order of actions
(schedule) → one graph (step.graph), at the speed that its watts leave (step.power) → engine, once a random draw (step.draws) →
parts by rank, explanation, memory (step.result).
"""

from __future__ import annotations

from hwprofiles.stack_records import Stack
from simulator.results.step_result import StepResult, StepTimes
from simulator.results.widening import widened, widened_times
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.draws import Engine, Report, run_draws
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.joint import step_joint
from simulator.step.power import StepPower, power_of
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.result import step_result, step_times


def simulate_step(
    scenario: Scenario, *, global_batch_size: int | None = None, schedule: str | None = None, engine: Engine = "sweep",
    stack: Stack | None = None,
) -> StepResult:  # fmt: skip
    """Simulates one step of `global_batch_size` sequences (default: the full batch).

    schedule: another than the scenario's. engine: the compiled sweep, or the simpy reference (the same numbers, slower).
    stack: of the scenario's GPU, in place of the one that it names, as validation builds it without a group of measurements
    (`hwprofiles.stack_choice.load_stack`). The interval is that of joint draws over all ranges, as in a run's document.
    Raises InputError for what the catalogue lacks, InconsistentSimulation if a conservation law is broken.
    """
    step = prepare(scenario, stack)
    order = order_of_actions(scenario, global_batch_size, schedule)
    power = power_of(step, build_graph(step, order))
    batch = global_batch_size or scenario.training.global_batch_size
    result = _simulated(step, order, power, batch, engine)
    return widened(result, step_joint(step, order, power))


def simulate_times(scenario: Scenario, *, stack: Stack | None = None) -> StepTimes:
    """The times of `simulate_step` alone, to the bit: what binds the step, what uneven loads add and its memory are not asked
    for, which is half of the work of a short one. Raises as it does.
    """
    step, order, power, times = _times(scenario, stack)
    return widened_times(times, step_joint(step, order, power))


def simulate_seconds(scenario: Scenario, *, stack: Stack | None = None) -> float:
    """The seconds of `simulate_times` alone, to the bit: its interval, more than half of the work, is not asked for."""
    return _times(scenario, stack)[-1].step_s


def _times(scenario: Scenario, stack: Stack | None) -> tuple[PreparedStep, Schedule, StepPower, StepTimes]:
    """The times of a step without its interval, and what they came from."""
    step = prepare(scenario, stack)
    order = order_of_actions(scenario)
    power = power_of(step, build_graph(step, order))
    outcome = run_draws(step.random, power.graph, "sweep", told_apart=False)
    return step, order, power, step_times(step, power, outcome, scenario.training.global_batch_size, explained=False)


def simulate_prepared(
    step: PreparedStep, global_batch_size: int | None = None, schedule: str | None = None, engine: Engine = "sweep",
    *, explained: bool = True, ranged: bool = True, report: Report | None = None, power: StepPower | None = None,
) -> StepResult:  # fmt: skip
    """`simulate_step` of a prepared step; the interval without the assumptions. Raises as it does.

    explained: also by further simulations what binds the step (what it would gain if one category of work were free) and
    what uneven loads and unequal GPUs add. ranged: also the interval of its measurements, else none. report: as in `run_draws`.
    power: of these actions, where it is solved already.
    """
    order = order_of_actions(step.scenario, global_batch_size, schedule)
    power = power or power_of(step, build_graph(step, order))
    batch = global_batch_size or step.scenario.training.global_batch_size
    return _simulated(step, order, power, batch, engine, explained=explained, ranged=ranged, report=report)


def _simulated(
    step: PreparedStep, order: Schedule, power: StepPower, batch: int, engine: Engine, *, explained: bool = True,
    ranged: bool = False, report: Report | None = None,
) -> StepResult:  # fmt: skip
    outcome = run_draws(step.random, power.graph, engine, told_apart=explained, report=report)
    return step_result(step, order, power, outcome, batch, explained=explained, ranged=ranged)
