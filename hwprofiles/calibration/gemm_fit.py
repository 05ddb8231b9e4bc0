"""Fits the eight constants of gemm.py to measured GEMMs: least squares on log(formula / measured) with priors.

Levenberg-Marquardt on the logarithms of the constants, derivatives by differences (the formula is piecewise smooth), a
Huber weight against the wild points of public tables. Judged on whole weight shapes left out, never on random points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwprofiles.kernels.gemm_formula import GemmBatch, GemmConstants, GemmLimits, GemmSize, Tiles, gemm_seconds
from hwprofiles.units import GIBI

FITTED = ("t0_s", "t_tile_s", "st_bytes_per_s", "l2_bytes_per_s", "eta", "ecap", "eb", "p")
HUBER = 0.12
"""Residual (log) beyond which a point pulls with constant force, where points are few and good."""
STRICT_HUBER = 0.05
"""The same for long tables of frameworks, whose libraries choose a wrong tile here and there."""
SLOWER_THAN_MORE = 1.1
"""A call that takes so much longer than one of more rows of the same weight is wild: something else than its size held it."""
BIG = float(GIBI)
"""m * n * k from which errors are judged, 2^30: below it launches and host decide."""
DIFFERENCE = 0.01
"""Step (log) of the numerical derivative: several tiles wide, so that single jumps do not decide."""
MAX_ROUNDS = 60
MIN_POINTS = 4
"""Fewest measurements of a fit; the priors carry the constants that they leave open."""
UPPER = {"eta": 1.0, "ecap": 1.0, "eb": 1.0}
LOWER = {"q": 1.0, "slow": 1.0, "skew": 1.0}
"""Physical bounds: no share above the datasheet, no store longer than after the main loop."""
WILD_AT_START, WILD = 0.6, 0.3
"""Distance (log) from the others, before and after a first fit, of a call whose library chose a wrong kernel."""
MOST_WILD = 0.3
"""Share of the points up to which such calls are left aside."""


@dataclass(frozen=True, slots=True)
class GemmPoint:
    """A measured GEMM: size, seconds, and the bytes that the timed call quantises first (0: none)."""

    size: GemmSize
    seconds: float
    quantised_bytes: float = 0.0

    @property
    def weight_shape(self) -> tuple[int, int]:
        """What one fold leaves out: all token counts of one weight matrix (outputs, inputs), whatever the pass."""
        if self.size.variant == "wgrad":
            return self.size.m, self.size.n
        return (self.size.k, self.size.n) if self.size.variant == "dgrad" else (self.size.n, self.size.k)

    @property
    def rows(self) -> int:
        """The dimension that counts tokens."""
        return self.size.k if self.size.variant == "wgrad" else self.size.m


@dataclass(frozen=True, slots=True)
class Prior:
    """Start and pull of a constant: log-normal around `value` with relative width `width`."""

    value: float
    width: float


PriorsWithout = Callable[[tuple[int, int]], Mapping[str, Prior]]
"""Weight shape → priors of a fit that may not know it."""


@dataclass(frozen=True, slots=True)
class GemmFit:
    """Fitted constants, the quantiser's rate (bytes/s; 0 where none), their standard errors (log), and residuals.

    residuals: log(measured / formula) in sample; left_out: the same for weight shapes that the fit did not see; blind:
    constants without each weight shape.
    """

    constants: GemmConstants
    quantise_bytes_per_s: float
    log_errors: Mapping[str, float]
    residuals: tuple[float, ...]
    left_out: tuple[float, ...] = ()
    blind: Mapping[tuple[int, int], GemmConstants] = field(default_factory=dict)

    def doubled(self) -> GemmFit:
        """Twice the residuals in fit for left-out ones: too few weight shapes to leave any out."""
        return replace(self, left_out=tuple(2.0 * residual for residual in self.residuals))


def without_wild(points: Sequence[GemmPoint]) -> list[GemmPoint]:
    """Points that are not slower than larger ones: no call takes SLOWER_THAN_MORE times one of more rows of its weight."""

    def larger(point: GemmPoint) -> list[float]:
        return [
            other.seconds for other in points
            if (other.weight_shape, other.size.groups, other.size.variant)
            == (point.weight_shape, point.size.groups, point.size.variant) and other.rows > point.rows
        ]  # fmt: skip

    return [point for point in points if point.seconds <= SLOWER_THAN_MORE * min(larger(point), default=math.inf)]


def coverage(fit: GemmFit, points: Sequence[GemmPoint], share: float = 0.9) -> float:
    """Share of points that lie in the middle `share` of the left-out residuals of all *other* weight shapes."""
    tail, inside = (1.0 - share) / 2.0, 0
    for point, residual in zip(points, fit.left_out, strict=True):
        others = [
            value for other, value in zip(points, fit.left_out, strict=True) if other.weight_shape != point.weight_shape
        ]
        low, high = np.quantile(others, (tail, 1.0 - tail))
        inside += bool(low <= residual <= high)
    return inside / len(points)


def mean_error(fit: GemmFit, points: Sequence[GemmPoint], smallest: float = BIG) -> float:
    """Mean absolute error of left-out weight shapes, over points of m * n * k of at least `smallest`."""
    errors = [
        abs(math.expm1(-residual)) for point, residual in zip(points, fit.left_out, strict=True)
        if point.size.flop >= 2.0 * smallest
    ]  # fmt: skip
    return math.fsum(errors) / len(errors)


def predict(point: GemmPoint, constants: GemmConstants, limits: GemmLimits, quantise_bytes_per_s: float) -> float:
    """Seconds of the timed call, its quantisation included."""
    extra = point.quantised_bytes / quantise_bytes_per_s if quantise_bytes_per_s else 0.0
    return gemm_seconds.__wrapped__(point.size, constants, limits) + extra


def fit_gemm(
    points: Sequence[GemmPoint], limits: GemmLimits, priors: Mapping[str, Prior], tiles: Tiles,
    huber: float = HUBER, *, drop_wild: bool = False,
) -> GemmFit:  # fmt: skip
    """Fit the constants named in `priors` (FITTED, and `quantise` where the timed call quantises).

    drop_wild: what is WILD is left aside, where it is few; its residuals are given too.

    Raises ValueError for fewer than MIN_POINTS points.
    """
    if len(points) < MIN_POINTS:
        raise ValueError(f"{len(points)} points cannot fit {len(priors)} constants, at least {MIN_POINTS} are needed")
    problem = _Problem(points, limits, priors, tiles, huber)
    if not drop_wild:
        return problem.fit(problem.everything)
    start = problem.tame(problem.residuals(problem.centre), WILD_AT_START)
    first = problem.fit(start)
    kept = problem.tame(np.array(first.residuals), WILD)
    return first if (kept == start).all() else problem.fit(kept)


class _Problem:
    """Points, and the constants that are sought by name, as logarithms."""

    def __init__(
        self, points: Sequence[GemmPoint], limits: GemmLimits, priors: Mapping[str, Prior], tiles: Tiles, huber: float
    ) -> None:
        self._names, self._tiles, self._huber = tuple(priors), tiles, huber
        self._bounds = _bounds(self._names)
        self.centre = np.minimum([math.log(prior.value) for prior in priors.values()], self._bounds[1] - 1e-6)
        self._centre = np.array([math.log(prior.value) for prior in priors.values()])
        self._width = np.array([prior.width for prior in priors.values()])
        self._batch = GemmBatch([point.size for point in points], tiles, limits)
        self._measured = np.array([point.seconds for point in points])
        self._quantised = np.array([point.quantised_bytes for point in points])
        self.everything = np.ones(len(points), bool)

    def residuals(self, logs: np.ndarray) -> np.ndarray:
        """log(measured / formula) of every point."""
        constants, rate = _constants(self._names, logs, self._tiles)
        seconds = self._batch.seconds(constants) + (self._quantised / rate if rate else 0.0)
        return np.asarray(np.log(self._measured / seconds))

    def tame(self, residuals: np.ndarray, wild: float) -> np.ndarray:
        """Points within `wild` of the residuals' median; all, where too many are not."""
        kept = np.abs(residuals - np.median(residuals)) <= wild
        enough = kept.sum() >= max(MIN_POINTS, (1.0 - MOST_WILD) * len(kept))
        return np.asarray(kept) if enough else self.everything

    def fit(self, kept: np.ndarray) -> GemmFit:
        """Constants of the kept points, residuals of all."""

        def residuals(logs: np.ndarray) -> np.ndarray:
            return self.residuals(logs)[kept]

        logs, jacobian = _levenberg(residuals, self.centre, self._centre, self._width, self._bounds, self._huber)
        found = residuals(logs)
        weights = _huber(found, self._huber)
        sigma2 = float((weights * found**2).sum() / max(1, len(found) - 1))
        information = (jacobian.T * weights) @ jacobian / max(sigma2, 1e-6) + np.diag(1.0 / self._width**2)
        errors = map(float, np.sqrt(np.diag(np.linalg.inv(information))))
        constants, rate = _constants(self._names, logs, self._tiles)
        return GemmFit(
            constants, rate, dict(zip(self._names, errors, strict=True)), tuple(map(float, self.residuals(logs)))
        )


def with_folds(
    points: Sequence[GemmPoint], limits: GemmLimits, priors: Mapping[str, Prior], tiles: Tiles,
    huber: float = HUBER, *, drop_wild: bool = False, without: PriorsWithout | None = None,
) -> GemmFit:  # fmt: skip
    """As fit_gemm, and each weight shape predicted by a fit that has not seen it (in the order of the points).

    without: priors that have not seen a weight shape either, where `priors` come from measurements; None: they do not.
    """
    fit = fit_gemm(points, limits, priors, tiles, huber, drop_wild=drop_wild)
    left_out, folds = [0.0] * len(points), {}
    for shape in sorted({point.weight_shape for point in points}):
        seen = [point for point in points if point.weight_shape != shape]
        blind = fit_gemm(seen, limits, without(shape) if without else priors, tiles, huber, drop_wild=drop_wild)
        folds[shape] = blind.constants
        for i, point in enumerate(points):
            if point.weight_shape == shape:
                seconds = predict(point, blind.constants, limits, blind.quantise_bytes_per_s)
                left_out[i] = math.log(point.seconds / seconds)
    return replace(fit, left_out=tuple(left_out), blind=folds)


def _bounds(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the lowest and the highest values."""
    low = [math.log(LOWER[name]) if name in LOWER else -math.inf for name in names]
    return np.array(low), np.array([math.log(UPPER.get(name, math.inf)) for name in names])


def _constants(names: Sequence[str], logs: np.ndarray, tiles: Tiles) -> tuple[GemmConstants, float]:
    values: dict[str, Any] = {name: math.exp(value) for name, value in zip(names, logs, strict=True)}
    rate = values.pop("quantise", 0.0)
    return GemmConstants(**values, **tiles._asdict()), rate


def _huber(residuals: np.ndarray, huber: float) -> np.ndarray:
    """Weight of each point: 1 up to `huber`, falling beyond."""
    weights: np.ndarray = np.minimum(1.0, huber / np.maximum(np.abs(residuals), huber / 2))
    return weights


def _loss(residuals: np.ndarray, logs: np.ndarray, centre: np.ndarray, width: np.ndarray, huber: float) -> float:
    size = np.abs(residuals)
    robust = np.where(size <= huber, size**2, huber * (2 * size - huber)).sum() / NOISE**2
    return float(robust + (((logs - centre) / width) ** 2).sum())


NOISE = 0.04
"""Expected misfit (log): sets how strongly the priors pull against the points."""


def _levenberg(
    residuals: Callable[[np.ndarray], np.ndarray],
    logs: np.ndarray,
    centre: np.ndarray,
    width: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    huber: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the robust loss; returns the logs of the constants and the Jacobian of the model there."""
    damping = 1.0
    found = residuals(logs)
    loss = _loss(found, logs, centre, width, huber)
    jacobian = _jacobian(residuals, logs)
    for _ in range(MAX_ROUNDS):
        weights = _huber(found, huber) / NOISE**2
        hessian = (jacobian.T * weights) @ jacobian + np.diag(1.0 / width**2)
        gradient = (jacobian.T * weights) @ found - (logs - centre) / width**2
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
        tried = np.clip(logs + step, *bounds)
        at = residuals(tried)
        new_loss = _loss(at, tried, centre, width, huber)
        if new_loss < loss:
            done = loss - new_loss < 1e-4 * loss
            logs, found, loss, damping = tried, at, new_loss, damping / 3
            jacobian = _jacobian(residuals, logs)
            if done:
                break
        else:
            damping *= 4
            if damping > 1e6:
                break
    return logs, jacobian


def _jacobian(residuals: Callable[[np.ndarray], np.ndarray], logs: np.ndarray) -> np.ndarray:
    """d log(formula) / d log(constant), by central differences."""
    columns = []
    for i in range(len(logs)):
        step = np.zeros_like(logs)
        step[i] = DIFFERENCE
        columns.append((residuals(logs - step) - residuals(logs + step)) / (2 * DIFFERENCE))
    return np.stack(columns, axis=1)
