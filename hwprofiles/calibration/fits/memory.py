"""Memory-bound kernels: latency, share of the bandwidth and rate of elements of kernels/memory_bound.py, by op and library.

Judged on whole widths and whole sizes left out. What every launch takes, `memory.launch_floor_s`, is the shortest that any
kernel takes besides its bytes; what a kernel takes longer is its latency.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final

import numpy as np

from hwprofiles.calibration.attention_fit import Values, minimise
from hwprofiles.calibration.fits.judged import Judged, judge, spread
from hwprofiles.calibration.fits.parameter import Entry, Origin, parameters
from hwprofiles.calibration.fits.points import Cells, MemoryPoint, is_alone, measured, memory_points, state_of
from hwprofiles.calibration.fits.serving import serving
from hwprofiles.schema import Gpu
from hwprofiles.units import MICRO

GOAL: Final = 0.08
PRIOR: Final = (3.0 * MICRO, 0.7)
"""Seconds besides the bytes, share of the bandwidth; a rate of elements, where bytes an element differ, is sought around the
highest that any call reached.
"""
WIDTH: Final = (1.0, 0.7, 1.0)
"""Standard deviations of their logarithms."""
SHARP, MISFIT, MUCH_BETTER, MANY_POINTS = 3.0, 0.03, 0.7, 6
"""p of kernels whose waiting passes beside the moving; mean misfit (log) of the sum above which it is tried, share of it that
it must be below, points that tell.
"""
MIN_POINTS: Final = 3
"""Fewest points of a fit that judges others."""
UNJUDGED: Final = 0.1
"""Half a range (log) of kernels of so few points that none could be left out."""
TELLING: Final = 2.0
"""Smallest call over what a call takes besides its bytes, up to which it tells that."""
MANY: Final = 1.2
"""Bytes an element of two points that differ by such a factor tell bytes from elements."""


LATE: Final = 1.1
"""A call that takes so much longer than one of more bytes and elements waited for the host: it is left out."""


def without_late(points: Sequence[MemoryPoint]) -> list[MemoryPoint]:
    """Points that are not slower than larger ones."""

    def larger(point: MemoryPoint) -> list[float]:
        return [other.seconds for other in points if other.bytes >= point.bytes and elements(other) >= elements(point)]

    return [point for point in points if point.seconds <= LATE * min(larger(point), default=math.inf)]


class MemoryFit:
    """An op of a library, fitted to all its points and once without each width and each size."""

    def __init__(self, points: Sequence[MemoryPoint], bytes_per_s: float) -> None:
        self.points, self._rate = points, bytes_per_s
        self._has_elements = _tells_elements(points)
        p = self._sharpness()
        self.constants = self._fit(points, p)
        names = [name for group in GROUPS for name in dict.fromkeys(map(group, points))]
        self._folds = {
            name: self._fit([each for each in points if _not_in(each, name)], p)
            for name in names
            if self._may_leave(name)
        }

    def _may_leave(self, name: Hashable) -> bool:
        return sum(_not_in(point, name) for point in self.points) >= MIN_POINTS

    def _sharpness(self) -> float:
        """p: SHARP of kernels of many points that it suits much better, else 1; chosen on all points, the same in all folds."""
        if len(self.points) < MANY_POINTS:
            return 1.0
        misfits = [fmean(abs(each) for each in self._residuals(self._fit(self.points, p))) for p in (1.0, SHARP)]
        return SHARP if misfits[0] > MISFIT and misfits[1] < MUCH_BETTER * misfits[0] else 1.0

    def _fit(self, points: Sequence[MemoryPoint], p: float) -> Values:
        """Constants: seconds besides the bytes, share, p, and the rate of elements where there is one."""
        start = [PRIOR[0] * _launches(points), PRIOR[1]]
        if self._has_elements:
            start.append(max(elements(point) / point.seconds for point in points))
        seconds = np.array([point.seconds for point in points])

        def residuals(x: Values) -> Values:
            return np.asarray(np.log(seconds / self.predict(np.insert(np.exp(x), 2, p), points)))

        found = minimise(residuals, np.log(np.array(start)), np.array(WIDTH[: len(start)]))
        return np.insert(np.exp(found), 2, p)

    def predict(self, constants: Values, points: Sequence[MemoryPoint]) -> Values:
        """Seconds of the points."""
        moving = np.array([point.bytes for point in points]) / (constants[1] * self._rate)
        if self._has_elements:
            moving = np.maximum(moving, np.array([elements(point) for point in points]) / constants[3])
        p = constants[2]
        return np.asarray((constants[0] ** p + moving**p) ** (1.0 / p))

    def left_out(self) -> Iterator[tuple[MemoryPoint, Hashable, float]]:
        """Point, what was left out with it, log(measured / predicted)."""
        for name, constants in self._folds.items():
            own = [point for point in self.points if not _not_in(point, name)]
            for point, seconds in zip(own, self.predict(constants, own), strict=True):
                yield point, name, math.log(point.seconds / float(seconds))

    @property
    def residuals(self) -> list[float]:
        """In fit."""
        return self._residuals(self.constants)

    def _residuals(self, constants: Values) -> list[float]:
        predicted = self.predict(constants, self.points)
        return [math.log(point.seconds / float(seconds)) for point, seconds in zip(self.points, predicted, strict=True)]

    def judged(self, name: str) -> Judged:
        """How right it is."""
        found = list(self.left_out())
        known = [(residual, name) for _, name, residual in found] or [(each, 0) for each in self.residuals]
        points = [point for point, _, _ in found] or list(self.points)
        rooflines = [math.log(point.seconds / (point.bytes / self._rate)) for point in points]
        return judge(
            name, [each for each, _ in known], [group for _, group in known], rooflines, GOAL, in_fit=not found
        )

    def spread(self, *, of_long: bool) -> tuple[float, float]:
        """90 % range of measured / predicted of calls that take mostly their bytes, or of the others; of all where none are.

        Twice that in fit where nothing could be left out, and at least UNJUDGED.
        """
        left = list(self.left_out())
        if not left:
            worst = max(UNJUDGED, 2.0 * max(map(abs, self.residuals)))
            return math.exp(-worst), math.exp(worst)
        wait = TELLING * float(self.constants[0])
        alike = [residual for point, _, residual in left if (point.seconds > wait) == of_long]
        low, high = spread(alike or [residual for _, _, residual in left], len(self._folds))
        return math.exp(low), math.exp(high)

    def entries(self, stem: str, floor_s: float) -> Iterator[Entry]:
        """Its constants: each end is that of the calls that it decides."""
        low, high = self.spread(of_long=True)
        launched = floor_s * _launches(self.points)
        wait = max(0.0, float(self.constants[0]) - launched)
        share = float(self.constants[1])
        yield stem, share, share / high, share / low, "1"
        shortest, longest = self.spread(of_long=False)
        least, most = (max(0.0, (wait + launched) * end - launched) for end in (shortest, longest))
        yield f"{stem}.latency_s", wait, least, most, "s"
        if self.constants[2] != 1.0:
            yield f"{stem}.p", SHARP, 1.0, SHARP, "1"
        if self._has_elements and self._counts_elements:
            rate = float(self.constants[3])
            yield f"{stem}.elements_per_s", rate, rate / high, rate / low, "elements/s"

    @property
    def _counts_elements(self) -> bool:
        """Whether the rate of elements holds any of its calls up; else only the prior speaks."""
        share, rate = float(self.constants[1]), float(self.constants[3])
        return any(elements(point) / rate > point.bytes / (share * self._rate) for point in self.points)

    @property
    def tells_floor(self) -> bool:
        """Whether its smallest call is mostly launch."""
        return min(point.seconds for point in self.points) < TELLING * float(self.constants[0])


def _width(point: MemoryPoint) -> Hashable:
    return "width", point.width


def _size(point: MemoryPoint) -> Hashable:
    """Sizes within a factor 2 are one."""
    return "size", round(math.log2(point.bytes))


GROUPS: Final = (_width, _size)


def _not_in(point: MemoryPoint, name: Hashable) -> bool:
    return all(group(point) != name for group in GROUPS)


def elements(point: MemoryPoint) -> int:
    """Of the result: rows times width; 0 where it is not stated."""
    return point.rows * max(point.width, 1)


def _tells_elements(points: Sequence[MemoryPoint]) -> bool:
    ratios = [point.bytes / elements(point) for point in points if elements(point)]
    return len(ratios) == len(points) and max(ratios) > MANY * min(ratios)


def _launches(points: Sequence[MemoryPoint]) -> float:
    return median(point.launches for point in points)


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
    floor, usual = launch_floor(list(pooled.values()))
    shares = sorted(float(fit.constants[1]) for fit in pooled.values())
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
    telling = [fit for fit in fits if len(fit.points) >= MIN_POINTS and fit.tells_floor] or fits
    floors = sorted(float(fit.constants[0]) / _launches(fit.points) for fit in telling)
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
