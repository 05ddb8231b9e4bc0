"""Capacity of experts: rows of one rank's tokens beyond `limit` times the even share of an expert are dropped.

Megatron-LM (core/transformer/moe/moe_utils.py, topk_softmax_with_capacity): each rank keeps, of its own micro-batch's tokens,
at most ceil(tokens * top_k / experts * factor) for each expert, by probability or by position: which of them changes no time.
With padding every expert receives exactly so many from each rank. How much is kept follows from how unevenly one rank's
micro-batch loads single experts: a gamma law of the variance that the simulated router gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from simulator import portable
from simulator.workload.group_law import MAX_SHAPE, MIN_SHAPE, gamma_steps


@dataclass(frozen=True, slots=True)
class Capacity:
    """limit: most rows of an expert over its even share; inf: no row is dropped. kept: share of the rows that remain.

    spread: standard deviation of an expert's rows over what it is without a limit. is_padded: experts run `limit` rows.
    """

    limit: float = inf
    kept: float = 1.0
    spread: float = 1.0
    is_padded: bool = False

    @property
    def rows(self) -> float:
        """Rows that the experts run over those that the tokens chose."""
        return self.limit if self.is_padded else self.kept

    @property
    def relative_spread(self) -> float:
        """Coefficient of variation of loads over what it is without a limit: 0 where all are padded."""
        return 0.0 if self.is_padded else self.spread / self.kept

    def load(self, load: float) -> float:
        """Rows over the even share of a rank that would have `load` without a limit."""
        return min(self.limit, self.rows * (1.0 + (load - 1.0) * self.relative_spread))

    def reached(self, places_per_token: float, top_k: int) -> float:
        """Distinct places of a token that stay, each with top_k / places of its experts, dropped independently."""
        dropped = 0.0 if self.is_padded else 1.0 - self.kept
        return places_per_token * (1.0 - float(dropped ** (top_k / places_per_token)))


UNLIMITED = Capacity()


def capacity_law(limit: float, variance: float, *, is_padded: bool = False) -> Capacity:
    """The capacity where an expert's rows of one rank and micro-batch have this variance over their mean squared."""
    if variance * MAX_SHAPE <= 1.0:
        return Capacity(limit, min(1.0, limit), 1.0 if limit > 1.0 else 0.0, is_padded)
    below, steps, x = gamma_steps(max(1.0 / variance, MIN_SHAPE))
    mass, x = np.concatenate(([below], steps)), np.concatenate(([0.0], x))
    mass = mass / float(mass.sum())
    x = x / portable.dot(mass, x)
    left = np.minimum(x, limit)
    kept = portable.dot(mass, left)
    before, after = portable.dot(mass, x * x) - 1.0, portable.dot(mass, left * left) - kept**2
    return Capacity(limit, kept, sqrt(max(0.0, after) / before), is_padded)
