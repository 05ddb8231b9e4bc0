"""Fits t = t0 + FLOP * (1 + c / seq) / rate to measured attention calls: grid over c and t0, rate in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwprofiles.calibration.reference_points import AttentionPoint
from hwprofiles.units import MICRO

GRID_C_TOKENS = tuple(range(0, 2001, 20))
GRID_T0_S = tuple(step * 2.5 * MICRO for step in range(11))


@dataclass(frozen=True, slots=True)
class AttentionFit:
    """Constants of one kernel family: t0 (s), c (tokens), rate (FLOP/s); residuals log(measured / formula)."""

    t0_s: float
    c_tokens: float
    rate_flop_per_s: float
    residuals: tuple[float, ...]


def fit_attention(points: Sequence[AttentionPoint]) -> AttentionFit:
    """The grid point of the smallest mean absolute log residual. Raises ValueError for fewer than 3 points."""
    if len(points) < 3:
        raise ValueError(f"{len(points)} points cannot fit 3 constants")
    fits = (_with(points, t0_s, c_tokens) for t0_s in GRID_T0_S for c_tokens in GRID_C_TOKENS)
    return min((fit for fit in fits if fit is not None), key=lambda fit: sum(map(abs, fit.residuals)))


def _with(points: Sequence[AttentionPoint], t0_s: float, c_tokens: float) -> AttentionFit | None:
    """The fit for a given t0 and c; None where t0 is longer than a call."""
    if any(point.seconds <= t0_s for point in points):
        return None
    work = [point.shape.attention_flop * (1.0 + c_tokens / point.shape.seq) for point in points]
    logs = [math.log(flop / (point.seconds - t0_s)) for flop, point in zip(work, points, strict=True)]
    rate = math.exp(sum(logs) / len(logs))
    residuals = (math.log(p.seconds / (t0_s + flop / rate)) for p, flop in zip(points, work, strict=True))
    return AttentionFit(t0_s, c_tokens, rate, tuple(residuals))
