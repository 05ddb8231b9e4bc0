"""The law of loads over an expert group: gamma variates scaled to their sum (a symmetric Dirichlet law).

Of n places with variates of shape a: the load over the mean load has variance (n - 1) / (n a + 1); its maximum over the
places has the mean of the maximum of n gamma variates over a, because the sum is independent of the shares.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, inf, lgamma, log, sqrt

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.errors import InputError

MIN_SHAPE, MAX_SHAPE = 0.05, 1e8
"""Below the first the variates underflow; above the second loads are even to 1e-4."""
GRID = 4_001
BISECTIONS = 60


def gamma_shape(variance: float, places: int) -> float:
    """Shape of the variates that gives the loads of `places` this variance (mean 1); infinite for even loads.

    Raises InputError for a variance that is out of reach: more than nearly all load on one place.
    """
    if variance <= 0 or places == 1:
        return inf
    shape = ((places - 1) / variance - 1.0) / places
    if shape < MIN_SHAPE:
        highest = sqrt((places - 1) / (places * MIN_SHAPE + 1))
        raise InputError(
            f"loads of {places} places cannot vary by {sqrt(variance):.3g} (standard deviation over mean); "
            f"allowed up to {highest:.3g}"
        )
    return shape


def expected_maximum(cv: float, places: int) -> float:
    """Expected maximum over mean of the loads of `places` whose coefficient of variation is cv. Raises InputError."""
    return _maximum(gamma_shape(cv**2, places), places)


@lru_cache(maxsize=4096)
def cv_of_maximum(maximum: float, places: int) -> float:
    """Coefficient of variation of the loads whose expected maximum over mean is the given one: solves expected_maximum.

    Raises InputError for a maximum below 1 or one that `places` cannot have.
    """
    highest = _maximum(MIN_SHAPE, places) if places > 1 else 1.0
    if not 1.0 <= maximum <= highest:
        raise InputError(
            f"load_imbalance {maximum:.6g} over {places} ranks; allowed 1 (even) to {highest:.4g} (nearly all on one rank)"
        )
    if maximum <= _maximum(MAX_SHAPE, places):
        return 0.0
    low, high = log(MIN_SHAPE), log(MAX_SHAPE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _maximum(exp(middle), places) > maximum else (low, middle)
    return sqrt((places - 1) / (places * exp(low) + 1))


def gamma_steps(shape: float) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Gamma variates of this shape (mean: the shape) in steps of u = ln x: mass below the first, mass and x of each step.

    In u the density exp(a u - e^u) / Gamma(a) has no pole at 0 for shapes below 1.
    """
    start = log(shape) - 12.0 / sqrt(shape) if shape > 1 else -12.0 / shape
    u = np.linspace(start, log(shape + 12.0 * sqrt(shape) + 40.0), GRID)
    density = portable.exp(shape * u - portable.exp(u) - lgamma(shape))
    below = exp(shape * float(u[0]) - exp(float(u[0])) - lgamma(shape + 1.0))
    return below, (density[1:] + density[:-1]) / 2 * np.diff(u), portable.exp((u[1:] + u[:-1]) / 2)


@lru_cache(maxsize=4096)
def _maximum(shape: float, places: int) -> float:
    """Mean of the maximum of gamma variates of this shape and mean 1: the integral of x d(F^places)."""
    if shape == inf or places == 1:
        return 1.0
    below, steps, x = gamma_steps(shape)
    cdf = np.concatenate(([below], below + np.cumsum(steps)))
    mass = np.diff(portable.power(cdf / cdf[-1], places))
    return float((x * mass).sum() / shape)
