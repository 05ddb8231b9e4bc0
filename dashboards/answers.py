"""The run of a scenario, as far as it is known: a first answer from few random draws, then the whole one.

answer = answers.of(asked.source)
answer.result, answer.is_first, answer.is_whole      # RunResult | None; from few draws; the one that `moesim run` gives

Prices, tokens and the lengths of phases ask for no job: they are arithmetic on steps that are there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final

from dashboards import jobs
from dashboards.jobs import Job
from dashboards.source import Source
from dashboards.work import run
from simulator.results.run_result import RunResult
from simulator.results.step_result import StepResult
from simulator.run.kept_steps import KeptSteps, kept_of, trained_steps
from simulator.run.step_key import step_document, step_key
from simulator.run.training_run import simulate_run
from simulator.scenario.scenario import Scenario

FIRST_DRAWS: Final = 2
"""Random draws of a first answer, which leaves out what the assumptions are worth and what binds the step."""
AT_ONCE_S: Final = 0.8
"""For so long a page waits for a first answer before it shows progress in its place."""

Asked = tuple[Any, ...]
"""A function of work/run.py and its arguments."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a run. result: None while not even the first answer is there. draws: that it is the mean of.

    waiting: jobs that will make it better, of which `progress` is done; failed: the one that says why there is none.
    """

    result: RunResult | None
    draws: int
    all_draws: int
    jobs: tuple[Job, ...] = ()
    failed: Job | None = None

    @property
    def is_first(self) -> bool:
        """Whether the figures are of fewer draws than asked for."""
        return self.result is not None and self.draws < self.all_draws

    @property
    def is_whole(self) -> bool:
        """Whether the figures are those of `moesim run`."""
        return self.result is not None and self.draws == self.all_draws

    @property
    def is_over(self) -> bool:
        """Whether waiting any longer changes nothing."""
        return all(job.is_over for job in self.jobs)

    @property
    def progress(self) -> float:
        """Share of the jobs' work that is done, 0 to 1."""
        return fsum(job.progress for job in self.jobs) / len(self.jobs) if self.jobs else 1.0

    @property
    def words(self) -> str:
        """What is done now; "" where others are served first."""
        return next((job.words for job in self.jobs if job.state == "running" and job.words), "")


def of(source: Source, *, only_whole: bool = False, wait_s: float = AT_ONCE_S) -> Answer:
    """The run of a source that loads. only_whole: no first answer, and behind those of others (a baseline).

    Raises InputError where the source does not load, or has no price for its GPU.
    """
    scenario = source.load()
    whole = _asked(scenario)
    first = None if only_whole or scenario.draws <= FIRST_DRAWS else first_draws(scenario)
    if first is None or all(job is not None and job.state == "done" for job in map(_known, whole)):
        asked = [jobs.of(*each, later=only_whole) for each in whole]
        _wait(asked, 0.0 if only_whole else wait_s)
        return _answer(scenario, asked, scenario.draws)
    early = [jobs.of(*each) for each in _steps(first, run.first_step)]
    _wait(early, wait_s)
    answer = _answer(first, early, scenario.draws)
    if answer.result is None:
        return answer
    late = [jobs.of(*each, later=True) for each in whole]
    if all(job.is_over for job in late):
        return _answer(scenario, late, scenario.draws)
    return Answer(answer.result, answer.draws, scenario.draws, tuple(late))


def first_known(source: Source) -> RunResult | None:
    """The first answer of a source, where its steps are there; asks for nothing. What a first answer is compared with: the
    same random draws, so that a difference is the change's and not the draws'.
    """
    first = first_draws(source.load())
    steps = [_known(asked) for asked in _steps(first, run.first_step)]
    found = [job for job in steps if job is not None]
    return _answer(first, found, first.draws).result if len(found) == len(steps) else None


def first_draws(scenario: Scenario) -> Scenario:
    """The scenario of few draws: the same random numbers, so that the whole answer is a refinement."""
    return scenario.model_copy(update={"draws": FIRST_DRAWS})


def _asked(scenario: Scenario) -> list[Asked]:
    """The jobs of a whole run: its steps, and the worth of the assumptions last."""
    effects = [(run.effects, step_document(trained)) for trained, _ in trained_steps(scenario)]
    return [*_steps(scenario, run.step), *effects]


def _steps(scenario: Scenario, function: Callable[..., StepResult]) -> list[Asked]:
    """The jobs of the step of each batch size of what each phase trains, the first one's full batch first."""
    return [
        (function, step_document(trained), size.global_batch_size, size.schedule)
        for trained, sizes in trained_steps(scenario)
        for size in sizes
    ]


def _known(asked: Asked) -> Job | None:
    return jobs.known(*asked)


def _wait(asked: Sequence[Job], seconds: float) -> None:
    end = time.monotonic() + seconds
    for job in asked:
        job.wait(max(0.0, end - time.monotonic()))


def _answer(scenario: Scenario, asked: Sequence[Job], all_draws: int) -> Answer:
    """The run of the jobs' steps, where all are done; of a first answer there is no job for the assumptions."""
    failed = next((job for job in asked if job.state == "failed"), None)
    if failed is not None or not all(job.state == "done" for job in asked):
        return Answer(None, scenario.draws, all_draws, tuple(asked), failed)
    groups, values = trained_steps(scenario), iter([job.value for job in asked])
    steps = [(trained, {size: next(values) for size in sizes}) for trained, sizes in groups]
    kept = {step_key(trained): KeptSteps(step_key(trained), found, next(values, {})) for trained, found in steps}
    run_of = simulate_run(scenario, simulate=kept_of(scenario, kept))
    return Answer(run_of, scenario.draws, all_draws, tuple(asked))
