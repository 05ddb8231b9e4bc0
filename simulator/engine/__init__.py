"""When each operator of a step starts and finishes. Knows only class, resource and predecessor."""

from simulator.engine.bench import are_draws_equal, bench
from simulator.engine.certificate import certify
from simulator.engine.critical_path import critical_path
from simulator.engine.dag import StepDag, Timeline
from simulator.engine.reference import simulate_reference
from simulator.engine.sweep import BatchTimes, sweep, sweep_batch

__all__ = [
    "BatchTimes",
    "StepDag",
    "Timeline",
    "are_draws_equal",
    "bench",
    "certify",
    "critical_path",
    "simulate_reference",
    "sweep",
    "sweep_batch",
]
