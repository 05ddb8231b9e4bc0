"""Asks every family for its problems about a scenario and returns them together, with the positions of the keys."""

from __future__ import annotations

from collections.abc import Iterator

from hwprofiles.stack_choice import load_stack
from simulator.errors import InputError, Problem
from simulator.scenario import derived
from simulator.scenario.assumptions import assumption_problems, read_assumptions
from simulator.scenario.rules import involved
from simulator.scenario.scenario import Scenario
from simulator.schedule import micro_batch_problem, next_valid_micro_batches, rank_problem


def check_scenario(scenario: Scenario) -> None:
    """Raise InputError with every problem that the families have with a scenario."""
    problems = list(scenario_problems(scenario))
    if problems:
        raise InputError(problems)


def scenario_problems(scenario: Scenario) -> Iterator[Problem]:
    """What the schedule and the stack have against a scenario, problem by problem."""
    for field, message in (*_schedule_problems(scenario), *_ramp_problems(scenario)):
        yield Problem(scenario.where(*involved(field)), field, message)
    if scenario.assumptions:
        yield from assumption_problems(scenario, {**read_assumptions(), **load_stack(scenario.stack).assumptions})


def _schedule_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    name, pp = scenario.parallel.schedule, scenario.parallel.pp
    num_micro_batches = derived.num_micro_batches(scenario)
    problem = rank_problem(name, pp)
    if problem is not None:
        yield "parallel.pp", f"{name} {problem}"
    else:
        yield from _micro_batch_problems("training.global_batch_size", scenario, name, num_micro_batches)


def _ramp_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """The first batch of each ramp: the phase's schedule runs it, or the one for small batches."""
    name, pp = scenario.parallel.schedule, scenario.parallel.pp
    if rank_problem(name, pp) is not None:
        return
    minimum = next_valid_micro_batches(name, pp, 1)[-1]
    for phase in scenario.phases:
        ramp = phase.batch_ramp
        if ramp is None:
            continue
        field = f"phases.{phase.name}.batch_ramp"
        num_micro_batches = derived.num_micro_batches(scenario, ramp.from_)
        if num_micro_batches >= minimum:
            continue
        if ramp.schedule_below is None:
            text = f"{ramp.from_} sequences are {num_micro_batches} micro-batches a pipeline, {name} needs {minimum}"
            smallest = ramp.from_ // num_micro_batches * minimum
            yield f"{field}.from", f"{text}; allowed at least {smallest}, or name a schedule_below such as 1f1b"
        else:
            yield from _micro_batch_problems(f"{field}.from", scenario, ramp.schedule_below, num_micro_batches)


def _micro_batch_problems(
    field: str, scenario: Scenario, schedule: str, num_micro_batches: int
) -> Iterator[tuple[str, str]]:
    problem = micro_batch_problem(schedule, scenario.parallel.pp, num_micro_batches)
    if problem is not None:
        unit = derived.dp(scenario) * scenario.training.micro_batch_size
        valid = next_valid_micro_batches(schedule, scenario.parallel.pp, num_micro_batches)
        batches = " or ".join(str(count * unit) for count in valid)
        yield field, f"{problem} micro-batches, which is {batches} sequences"
