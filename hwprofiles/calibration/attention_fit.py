"""Fits the constants of hwprofiles.kernels.attention to measured calls, and says how well on whole groups left out.

A family is a GPU, a library, a format and a pass. Its calls share t0, c_tokens, softmax_clocks and tail; each head size has a
rate of its own. Damped Gauss-Newton on log(measured / formula) with a robust loss, and log-normal priors around what kernels of
this kind have, so that a family without short calls keeps a plausible t0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwprofiles.calibration.reference_points import AttentionPoint
from hwprofiles.kernels.attention import AttentionConstants, CoreLimits, computed_head, core_seconds
from hwprofiles.units import MICRO

PRIOR = (10.0 * MICRO, 600.0, 0.05, 0.4)
"""t0 (s), c_tokens, softmax_clocks (an SM evaluates 16 exponentials a clock, most of them beside the products), tail."""
PRIOR_WIDTH = (0.8, 0.6, 0.4, 0.6)
"""Standard deviations of their logarithms."""
RATE_PRIOR, RATE_WIDTH = 0.8, 1.0
"""Of a rate share as log(share / (1 - share)): none is above the whole."""
NOISE = 0.03
"""Standard deviation of log(measured / formula) that the loss expects."""
STEP = 1e-4
ROUNDS = 60
MAX_STEP = 0.7

Values = NDArray[np.float64]
Group = Callable[[AttentionPoint], Hashable]


@dataclass(frozen=True, slots=True)
class AttentionFit:
    """Constants of one family; rate_share by head size; residuals log(measured / formula) in the order of the calls."""

    t0_s: float
    c_tokens: float
    softmax_clocks: float
    tail: float
    rate_share: Mapping[int, float]
    residuals: tuple[float, ...]

    def of(self, head_dim: int) -> AttentionConstants:
        """Constants of a head size: its own rate, else the nearest size's."""
        known = min(self.rate_share, key=lambda size: abs(size - head_dim))
        return AttentionConstants(self.t0_s, self.c_tokens, self.rate_share[known], self.softmax_clocks, self.tail)


def fit_attention(points: Sequence[AttentionPoint], limits: CoreLimits, library: str) -> AttentionFit:
    """The family's constants. Raises ValueError where there is no call."""
    if not points:
        raise ValueError("no calls to fit")
    sizes = sorted({computed_head(point.shape, library) for point in points})
    centre = np.array([*np.log(PRIOR), *[RATE_PRIOR] * len(sizes)])
    width = np.array([*PRIOR_WIDTH, *[RATE_WIDTH] * len(sizes)])

    def residuals(x: Values) -> Values:
        fit = _as_fit(x, sizes)
        return np.array([_residual(point, fit, limits, library) for point in points])

    x = minimise(residuals, centre, width)
    fit = _as_fit(x, sizes)
    return replace(fit, residuals=tuple(map(float, residuals(x))))


def left_out(
    points: Sequence[AttentionPoint], limits: CoreLimits, library: str, group: Group
) -> dict[Hashable, tuple[float, ...]]:
    """Group → log(measured / predicted) of its calls by constants that were fitted without them; those alone in their family
    and head size are left out of the answer: nothing else tells of them.
    """
    errors: dict[Hashable, tuple[float, ...]] = {}
    for name in dict.fromkeys(map(group, points)):
        held = [point for point in points if group(point) == name]
        rest = [point for point in points if group(point) != name]
        if not rest:
            continue
        fit = fit_attention(rest, limits, library)
        errors[name] = tuple(_residual(point, fit, limits, library) for point in held)
    return errors


def configuration(point: AttentionPoint) -> Hashable:
    """Calls that differ in length and batch alone: heads, their sizes, mask, window, and who measured them."""
    s = point.shape
    windowed = s.flop > 0.0
    return s.head_dim_qk, s.head_dim_v, s.heads, s.kv_heads, s.causal, windowed, point.source


def head_size(point: AttentionPoint) -> Hashable:
    """All calls of one head size."""
    return point.shape.head_dim_qk


def _residual(point: AttentionPoint, fit: AttentionFit, limits: CoreLimits, library: str) -> float:
    return math.log(
        point.seconds / core_seconds(fit.of(computed_head(point.shape, library)), limits, library, point.shape)
    )


def _as_fit(x: Values, sizes: Sequence[int]) -> AttentionFit:
    t0_s, c_tokens, softmax, tail = (float(value) for value in np.exp(x[: len(PRIOR)]))
    rates = [1.0 / (1.0 + math.exp(-value)) for value in x[len(PRIOR) :]]
    return AttentionFit(t0_s, c_tokens, softmax, tail, dict(zip(sizes, rates, strict=True)), ())


def minimise(residuals: Callable[[Values], Values], centre: Values, width: Values) -> Values:
    """Damped Gauss-Newton from the priors' centre: absolute errors, rounded off within NOISE, and normal priors."""
    x, damping = centre.copy(), 0.01
    at = _loss(residuals(x), x, centre, width)
    for _ in range(ROUNDS):
        errors = residuals(x)
        slope = np.stack([(residuals(x + STEP * unit) - errors) / STEP for unit in np.eye(len(x))], axis=1)
        weight = 1.0 / (np.sqrt(errors**2 + NOISE**2) * NOISE)
        hessian = slope.T @ (slope * weight[:, None]) + np.diag(1.0 / width**2)
        gradient = slope.T @ (errors * weight) + (x - centre) / width**2
        before = at
        for _ in range(8):
            step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
            trial = x + np.clip(step, -MAX_STEP, MAX_STEP)
            loss = _loss(residuals(trial), trial, centre, width)
            if loss < at:
                x, at, damping = trial, loss, max(damping / 3.0, 1e-6)
                break
            damping *= 4.0
        if before - at < 1e-6:
            break
    return x


def _loss(errors: Values, x: Values, centre: Values, width: Values) -> float:
    """Absolute errors, rounded off within the noise, and the priors."""
    return float(np.sum(np.sqrt(errors**2 + NOISE**2)) / NOISE + 0.5 * np.sum(((x - centre) / width) ** 2))
