"""What a new worker does before its first task: loads the simulator, compiled kernels and the plan that is asked for first."""

from __future__ import annotations

from dashboards.answers import first_draws
from dashboards.link import Asked
from dashboards.work import run
from simulator.run.kept_steps import batch_sizes, step_document


def warm() -> int:
    """Simulate the first answer's step of the page that opens by itself; returns the tokens of it."""
    scenario = first_draws(Asked().source.load())
    size = batch_sizes(scenario)[0]
    step = run.step(step_document(scenario), size.global_batch_size, size.schedule)
    return step.step.tokens_per_step
