"""A formula's seconds corrected by the measured rows near the asked shape: interpolation on (measured / formula)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hwprofiles.kernels.parameters import Range
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.provenance import Basis, State

Formula = Callable[[KernelShape], float]
Coordinates = Callable[[KernelShape], tuple[float, ...]]

RANGE_SLACK = 1.0
"""Inside the measured range means within a factor 2 of it: one unit of log2."""
SAME_SIZE = math.log2(1.05)
"""Rows of one line closer than 5 % are one point: their difference is noise, not shape."""
SMOOTHING = 0.02
"""Distance (log2) below which rows share their weight; keeps the correction continuous at a row."""
GENERIC_RESIDUAL = Range(1.0, 0.7, 1.4)
"""Measured over formula where only the form of the formula is known, as a factor: assumed."""
FAR = 4.0
"""Distance (doublings) at which a row weighs as much as the fitted constants alone, where a stack does not say (ANCHOR)."""
ANCHOR = "anchor_doublings"
"""Name of a stack's parameter for that distance: short where the constants were fitted to the very rows."""


@dataclass(frozen=True, slots=True)
class KernelCost:
    """Seconds of one call, its range, how it was obtained and from which source; state: of the chip then, None: as the stack's
    provenance says.
    """

    seconds: float
    low: float
    high: float
    basis: Basis
    source: str
    state: State | None = None

    def scaled(self, by: Range) -> KernelCost:
        """The cost times a factor with a range."""
        return replace(self, seconds=self.seconds * by.value, low=self.low * by.low, high=self.high * by.high)


def derived_basis(row: KernelRow, inside: bool) -> Basis:
    """Basis of a value derived from a row: rows that were not measured pass on their own."""
    if row.basis != "measured":
        return row.basis
    return "interpolated" if inside else "extrapolated"


def row_cost(row: KernelRow) -> KernelCost:
    """A row as it stands."""
    return KernelCost(row.seconds, row.low, row.high, row.basis, row.source, row.state)


def anchored(
    shape: KernelShape,
    rows: Sequence[KernelRow],
    formula: Formula,
    coordinates: Coordinates,
    extents: Coordinates,
    residual: Range,
    unanchored_s: float | None = None,
    far: float = FAR,
) -> KernelCost:
    """formula(shape) times the inverse-distance mean of measured / formula over rows of the same kind of kernel.

    coordinates: where distance is measured, in doublings; extents: log2 sizes whose measured range decides between
    interpolated and extrapolated. residual: range of measured / formula, reached several doublings away from any row.
    unanchored_s: what fitted constants say without the rows; it counts as a row `far` doublings away, so that rows of
    quite another size decide nothing (None: the constants are only a form, the rows decide alone).
    """
    here = coordinates(shape)
    squares = [math.fsum((a - b) ** 2 for a, b in zip(here, coordinates(row.shape), strict=True)) for row in rows]
    weights = [1.0 / (square + SMOOTHING**2) ** 2 for square in squares]
    prior_weight = 0.0 if unanchored_s is None else far**-4
    total = math.fsum(weights) + prior_weight
    at = formula(shape)
    correction = 0.0 if unanchored_s is None else prior_weight / total * math.log(unanchored_s / at)
    lower = upper = 0.0
    for row, weight in zip(rows, weights, strict=True):
        correction += weight / total * math.log(row.seconds / formula(row.shape))
        lower += weight / total * math.log(row.low / row.seconds)
        upper += weight / total * math.log(row.high / row.seconds)
    nearest_idx = min(range(len(rows)), key=squares.__getitem__)
    inside = _is_inside(extents(shape), [extents(row.shape) for row in rows])
    doubt = (math.sqrt(squares[nearest_idx]) + (0.0 if inside else 1.0)) * FAR / far
    cost = _with_doubt(at * math.exp(correction), (lower, upper), doubt, residual, rows[nearest_idx], inside)
    if prior_weight > 0.5 * total:
        return replace(cost, basis=residual.basis, source=residual.source, state=residual.state)
    return cost


def _is_inside(here: tuple[float, ...], places: Sequence[tuple[float, ...]]) -> bool:
    """Whether each log2 size lies within a factor 2 of the measured range."""
    return all(
        min(sizes) - RANGE_SLACK <= size <= max(sizes) + RANGE_SLACK
        for size, sizes in zip(here, zip(*places, strict=True), strict=True)
    )


def _with_doubt(
    seconds: float, spread: tuple[float, float], distance: float, residual: Range, row: KernelRow, inside: bool
) -> KernelCost:
    """The range grows from the rows' own to the formula's residual with the distance (log2) from the nearest row."""
    share = distance / (distance + 1.0) * (1.0 if inside else 1.5)
    low = seconds * math.exp(spread[0] + share * math.log(residual.low))
    high = seconds * math.exp(spread[1] + share * math.log(residual.high))
    return KernelCost(seconds, min(low, seconds), max(high, seconds), derived_basis(row, inside), row.source, row.state)


def along_line(
    shape: KernelShape,
    rows: Sequence[KernelRow],
    size: Callable[[KernelShape], float],
    formula: Formula,
    residual: Range,
) -> KernelCost:
    """Rows that differ only in `size` (the token rows of a GEMM): measured / formula interpolated over log size.

    Between two points the seconds stay between theirs, so that more tokens are never faster; beyond the ends, and with
    one point, the end point's correction holds.
    """
    points = pooled_points(sorted(rows, key=lambda row: size(row.shape)), size, formula)
    place = math.log2(size(shape))
    at = formula(shape)
    nearest = min(rows, key=lambda row: abs(math.log2(size(row.shape)) - place))
    spread = (math.log(nearest.low / nearest.seconds), math.log(nearest.high / nearest.seconds))
    first, last = points[0], points[-1]
    if place <= first[0]:
        seconds = min(at * math.exp(first[1]), first[2])
        distance, inside = first[0] - place, place >= first[0] - RANGE_SLACK
    elif place >= last[0]:
        seconds = max(at * math.exp(last[1]), last[2])
        distance, inside = place - last[0], place <= last[0] + RANGE_SLACK
    else:
        i = next(i for i in range(1, len(points)) if place <= points[i][0])
        (x0, r0, t0), (x1, r1, t1) = points[i - 1], points[i]
        weight = (place - x0) / (x1 - x0)
        seconds = min(max(at * math.exp(r0 + weight * (r1 - r0)), t0), t1)
        distance, inside = min(place - x0, x1 - place), True
    return _with_doubt(seconds, spread, distance, residual, nearest, inside)


def pooled_points(
    rows: Sequence[KernelRow], size: Callable[[KernelShape], float], formula: Formula
) -> list[tuple[float, float, float]]:
    """(log2 size, log of measured / formula, seconds) of the rows, pooled until the seconds rise with the size."""
    pools: list[list[float]] = []  # sums of log2 size, correction, log seconds, and the count
    for row in rows:
        pools.append(
            [math.log2(size(row.shape)), math.log(row.seconds / formula(row.shape)), math.log(row.seconds), 1.0]
        )
        while len(pools) > 1 and _belongs(pools[-2], pools[-1]):
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return [(x / count, r / count, math.exp(t / count)) for x, r, t, count in pools]


def _belongs(before: list[float], after: list[float]) -> bool:
    """Whether two neighbouring pools are one point: nearly the same size, or the larger one faster."""
    same = after[0] / after[3] - before[0] / before[3] < SAME_SIZE
    return same or after[2] / after[3] < before[2] / before[3]


def unanchored(seconds: float, residual: Range) -> KernelCost:
    """What fitted constants say without any row."""
    low, high = seconds * residual.low, seconds * residual.high
    return KernelCost(seconds, low, high, residual.basis, residual.source, residual.state)
