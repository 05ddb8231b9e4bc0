"""GPUs of one kind differ in speed: leakage and cooling give each its own clock under one power limit.

Every GPU of the job has a speed. Ranks that meet inside a layer run at their slowest member's speed (a tensor-parallel
group), those of an expert group wait for each other at every dispatch, pipeline neighbours at every transfer; expert
groups of one pipeline position do not meet before the step's end. So a column (the same expert group, or replica, of every
pipeline position) runs for itself, and the step ends with the slowest of them, which alone is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.draws import generator

PURPOSE_SPEED = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SpeedGroups:
    """How the ranks of a pipeline position meet.

    columns: expert groups (or replicas) that do not meet in a step; width: lanes of one, which meet in every dispatch;
    lane_ranks: consecutive ranks of a lane. together: consecutive ranks of a tensor-parallel group.
    simulated: columns that are simulated, the slowest ones. A position has columns * width * lane_ranks GPUs.
    """

    columns: int
    width: int
    lane_ranks: int = 1
    together: int = 1
    simulated: int = 1

    @property
    def lanes(self) -> int:
        """Lanes that are simulated."""
        return self.simulated * self.width


@dataclass(frozen=True)
class Slowness:
    """What was drawn of the GPUs. lanes: (pipeline ranks, lanes) time of a kernel on each simulated lane over the mean GPU's,
    of the slowest columns, in their order; columns: which these are.
    """

    lanes: Floats
    columns: NDArray[np.intp]


def draw_slowness(cv: float, ranks: int, groups: SpeedGroups, work: float | Floats, seed: int, draw: int) -> Slowness:
    """How slow the GPUs are. ranks: of the pipeline. work: micro-batches, or of each column as many of mean length as its own
    take.

    A GPU's is log-normal, mean 1, coefficient of variation cv; a lane's that of its slowest GPU.
    """
    if cv == 0.0:
        kept = _slowest_columns(np.zeros((ranks, groups.columns)), groups.simulated, work)
        return Slowness(np.ones((ranks, groups.lanes)), kept)
    sigma = sqrt(log1p(cv**2))
    size = groups.columns * groups.width * groups.lane_ranks
    normal = generator(seed, draw, PURPOSE_SPEED).standard_normal((ranks, size))
    if groups.together > 1:
        slowest = normal.reshape(ranks, -1, groups.together).max(axis=-1)
        normal = np.repeat(slowest, groups.together, axis=-1)
    normal = normal.reshape(ranks, groups.columns, groups.width, groups.lane_ranks).max(axis=-1)
    kept = _slowest_columns(normal.max(axis=-1) * sigma, groups.simulated, work)
    return Slowness(portable.exp(sigma * normal[:, kept].reshape(ranks, groups.lanes) - sigma**2 / 2), kept)


def _slowest_columns(log_slowness: Floats, count: int, work: float | Floats) -> NDArray[np.intp]:
    """Indices, ascending, of the `count` columns whose pipelines take longest. log_slowness: (ranks, columns).

    A pipeline of m micro-batches takes the sum over its ranks and m - 1 times its slowest rank; m of each column is its work.
    """
    columns = log_slowness.shape[1]
    if count >= columns:
        return np.arange(columns)
    slowness = portable.exp(log_slowness)
    seconds = slowness.sum(axis=0) + (work - 1) * slowness.max(axis=0)
    return np.sort(np.argsort(-seconds, kind="stable")[:count])
