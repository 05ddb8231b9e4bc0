"""What a step's result says about itself: the assumptions that it used and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping

from hwprofiles.stack_records import Assumption
from simulator.results.step_result import AssumptionRow

NOT_MODELLED = (
    "failures, restarts, checkpoints, and evaluation that no phase states (steady training is assumed)",
    "GPUs that fail slowly or run far below the others (beyond the measured spread of healthy chips)",
    "data loading that does not keep up with the steps, and host processes that share a core",
    "a sender of a pipeline transfer that waits for its receiver, but for parallel.overlap.pp: false",
    "uneven loads of expert groups other than the one with the slowest GPUs (one is simulated)",
    "congestion control and packet effects in the fabric; links share traffic as fluids",
    "messages of different kinds, and other GPUs' ones, that meet on the uplinks of switches",
    "the all-reduce of expert loads for the balancing bias and the EMA copy of the weights",
)
"""Mechanisms that a real run has and this result has not; each is lost time, so a real step is rather longer."""


def assumption_rows(assumptions: Mapping[str, Assumption]) -> tuple[AssumptionRow, ...]:
    """Every stated assumption with value, range, unit and source, sorted by key."""
    return tuple(
        AssumptionRow(
            key=key, value=entry.value, low=entry.low, high=entry.high, unit=entry.unit, source=str(entry.source)
        )
        for key, entry in sorted(assumptions.items())
    )
