"""GPUs of one kind differ in speed: leakage and cooling give each its own clock under one power limit."""

from __future__ import annotations

from math import log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.draws import generator

PURPOSE_SPEED = 3


def draw_slowness(cv: float, ranks: int, lanes: int, seed: int, draw: int) -> NDArray[np.float64]:
    """(ranks, lanes) time of a kernel on each GPU over its mean time: log-normal, mean 1, coefficient of variation cv."""
    if cv == 0.0:
        return np.ones((ranks, lanes))
    sigma = sqrt(log1p(cv**2))
    normal = generator(seed, draw, PURPOSE_SPEED).standard_normal((ranks, lanes))
    return portable.exp(sigma * normal - sigma**2 / 2)
