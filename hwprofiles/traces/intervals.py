"""Stretches of time as pairs of arrays: joined, and what of one set lies inside another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def joined(start: Floats, end: Floats) -> tuple[Floats, Floats]:
    """Begins and ends, in order, of the time in which any of the stretches lies."""
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    is_new = np.concatenate(([True], start[1:] > reach[:-1]))
    last_of = np.concatenate((np.flatnonzero(is_new)[1:] - 1, [len(start) - 1]))
    return start[is_new], reach[last_of]


def inside(start: Floats, end: Floats, busy: tuple[Floats, Floats]) -> Floats:
    """Seconds of each stretch that lie inside `busy`, which is joined."""
    if not len(busy[0]):
        return np.zeros(len(start))
    return _until(end, busy) - _until(start, busy)


def _until(moment: Floats, busy: tuple[Floats, Floats]) -> Floats:
    """Busy seconds before each moment."""
    whole = np.concatenate(([0.0], np.cumsum(busy[1] - busy[0])))
    place = np.maximum(np.searchsorted(busy[0], moment, side="right") - 1, 0)
    within = np.clip(np.minimum(moment, busy[1][place]) - busy[0][place], 0.0, None)
    return np.asarray(whole[place] + within)
