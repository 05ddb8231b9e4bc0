"""The interval of a step: that of its joint draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from simulator.results.interval import Interval
from simulator.results.joint import Joint, Source
from simulator.results.step_result import RangePart, StepResult, StepTimes


def widened(result: StepResult, changes: Mapping[str, Interval]) -> StepResult:
    """The result with the interval of all that may be otherwise. changes: a `Joint`, of this step or of the full batch's; with
    none the interval stays.
    """
    return result.model_copy(update={"step": widened_times(result.step, changes)})


def widened_times(step: StepTimes, changes: Mapping[str, Interval]) -> StepTimes:
    """As `widened`, of the step's times alone."""
    if not isinstance(changes, Joint):
        return step
    return step.model_copy(
        update={"interval": changes.interval(step.step_s), "ranges": parts_of_ranges(changes.sources)}
    )  # fmt: skip


def parts_of_ranges(sources: Iterable[Source]) -> tuple[RangePart, ...]:
    """Sources that change anything, the greatest first."""
    own = (
        RangePart(what=each.key, low=each.effect.low, high=each.effect.high, at_low=each.at_low, at_high=each.at_high)
        for each in sources
        if each.effect.width > 0.0
    )
    return tuple(sorted(own, key=lambda part: (-part.size, part.what)))


def as_source(part: RangePart) -> Source:
    """A part of an interval as a source: of its changes only the order is not known, which its sum with others does not ask."""
    return Source(part.what, part.low, part.high, 1.0 + part.low, 1.0, 1.0 + part.high)
