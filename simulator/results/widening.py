"""The interval of a step: the ranges of the measurements, widened by what the assumptions are worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from simulator.results.interval import Interval
from simulator.results.step_result import RangePart, StepResult, StepTimes


def widened(result: StepResult, changes: Mapping[str, Interval]) -> StepResult:
    """The result with the assumptions' effects in its interval, in quadrature with the ranges of the measurements.

    changes: assumption → relative change of the step time at the ends of its range.
    """
    return result.model_copy(update={"step": widened_times(result.step, changes)})


def widened_times(step: StepTimes, changes: Mapping[str, Interval]) -> StepTimes:
    """As `widened`, of the step's times alone."""
    down = math.hypot(step.step_s - step.interval.low, *(step.step_s * change.low for change in changes.values()))
    up = math.hypot(step.interval.high - step.step_s, *(step.step_s * change.high for change in changes.values()))
    interval = Interval(low=max(0.0, step.step_s - down), high=step.step_s + up)
    return step.model_copy(update={"interval": interval, "ranges": parts_of_ranges(changes, step.ranges or ())})


def parts_of_ranges(changes: Mapping[str, Interval], others: Iterable[RangePart] = ()) -> tuple[RangePart, ...]:
    """Changes that are any, with others, the greatest first."""
    own = (RangePart(what=name, low=each.low, high=each.high) for name, each in changes.items() if each.width > 0.0)
    return tuple(sorted((*others, *own), key=lambda part: (-part.size, part.what)))
