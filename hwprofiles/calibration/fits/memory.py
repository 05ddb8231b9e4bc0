"""Memory-bound kernels: latency, share of the bandwidth, rates and exponent of kernels/memory_bound.py, by op and library.

Judged on whole widths and whole sizes left out. What every launch takes, `memory.launch_floor_s`, is the shortest that any
kernel takes besides its bytes; what a kernel takes longer is its latency. A class has the usual form; one that errs by more
than the goal or than a roofline with it has, of `memory_forms.forms`, the one that errs least left out, a roofline among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean, median
from typing import Any, Final

from hwprofiles.calibration.fits.judged import Judged, judge, spread
from hwprofiles.calibration.fits.memory_forms import (
    ALONE,
    GROUPS,
    SHARP,
    Form,
    elements,
    fit_form,
    forms,
    launches,
    not_in,
    predicted,
    usual_bound,
    without_late,
)
from hwprofiles.calibration.fits.parameter import Entry, Origin, parameters
from hwprofiles.calibration.fits.points import Cells, MemoryPoint, is_alone, measured, memory_points, state_of
from hwprofiles.calibration.fits.serving import serving
from hwprofiles.kernels.memory_bound import MemoryConstants
from hwprofiles.kernels.shape import OWN_STREAMS
from hwprofiles.schema import Gpu

GOAL: Final = 0.08
MISFIT, MUCH_BETTER, MANY_POINTS = 0.03, 0.7, 6
"""Mean misfit (log) of the sum above which SHARP is tried, share of it that it must be below, points that tell."""
CLEARLY: Final = 0.9
"""Share of the usual form's error, left out, up to which another replaces it, where a roofline is no better than it."""
MIN_POINTS: Final = 3
"""Fewest points of a fit that judges others."""
UNJUDGED: Final = 0.1
"""Half a range (log) of kernels of so few points that none could be left out."""
TELLING: Final = 2.0
"""Smallest call over what a call takes besides its bytes, up to which it tells that."""
LeftOut = tuple[MemoryPoint, Hashable, float]
"""Point, what was left out with it, log(measured / predicted)."""


class MemoryFit:
    """An op of a library, fitted to all its points and once without each width and each size."""

    def __init__(self, points: Sequence[MemoryPoint], bytes_per_s: float) -> None:
        self.points, self._rate = points, bytes_per_s
        names = [name for group in GROUPS for name in dict.fromkeys(map(group, points))]
        self._folds = [
            name for name in names if sum(not_in(point, name) for point in points) >= MIN_POINTS
        ]  # fmt: skip
        self._left_out = cache(self._left_out_of)
        self.form = self._best(self._usual())
        self.constants = fit_form(self.form, points, bytes_per_s)

    def _usual(self) -> Form:
        """SHARP of kernels of many points that it suits much better; chosen on all points, the same in all folds."""
        form = Form(usual_bound(self.points))
        sharp = form._replace(p=SHARP)
        if len(self.points) < MANY_POINTS:
            return form
        misfits = [
            fmean(map(abs, self._residuals(fit_form(each, self.points, self._rate), self.points)))
            for each in (form, sharp)
        ]
        return sharp if misfits[0] > MISFIT and misfits[1] < MUCH_BETTER * misfits[0] else form

    def _best(self, usual: Form) -> Form:
        if not self._folds or self._error(usual) <= min(GOAL, self._error(ALONE)):
            return usual
        best = min(forms(self.points, usual), key=self._error)
        enough = CLEARLY * self._error(usual) if self._error(usual) <= self._error(ALONE) else math.inf
        return best if self._error(best) <= enough else usual

    def _error(self, form: Form) -> float:
        """Left out, mean |predicted / measured - 1|."""
        return fmean(abs(math.expm1(-residual)) for _, _, residual in self._left_out(form))

    def _left_out_of(self, form: Form) -> list[LeftOut]:
        found: list[LeftOut] = []
        for name in self._folds:
            rest = [point for point in self.points if not_in(point, name)]
            own = [point for point in self.points if not not_in(point, name)]
            residuals = self._residuals(fit_form(form, rest, self._rate), own)
            found += [(point, name, residual) for point, residual in zip(own, residuals, strict=True)]
        return found

    def left_out(self) -> list[LeftOut]:
        """Of all folds: a point is in the fold of its width and in that of its size."""
        return self._left_out(self.form)

    @property
    def residuals(self) -> list[float]:
        """In fit."""
        return self._residuals(self.constants, self.points)

    def _residuals(self, constants: MemoryConstants, points: Sequence[MemoryPoint]) -> list[float]:
        seconds = predicted(constants, points, self._rate)
        return [math.log(point.seconds / float(each)) for point, each in zip(points, seconds, strict=True)]

    def judged(self, name: str) -> Judged:
        """How right it is. Beside it a roofline that has not seen what is left out either."""
        found = self.left_out()
        known = [(residual, name) for _, name, residual in found] or [(each, 0) for each in self.residuals]
        points = [point for point, _, _ in found] or list(self.points)
        rooflines = [math.log(point.seconds / (point.bytes / self._rate)) for point in points]
        verdict = judge(
            name, [each for each, _ in known], [group for _, group in known], rooflines, GOAL, in_fit=not found
        )
        return replace(verdict, roofline=self._error(ALONE)) if found else verdict

    def spread(self, *, of_long: bool) -> tuple[float, float]:
        """90 % range of measured / predicted of calls that take mostly their bytes, or of the others; of all where none are.

        Twice that in fit where nothing could be left out, and at least UNJUDGED.
        """
        left = self.left_out()
        if not left:
            worst = max(UNJUDGED, 2.0 * max(map(abs, self.residuals)))
            return math.exp(-worst), math.exp(worst)
        wait = TELLING * self.constants.latency_s
        alike = [residual for point, _, residual in left if (point.seconds > wait) == of_long]
        low, high = spread(alike or [residual for _, _, residual in left], len(self._folds))
        return math.exp(low), math.exp(high)

    def entries(self, stem: str, floor_s: float) -> Iterator[Entry]:
        """Its constants: each end is that of the calls that it decides."""
        low, high = self.spread(of_long=True)
        launched = floor_s * launches(self.points)
        wait = max(0.0, self.constants.latency_s - launched)
        share = self.constants.share
        yield stem, share, share / high, share / low, "1"
        shortest, longest = self.spread(of_long=False)
        ends = ((wait + launched) * end - launched for end in (shortest, longest))
        least, most = (max(0.0, end) for end in ends) if self.form.waits else (0.0, 0.0)
        yield f"{stem}.latency_s", wait, least, most, "s"
        if self.form.p != 1.0:
            yield f"{stem}.p", SHARP, 1.0, SHARP, "1"
        if self.form.bound == "exponent":
            exponent = self.constants.exponent
            yield f"{stem}.exponent", exponent, exponent, exponent, "1"
        for name, unit, rate, counts in (
            ("elements_per_s", "elements/s", self.constants.elements_per_s, elements),
            ("rows_per_s", "rows/s", self.constants.rows_per_s, _rows),
        ):
            if self._holds_up(rate, counts):
                yield f"{stem}.{name}", rate, rate / high, rate / low, unit

    def _holds_up(self, rate: float, counts: Callable[[MemoryPoint], int]) -> bool:
        """Whether a rate holds any of its calls up; else only the prior speaks."""
        at_share = self.constants.share * self._rate
        return any(counts(point) / rate > point.bytes / at_share for point in self.points)

    @property
    def tells_floor(self) -> bool:
        """Whether its smallest call is mostly launch."""
        return min(point.seconds for point in self.points) < TELLING * self.constants.latency_s


def _rows(point: MemoryPoint) -> int:
    return point.rows


def fitted(rows: Sequence[Cells], gpu: Gpu, origin: Origin) -> tuple[dict[str, Mapping[str, Any]], list[Judged]]:
    """Parameters of all memory-bound kernels in the rows, and how right each is."""
    own = [row for row in measured(rows, "memory") if is_alone(row, gpu.num_sms)]
    state = state_of(own)
    by_kernel: dict[tuple[str, str], list[MemoryPoint]] = {}
    for point in memory_points(own):
        by_kernel.setdefault((point.op, point.library), []).append(point)
    if not by_kernel:
        return {}, []
    pooled = {
        kernel: MemoryFit(without_late(points), gpu.hbm_bytes_per_s) for kernel, points in sorted(by_kernel.items())
    }
    apart = {kernel: part for whole, fit in pooled.items() for kernel, part in _apart(whole, fit, gpu)}
    judged = {
        kernel: fit.judged(".".join(("memory", *kernel))) for kernel, fit in sorted((pooled | apart).items())
        if not any(part[0] == kernel[0] and part[1].startswith(f"{kernel[1]}-") for part in apart)
    }  # fmt: skip
    # What is said of kernels that were not measured, is said by those that everybody runs.
    common = [fit for kernel, fit in pooled.items() if not kernel[1].startswith(OWN_STREAMS)] or list(pooled.values())
    floor, usual = launch_floor(common)
    shares = sorted(fit.constants.share for fit in common)
    found: dict[str, Mapping[str, Any]] = dict(
        parameters([("memory.launch_floor_s", floor, floor, max(floor, usual), "s")], origin, state, FLOOR)
    )
    found |= parameters([("memory.default", median(shares), shares[0], shares[-1], "1")], origin, state, DEFAULT)
    for kernel, fit in (pooled | apart).items():
        note = judged[kernel].line() if kernel in judged else f"memory.{'.'.join(kernel)}: {POOLED}"
        stem = _stem(kernel, [library for op, library in (pooled | apart) if op == kernel[0]])
        found |= parameters(fit.entries(stem, floor), origin, state, note)
    return found, list(judged.values())


def _apart(kernel: tuple[str, str], fit: MemoryFit, gpu: Gpu) -> Iterator[tuple[tuple[str, str], MemoryFit]]:
    """Its variants as libraries of their own where one fit does not hold for all."""
    op, library = kernel
    variants: dict[str, list[MemoryPoint]] = {}
    for point in fit.points:
        variants.setdefault(point.variant, []).append(point)
    if len(variants) > 1 and fmean(abs(each) for each in fit.residuals) > UNLIKE:
        for variant, points in variants.items():
            yield (op, f"{library}-{variant}"), MemoryFit(points, gpu.hbm_bytes_per_s)


def launch_floor(fits: Sequence[MemoryFit]) -> tuple[float, float]:
    """The least and the usual time of a launch besides its bytes, of kernels whose smallest call tells it, else of all."""
    telling = [fit for fit in fits if len(fit.points) >= MIN_POINTS and fit.tells_floor] or [
        fit for fit in fits if fit.form.waits
    ]
    floors = sorted(fit.constants.latency_s / launches(fit.points) for fit in telling)
    return floors[0], median(floors)


def _stem(kernel: tuple[str, str], libraries: Sequence[str]) -> str:
    """Beginning of the keys of a kernel's constants, the library that serves without its name; libraries: all of its op."""
    op, library = kernel
    return f"memory.{op}" if library == serving(op, libraries) else f"memory.{op}.{library}"


UNLIKE: Final = 0.06
"""Mean misfit (log) of a pooled fit above which variants are kernels of their own."""
FLOOR: Final = "the least that a launch of any memory-bound kernel takes besides its bytes"
DEFAULT: Final = "median of all memory-bound kernels that were measured, from the slowest to the fastest"
POOLED: Final = "its variants pooled, which are judged one by one"
