"""Steps of a scenario: what a run needs that has to be simulated, one piece a job, so that no piece is done twice."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

from dashboards.progress import report_progress
from simulator.check import load_scenario
from simulator.results.joint import Joint
from simulator.results.step_result import StepResult
from simulator.scenario.scenario import Scenario
from simulator.step.batches import StepSimulator

KEPT_PLANS: Final = 4
"""Plans whose counted and priced work a process keeps: the other batch sizes and the refinement of a first answer need it."""


def step(document: str, global_batch_size: int, schedule: str) -> StepResult:
    """A step of so many sequences. document: as `step_key.step_document` gives it. Raises InputError."""
    return _step(document, global_batch_size, schedule, explains=True)


def first_step(document: str, global_batch_size: int, schedule: str) -> StepResult:
    """The same for a first answer: without what binds the step and what uneven loads add."""
    return _step(document, global_batch_size, schedule, explains=False)


def _step(document: str, global_batch_size: int, schedule: str, *, explains: bool) -> StepResult:
    scenario, simulator = _simulator(document)
    simulator.explains = explains
    simulator.report = lambda done: report_progress(done, f"{round(done * scenario.draws)} of {scenario.draws} draws")
    report_progress(0.0, "counting and pricing the work")
    return simulator(scenario, global_batch_size=global_batch_size, schedule=schedule)


def effects(document: str) -> Joint:
    """The full batch's step with all that may be otherwise drawn at once, and what each is worth alone."""
    scenario, simulator = _simulator(document)
    simulator.report = lambda done: report_progress(done, "what the assumptions are worth")
    return simulator.effects(scenario, scenario.training.global_batch_size)


@lru_cache(maxsize=KEPT_PLANS)
def _simulator(document: str) -> tuple[Scenario, StepSimulator]:
    return load_scenario(json.loads(document), reads_files=False), StepSimulator()
