"""Array functions that give the same bits on every processor.

numpy's exp, log and power choose an instruction set when a program starts, and their last digit differs from one to the next;
so does a dot product of its linear algebra library. Sums, means, comparisons and the four operations do not differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def exp(values: Floats) -> Floats:
    """e to the power of each value."""
    return _each(math.exp, values)


def log(values: Floats) -> Floats:
    """Natural logarithm of each value (> 0)."""
    return _each(math.log, values)


def power(values: Floats, exponent: int) -> Floats:
    """Each value (>= 0) to a whole power."""
    powers = map(math.pow, values.ravel().tolist(), repeat(float(exponent)))
    return np.fromiter(powers, np.float64, values.size).reshape(values.shape)


def dot(left: Floats, right: Floats) -> float:
    """Sum of the products, rounded once."""
    return math.fsum((left * right).tolist())


def _each(function: Callable[[float], float], values: Floats) -> Floats:
    return np.fromiter(map(function, values.ravel().tolist()), np.float64, values.size).reshape(values.shape)
