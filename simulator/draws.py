"""Counter-based random numbers: the same (seed, draw, purpose) gives the same numbers, whatever ran before or beside it."""

from __future__ import annotations

import numpy as np


def generator(seed: int, draw: int, purpose: int) -> np.random.Generator:
    """A Philox stream of its own for each purpose (a small integer that the caller fixes) of each draw of a seed."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, (draw << 8) | purpose], dtype=np.uint64)))
