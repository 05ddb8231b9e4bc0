"""How right a fit is on what it had not seen, beside a roofline of one factor on the same points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from hwprofiles.calibration.class_ranges import STUDENT

NORMAL: Final = 1.645
"""95 % point of the normal law."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A class of kernels. points, groups: measured calls, and what of them is left out at a time. error: mean of
    |predicted / measured - 1| of calls that the fit had not seen, in_fit: where they were too few to leave any out; worst: the
    largest; inside: share of them within the range that the others' errors give (NaN: too few). roofline: the same mean of
    max(FLOP / peak, bytes / bandwidth) times the best factor of what is not left out. goal: what was aimed at (NaN: nothing).
    """

    name: str
    points: int
    groups: int
    error: float
    worst: float
    inside: float
    roofline: float
    goal: float = math.nan
    in_fit: bool = False

    def line(self) -> str:
        """In words."""
        how = "in fit" if self.in_fit else "left out"
        goal = f", goal {100 * self.goal:.0f} %" if self.goal == self.goal else ""
        inside = f", range holds {100 * self.inside:.0f} %" if self.inside == self.inside else ""
        return (
            f"{self.name}: {self.points} points in {self.groups} groups, {how} {100 * self.error:.1f} %{goal}, worst "
            f"{100 * self.worst:.0f} %{inside}; a roofline of one factor {100 * self.roofline:.1f} %"
        )


def judge(
    name: str, residuals: Sequence[float], groups: Sequence[object], rooflines: Sequence[float], goal: float,
    *, in_fit: bool = False,
) -> Judged:  # fmt: skip
    """residuals: log(measured / predicted) of each point; groups: what it was left out with; rooflines: log(measured /
    roofline).
    """
    errors = [abs(math.expm1(-residual)) for residual in residuals]
    inside = math.nan if in_fit else share_inside(residuals, groups)
    return Judged(
        name,
        len(errors),
        len(set(groups)),
        fmean(errors),
        max(errors),
        inside,
        one_factor(rooflines, groups),
        goal,
        in_fit,
    )


def share_inside(residuals: Sequence[float], groups: Sequence[object], share: float = 0.9) -> float:
    """Share of points within the middle `share` of the residuals of all other groups; NaN of one group."""
    inside = 0
    for residual, group in zip(residuals, groups, strict=True):
        others = [value for value, other in zip(residuals, groups, strict=True) if other != group]
        if not others:
            return math.nan
        low, high = spread(others, len(set(groups)) - 1, share)
        inside += low <= residual <= high
    return inside / len(residuals)


def spread(values: Sequence[float], num_groups: int, share: float = 0.9) -> tuple[float, float]:
    """90 % range around 0 of values left out in so many groups: `middle`, wider where groups are few, as Student's law
    of as many degrees is wider than the normal one.
    """
    low, high = middle(values, share)
    wider = (STUDENT[num_groups - 1] if num_groups <= len(STUDENT) else NORMAL) / NORMAL
    return min(low, 0.0) * wider, max(high, 0.0) * wider


def middle(values: Sequence[float], share: float = 0.9) -> tuple[float, float]:
    """Ends of the middle `share` of the values, by quantiles of small samples (of n values the i-th stands at i / (n + 1)), not
    beyond the outermost.
    """
    ordered, tail = sorted(values), (1.0 - share) / 2.0
    place = min(max(tail * (len(ordered) + 1) - 1.0, 0.0), len(ordered) - 1.0)
    return _at(ordered, place), _at(ordered, len(ordered) - 1.0 - place)


def _at(ordered: Sequence[float], place: float) -> float:
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def one_factor(rooflines: Sequence[float], groups: Sequence[object]) -> float:
    """Mean |predicted / measured - 1| of a roofline times the factor that errs least on other groups; of one group, on all."""
    errors = []
    for own in dict.fromkeys(groups):
        rest = [value for value, group in zip(rooflines, groups, strict=True) if group != own]
        factor = best_factor(rest or rooflines)
        errors += [
            abs(factor / math.exp(value) - 1.0) for value, group in zip(rooflines, groups, strict=True) if group == own
        ]
    return fmean(errors)


def best_factor(logs: Sequence[float]) -> float:
    """The factor f with the least sum of |f / ratio - 1|: the median of the ratios, each weighing its inverse."""
    ratios = sorted(map(math.exp, logs))
    half, passed = sum(1.0 / ratio for ratio in ratios) / 2.0, 0.0
    for ratio in ratios:
        passed += 1.0 / ratio
        if passed >= half * (1.0 - 1e-12):
            return ratio
    return ratios[-1]
