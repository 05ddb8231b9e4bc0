"""The figures of a run that people compare, and what became of each from one run to another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Final

from pydantic import Field

from hwprofiles.units import TERA
from simulator.results.document import JsonValue, ResultModel
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import RunResult

Figure = float | int | bool | str | Estimate | None
"""None: not computed. An Estimate where a 90 % interval is known."""


class ChangedResult(ResultModel):
    """A figure on both sides; what one side did not compute is absent there.

    key: dotted path of the result document; `totals.cost_usd_per_trillion_tokens` is the quotient of its totals.
    relative: to / from − 1. intervals_overlap: whether the 90 % intervals share a value; errors that both runs have in
    common move both alike, so that an overlap alone does not say that the difference is noise.
    """

    key: str
    from_: JsonValue = Field(default=None, serialization_alias="from")
    to: JsonValue = None
    from_interval: Interval | None = None
    to_interval: Interval | None = None
    relative: float | None = None
    intervals_overlap: bool | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure that is compared. of: from a result; is_part: seconds of the step, whose effect is their share of it."""

    of: Callable[[RunResult], Figure]
    is_part: bool = False


def _inverse(value: float, result: RunResult) -> Figure:
    """What falls as the step's time rises, with the step's interval turned round; alone where the step may take no time."""
    step = result.step
    if step.interval.low <= 0:
        return value
    low, high = value * step.step_s / step.interval.high, value * step.step_s / step.interval.low
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _per_trillion_tokens(result: RunResult) -> Estimate | None:
    cost, tokens = result.totals.cost_usd, fsum(phase.tokens for phase in result.phases)
    return None if cost is None else cost.times(TERA / tokens)


def _step_s(result: RunResult) -> Estimate:
    step = result.step
    return Estimate(value=step.step_s, low=step.interval.low, high=step.interval.high)


FIGURES: Final[Mapping[str, Compared]] = {
    "memory.verdict": Compared(lambda result: result.memory.verdict),
    "memory.fits": Compared(lambda result: result.memory.fits),
    "step.step_s": Compared(_step_s),
    "step.tokens_per_step": Compared(lambda result: result.step.tokens_per_step),
    "step.tokens_per_s_per_gpu": Compared(lambda result: _inverse(result.step.tokens_per_s_per_gpu, result)),
    "step.mfu.bf16_dense_causal": Compared(lambda result: _inverse(result.step.mfu.bf16_dense_causal, result)),
    "step.bubble_s": Compared(lambda result: result.step.bubble_s, is_part=True),
    "step.exposed_comm_s": Compared(lambda result: result.step.exposed_comm_s, is_part=True),
    "step.optimizer_s": Compared(lambda result: result.step.optimizer_s, is_part=True),
    "memory.peak_bytes_per_gpu": Compared(lambda result: result.memory.peak_bytes_per_gpu),
    "totals.wall_s": Compared(lambda result: result.totals.wall_s),
    "totals.gpu_hours": Compared(lambda result: result.totals.gpu_hours),
    "totals.gpu_hours_paid": Compared(lambda result: result.totals.gpu_hours_paid),
    "totals.cost_usd": Compared(lambda result: result.totals.cost_usd),
    "steady_state.gpu_hours_per_trillion_tokens": Compared(
        lambda result: result.steady_state.gpu_hours_per_trillion_tokens
    ),
    "totals.cost_usd_per_trillion_tokens": Compared(_per_trillion_tokens),
    "model.num_parameters": Compared(lambda result: result.model.num_parameters),
    "model.num_active_parameters": Compared(lambda result: result.model.num_active_parameters),
}
"""Key of the comparison → figure, in the order in which equal effects are listed."""


def changed_results(base: RunResult, other: RunResult) -> tuple[ChangedResult, ...]:
    """The figures that differ, by effect: what cannot be counted (a verdict) first, then the largest change.

    The effect of a figure is the logarithm of the quotient (twice is as much as half), and of a part of the step the
    share of the base's step that it gained or lost.
    """
    rows = [_changed(key, figure.of(base), figure.of(other)) for key, figure in FIGURES.items()]
    step_s = base.step.step_s
    return tuple(sorted((row for row in rows if row is not None), key=lambda row: -round(_effect(row, step_s), 9)))


def _changed(key: str, before: Figure, after: Figure) -> ChangedResult | None:
    one, two = _value(before), _value(after)
    if one == two:
        return None
    there, here = _interval(before), _interval(after)
    return ChangedResult(
        key=key,
        from_=one,
        to=two,
        from_interval=there,
        to_interval=here,
        relative=two / one - 1 if _is_number(one) and _is_number(two) and one else None,
        intervals_overlap=None if there is None or here is None else there.low <= here.high and here.low <= there.high,
    )


def _effect(row: ChangedResult, step_s: float) -> float:
    one, two = row.from_, row.to
    if not (_is_number(one) and _is_number(two)):
        return math.inf
    if FIGURES[row.key].is_part:
        return float(abs(two - one) / step_s)
    return abs(math.log(two / one)) if one > 0 and two > 0 else math.inf


def _value(figure: Figure) -> JsonValue:
    return figure.value if isinstance(figure, Estimate) else figure


def _interval(figure: Figure) -> Interval | None:
    return figure.interval if isinstance(figure, Estimate) else None


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
